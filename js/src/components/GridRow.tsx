// One token's row of cells. What a cell is can be read without its colour: from its mark, its label and its data
// attributes.

import { useMemo } from "preact/hooks";
import { type Cell, shownValue } from "../cells";
import { markOn } from "../colormap";
import { cellLabel } from "../sentence";
import type { Show } from "../traits";

interface Props {
	cells: readonly Cell[];
	tokens: readonly string[];
	position: number;
	show: Show;
	metric: string;
	color: (cell: Cell) => string | null;
	/** The selected layers of this row, with commas between them. */
	selected: string;
	/** The layer that can be tabbed to; −1 for none. */
	focused: number;
}

/** "=" 1 by construction, a dot for what cannot be told from 0, a dash where the shown quantity is not defined. */
function markOf(cell: Cell, value: number): string {
	if (cell.state === "empty" || cell.state === "waiting") return "";
	if (cell.constructed) return "=";
	if (cell.negligible) return "•";
	return Number.isNaN(value) ? "–" : "";
}

function drawRow(props: Props) {
	const { cells, tokens, position, show, metric, color, focused } = props;
	const selected = new Set(props.selected.split(","));
	return (
		<div class="bt-row" role="row">
			<div class="bt-token" role="rowheader" title={tokens[position]}>
				{tokens[position]}
			</div>
			{cells.map((cell) => {
				const value = shownValue(cell.values, show);
				const ground = color(cell);
				const style =
					ground === null
						? undefined
						: { "--bt-fill": ground, color: markOn(ground) };
				return (
					<div
						key={cell.layer}
						class="bt-cell"
						role="gridcell"
						tabIndex={cell.layer === focused ? 0 : -1}
						data-layer={cell.layer}
						data-position={position}
						data-state={cell.state}
						data-value={
							Number.isNaN(value) ? "" : String(Number(value.toFixed(4)))
						}
						aria-selected={selected.has(String(cell.layer))}
						aria-label={cellLabel(cell, tokens, metric, show)}
					>
						<span style={style}>{markOf(cell, value)}</span>
					</div>
				);
			})}
		</div>
	);
}

/** Draws its row only when something in it changed: a grid of image tokens has hundreds of rows. */
export function GridRow(props: Props) {
	return useMemo(() => drawRow(props), Object.values(props));
}
