// Moving about the grid by keyboard, and the set of cells between two corners.

import type { CellIndex } from "./traits";

export interface Extent {
	readonly layers: number;
	readonly positions: number;
}

/** Where a key leads from a cell; null where the key does not move. Layers run sideways, positions downwards. */
export function move(
	[layer, position]: CellIndex,
	key: string,
	control: boolean,
	{ layers, positions }: Extent,
): CellIndex | null {
	const last = layers - 1;
	const bottom = positions - 1;
	switch (key) {
		case "ArrowLeft":
			return [Math.max(0, layer - 1), position];
		case "ArrowRight":
			return [Math.min(last, layer + 1), position];
		case "ArrowUp":
			return [layer, Math.max(0, position - 1)];
		case "ArrowDown":
			return [layer, Math.min(bottom, position + 1)];
		case "Home":
			return [0, control ? 0 : position];
		case "End":
			return [last, control ? bottom : position];
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

export function clamp([l, p]: CellIndex, extent: Extent): CellIndex {
	return [
		Math.max(0, Math.min(l, extent.layers - 1)),
		Math.max(0, Math.min(p, extent.positions - 1)),
	];
}
