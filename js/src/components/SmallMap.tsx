// One of several small maps: its cells as colours with their marks, on the scale that all share. Of heads a grid in which
// one can be chosen with mouse and keys; of a group it is a picture, and the whole is a button.

import { useRef, useState } from "preact/hooks";
import { toFloats } from "../binary";
import { isHeld } from "../keys";
import { move } from "../navigate";
import type { Palette, Panel } from "../protocol";
import { colorOf, type Scale } from "../scale";
import type { CellIndex } from "../traits";

interface Props {
	panel: Panel;
	scale: Scale;
	palette: Palette | undefined;
	/** A value in words. */
	say: (value: number) => string;
	/** What rows and columns are. */
	across: readonly [row: string, column: string];
	chosen: CellIndex | null;
	/** Why nothing can be chosen now, else "". */
	closed: string;
	/** Null if cells are only looked at. */
	onChoose: ((cell: CellIndex) => void) | null;
}

/** The values and whether each differs from 0, row by row; null if there is no map. */
export function valuesOf({ rows, columns, values }: Panel) {
	const floats = toFloats(values);
	const size = rows.length * columns.length;
	return floats !== null && size > 0 && floats.length === 2 * size
		? { values: floats.slice(0, size), significant: floats.slice(size) }
		: null;
}

export function SmallMap(props: Props) {
	const { panel, scale, palette, say, across, chosen, onChoose } = props;
	const { rows, columns } = panel;
	const box = useRef<HTMLSpanElement>(null);
	const [place, setPlace] = useState<CellIndex | null>(null);
	const found = valuesOf(panel);
	if (found === null) return <span class="bt-hatched" />;
	// Tab leads to the chosen head, or to where the keys were last.
	const [atRow, atColumn] = place ?? chosen ?? [0, 0];
	const picture = onChoose === null;

	function step(event: KeyboardEvent): void {
		const at = (event.target as HTMLElement).dataset;
		if (isHeld(event) || at["head"] === undefined) return;
		const [row = 0, column = 0] = at["head"].split(",").map(Number);
		if (event.key === "Enter" || event.key === " ") {
			event.preventDefault();
			if (!event.repeat) onChoose?.([row, column]);
			return;
		}
		const to = move(
			[row, column],
			event.key,
			false,
			rows.length,
			columns.length,
		);
		if (to === null) return;
		event.preventDefault();
		box.current
			?.querySelector<HTMLElement>(
				`[data-head="${Math.max(0, to[0])},${Math.max(0, to[1])}"]`,
			)
			?.focus();
	}

	const cell = (row: number, column: number) => {
		const at = row * columns.length + column;
		const value = found.values[at] ?? Number.NaN;
		const known = Number.isFinite(value);
		const doubtful = known && found.significant[at] !== 1;
		const [fill, mark] = colorOf(scale, palette, known ? value : 0);
		const name = `${across[0]} ${rows[row]}, ${across[1]} ${columns[column]}: ${say(value)}`;
		const more = doubtful ? ", not distinguishable from 0" : "";
		const picked = chosen?.[0] === row && chosen[1] === column;
		return (
			<span
				key={column}
				class="bt-dab"
				style={{ "--bt-fill": fill, color: mark }}
				title={name + more}
				{...(!picture && {
					role: "gridcell",
					"aria-label": name + more,
					"aria-selected": picked,
					"data-head": `${row},${column}`,
					"data-value": known ? String(Number(value.toFixed(4))) : "",
					tabIndex: row === atRow && column === atColumn ? 0 : -1,
					onFocus: () => setPlace([row, column]),
					onClick: () => onChoose([row, column]),
				})}
			>
				{doubtful ? "•" : known ? "" : "–"}
			</span>
		);
	};
	return (
		<span
			ref={box}
			class="bt-small-map"
			style={{ "--bt-columns": columns.length }}
			onKeyDown={picture ? undefined : step}
			{...(picture
				? { "aria-hidden": true }
				: {
						role: "grid",
						"aria-label": `${across[0]}s by ${across[1]}s`,
						"aria-disabled": props.closed !== "",
						"aria-description": props.closed,
					})}
		>
			<span class="bt-dabs bt-label" role={picture ? undefined : "row"}>
				<span role={picture ? undefined : "columnheader"}>{across[0]}</span>
				{columns.map((name, column) => (
					<span key={column} role={picture ? undefined : "columnheader"}>
						{name}
					</span>
				))}
			</span>
			{rows.map((name, row) => (
				<span key={row} class="bt-dabs" role={picture ? undefined : "row"}>
					<span class="bt-label" role={picture ? undefined : "rowheader"}>
						{name}
					</span>
					{columns.map((_, column) => cell(row, column))}
				</span>
			))}
		</span>
	);
}
