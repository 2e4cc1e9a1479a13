// The picture's patches: which of them lie between two corners, the outline of a set of them, and the values of one.
// Pure functions; a place is (row, column).

import { key } from "./cells";
import { percent, plain } from "./format";
import { between } from "./navigate";
import type { PictureMap } from "./protocol";
import type { CellIndex } from "./traits";

/** A map over the picture, whose values can be read. */
export interface PatchMap
	extends Pick<
		PictureMap,
		| "rows"
		| "columns"
		| "square"
		| "limit"
		| "low"
		| "high"
		| "percent"
		| "unit"
		| "text"
		| "generation"
	> {
	/** (3, rows, columns): value, margin, significant. */
	readonly floats: ArrayLike<number>;
}

/** The edges around a set of patches as an SVG path, a patch being a unit square. */
export function outline(places: readonly CellIndex[]): string {
	const inside = new Set(places.map(([r, c]) => key(r, c)));
	const edge = (r: number, c: number, path: string) =>
		inside.has(key(r, c)) ? "" : path;
	return places
		.map(
			([r, c]) =>
				edge(r - 1, c, `M${c} ${r}h1`) +
				edge(r + 1, c, `M${c} ${r + 1}h1`) +
				edge(r, c - 1, `M${c} ${r}v1`) +
				edge(r, c + 1, `M${c + 1} ${r}v1`),
		)
		.join("");
}

type Size = readonly [rows: number, columns: number];

/** The patches that a column of the image encoder's grid stands for: a square of them; none is the class token, 0. */
export function patchesOf(at: number, side: number, size: Size): CellIndex[] {
	const across = Math.ceil(size[1] / side);
	const first = [
		Math.floor((at - 1) / across) * side,
		((at - 1) % across) * side,
	];
	const [top = 0, left = 0] = first;
	if (at < 1) return [];
	return between(
		[top, left],
		[Math.min(top + side, size[0]) - 1, Math.min(left + side, size[1]) - 1],
	);
}

/** The column that a patch is in. */
export function columnOf([row, column]: CellIndex, side: number, size: Size) {
	const across = Math.ceil(size[1] / side);
	return 1 + Math.floor(row / side) * across + Math.floor(column / side);
}

/** The patches of a mask that are marked. */
export function placesIn(
	mask: readonly (readonly boolean[])[] | null,
): CellIndex[] {
	return (mask ?? []).flatMap((row, r) =>
		row.flatMap((marked, c) => (marked ? [[r, c] as const] : [])),
	);
}

/** Value, margin and mark of the square that a patch lies in. */
function valuesAt(map: PatchMap, [row, column]: CellIndex): number[] {
	const { rows, columns, square, floats } = map;
	const at = Math.floor(row / square) * columns + Math.floor(column / square);
	return [0, 1, 2].map((field) => floats[field * rows * columns + at] ?? NaN);
}

/** The value of a map at a patch, in words; "" if there is none. */
export function valueText(map: PatchMap | null, place: CellIndex): string {
	const [value = NaN, error = NaN, significant] = map
		? valuesAt(map, place)
		: [];
	if (map === null || Number.isNaN(value)) return "";
	const number = (map.percent ? percent : plain)(
		value,
		Number.isNaN(error) ? null : error,
	);
	const doubt = significant === 0 ? ", not distinguishable from 0" : "";
	return `${number} ${map.unit}${doubt}`;
}

/** The centres of the squares whose value is not distinguishable from 0. */
export function doubtful(map: PatchMap | null): CellIndex[] {
	if (map === null) return [];
	const { rows, columns, square, floats } = map;
	const squares = Array.from({ length: rows * columns }, (_, at) => at);
	return squares
		.filter((at) => floats[2 * rows * columns + at] === 0)
		.map((at) => [
			(Math.floor(at / columns) + 0.5) * square,
			((at % columns) + 0.5) * square,
		]);
}

/** Draw a map, one pixel per square: more opaque for larger values, transparent for 0, a veil if not computed. */
export function drawMap(
	canvas: HTMLCanvasElement,
	{ rows, columns, limit, floats }: PatchMap,
	[minus, plus, veil]: readonly string[],
): void {
	canvas.width = columns;
	canvas.height = rows;
	const context = canvas.getContext("2d");
	if (context === null) return;
	for (let at = 0; at < rows * columns; at++) {
		const value = floats[at] ?? NaN;
		const unknown = Number.isNaN(value);
		context.fillStyle = (unknown ? veil : value < 0 ? minus : plus) ?? "";
		context.globalAlpha = unknown
			? 0.5
			: Math.min(1, Math.abs(value) / (limit || 1));
		context.fillRect(at % columns, Math.floor(at / columns), 1, 1);
	}
}
