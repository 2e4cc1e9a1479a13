// One row of cells with its header and its mean. What a cell is can be read without its colour: from its mark, its label
// and its data attributes.

import { useMemo } from "preact/hooks";
import { type Cell, shownValue } from "../cells";
import type { Shade } from "../palette";
import { cellLabel } from "../sentence";
import type { Show } from "../traits";
import type { Words } from "../words";
import { type Bar, barStyle } from "./Profile";

interface Props {
	row: number;
	cells: readonly Cell[];
	tokens: readonly string[];
	label: string;
	byToken: boolean;
	show: Show;
	metric: string;
	words: Words;
	/** For a difference: how the two grids differ. */
	between: string | undefined;
	color: (cell: Cell) => Shade | null;
	/** "1" for each column that is held as a whole, whose lock is in its header. */
	heldColumns: string;
	/** "1" for each selected cell of this row, "0" for the others. */
	selected: string;
	/** The column that can be tabbed to, −1 the header; −2 for none. */
	focused: number;
	mean: Bar | undefined;
	/** How much its token attends to the patch under the pointer, from 0 to 1. */
	attention: number;
}

/** The style of a header whose token attends to the patch under the pointer. */
export function glow(attention: number | undefined) {
	return attention ? { "--bt-attention": attention } : undefined;
}

/** "=" 1 by construction, a dot for not distinguishable from 0, a cross for NaN, a dash for undefined. */
function markOf(cell: Cell, value: number): string {
	if (cell.state === "empty" || cell.state === "waiting") return "";
	if (cell.nan) return "×";
	if (cell.held) return "";
	if (cell.constructed) return "=";
	if (Number.isNaN(value)) return "–";
	return cell.negligible ? "•" : "";
}

function drawRow(props: Props) {
	const { row, cells, tokens, label, byToken, show, metric, color } = props;
	const { mean: bar } = props;
	const name = byToken ? `“${label}”` : `layer ${label}`;
	const held = cells.length > 1 && cells.every((cell) => cell.held);
	const inHeader = (column: number) =>
		held || props.heldColumns[column] === "1";
	return (
		<div class="bt-row" role="row">
			<div
				class="bt-token"
				role="rowheader"
				tabIndex={props.focused === -1 ? 0 : -1}
				data-row={row}
				data-column={-1}
				data-lock={held || undefined}
				aria-label={held ? `${label}, held` : undefined}
				title={`select ${name}; Alt-click holds it`}
				style={glow(props.attention)}
			>
				{label}
			</div>
			{cells.map((cell, column) => {
				const value = shownValue(cell.values, show);
				const ground = color(cell);
				const style =
					ground === null
						? undefined
						: { "--bt-fill": ground[0], color: ground[1] };
				return (
					<div
						key={column}
						class="bt-cell"
						role="gridcell"
						tabIndex={column === props.focused ? 0 : -1}
						data-row={row}
						data-column={column}
						data-layer={cell.layer}
						data-position={cell.position}
						data-state={cell.state}
						data-nan={cell.nan || undefined}
						data-apart={cell.apart || undefined}
						data-truth={cell.truth || undefined}
						data-held={cell.held || undefined}
						data-lock={(cell.held && !inHeader(column)) || undefined}
						data-dead={cell.dead || undefined}
						data-value={
							Number.isNaN(value) ? "" : String(Number(value.toFixed(4)))
						}
						aria-selected={props.selected[column] === "1"}
						aria-label={cellLabel(
							cell,
							tokens,
							metric,
							show,
							props.words,
							props.between,
						)}
					>
						<span style={style}>{markOf(cell, value)}</span>
					</div>
				);
			})}
			<div
				class="bt-mean"
				aria-hidden="true"
				title={bar && `mean of ${name}: ${bar.text}`}
			>
				{bar && Number.isFinite(bar.mean) && (
					<span
						data-below={bar.below}
						style={barStyle(bar, "width", ["left", "right"])}
					/>
				)}
			</div>
		</div>
	);
}

/** Draws its row only when something in it changed: a grid of image tokens has hundreds of rows. */
export function GridRow(props: Props) {
	// Every view makes new mean objects; how they are drawn seldom changes.
	const { mean, ...rest } = props;
	return useMemo(
		() => drawRow(props),
		[...Object.values(rest), mean?.text, mean?.size, mean?.below],
	);
}
