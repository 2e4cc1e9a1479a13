// Moving about the grid by keyboard, and the set of cells between two corners. Places are (row, column) on screen; row −1
// holds the columns' headers, column −1 the rows'.

import { key } from "./cells";
import type { CellIndex } from "./traits";

export type Place = readonly [row: number, column: number];

/** The place that a key leads to; null if the key does not move. */
export function move(
	[row, column]: Place,
	key: string,
	control: boolean,
	rows: number,
	columns: number,
): Place | null {
	const right = columns - 1;
	const bottom = rows - 1;
	// The corner above the rows' headers is empty.
	const first = row < 0 ? 0 : -1;
	const top = column < 0 ? 0 : -1;
	// With Ctrl or Cmd the arrows are the host's.
	if (control && key.startsWith("Arrow")) return null;
	switch (key) {
		case "ArrowLeft":
			return [row, Math.max(first, column - 1)];
		case "ArrowRight":
			return [row, Math.min(right, column + 1)];
		case "ArrowUp":
			return [Math.max(top, row - 1), column];
		case "ArrowDown":
			return [Math.min(bottom, row + 1), column];
		case "Home":
			return [control ? 0 : row, 0];
		case "End":
			return [control ? bottom : row, right];
		default:
			return null;
	}
}

/** All cells of the rectangle between two corners, layer by layer. */
export function between(a: CellIndex, b: CellIndex): CellIndex[] {
	const cells: CellIndex[] = [];
	for (let l = Math.min(a[0], b[0]); l <= Math.max(a[0], b[0]); l++)
		for (let p = Math.min(a[1], b[1]); p <= Math.max(a[1], b[1]); p++)
			cells.push([l, p]);
	return cells;
}

export function clamp([row, column]: Place, rows: number, columns: number) {
	return [
		Math.max(-1, Math.min(row, rows - 1)),
		Math.max(-1, Math.min(column, columns - 1)),
	] as const;
}

/** A set with some places added, or removed if it already has all of them. */
export function joined(
	set: readonly CellIndex[],
	more: readonly CellIndex[],
): readonly CellIndex[] {
	const names = new Set(more.map(([a, b]) => key(a, b)));
	const rest = set.filter(([a, b]) => !names.has(key(a, b)));
	return rest.length + more.length === set.length ? rest : [...rest, ...more];
}
