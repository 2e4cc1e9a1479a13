// The cells of the grid in view: what the `grid` trait holds, overlaid with single cells that have arrived since.
// Pure functions; which cell is old is decided by its generation alone.

import { toFloats } from "./binary";
import {
	CELL_FIELDS,
	DIFFERENCE_FIELDS,
	type Grid,
	type GridDifference,
	type GridOf,
} from "./protocol";
import type { Axes, CellIndex, Show } from "./traits";

export type CellState = "empty" | "waiting" | "value" | "old";

/** The values of one cell, by the kernel's names; NaN = not computed, or undefined. */
export type CellValues = Readonly<
	Record<(typeof CELL_FIELDS)[number], number> & {
		/** Of a difference. */
		score_margin?: number;
	}
>;

/** Which states are patched, and how: values of another grid mean something else. */
export type ViewOf = { readonly [K in keyof GridOf]: GridOf[K] };

const VIEW = [
	"block",
	"site",
	"head",
	"direction",
	"window",
	"patch",
	"hold",
	"receivers",
	"through",
] as const satisfies readonly (keyof ViewOf)[];

/** The same text for the same grid; what is missing holds nothing. */
const known = new WeakMap<ViewOf, string>();
function named(of: ViewOf): string {
	let name = known.get(of);
	if (name === undefined) {
		const empty = { hold: [], receivers: null, through: [] };
		const whole: ViewOf = { ...empty, ...of };
		name = JSON.stringify(VIEW.map((field) => whole[field]));
		known.set(of, name);
	}
	return name;
}

export function sameView(a: ViewOf, b: ViewOf): boolean {
	return a === b || named(a) === named(b);
}

/** The fields of another object that say which grid is in view. */
export function viewOf(of: ViewOf): ViewOf {
	const fields = VIEW.map((name) => [name, of[name]]);
	return Object.fromEntries(fields) as ViewOf;
}

/** Names of the columns of a grid: tokens, or squares of image tokens by the "row,column" of their patches. */
export function columnNames(
	tokens: readonly string[],
	patch: number,
	[rows, columns]: readonly [number, number],
): readonly string[] {
	if (patch <= 1) return tokens;
	const spans = (count: number) =>
		Array.from({ length: Math.ceil(count / patch) }, (_, at) => {
			const [first, last] = [at * patch, Math.min((at + 1) * patch, count) - 1];
			return first === last ? `${first}` : `${first}-${last}`;
		});
	const across = spans(columns);
	const names = spans(rows).flatMap((r) => across.map((c) => `${r},${c}`));
	return [...tokens.slice(0, 1), ...names];
}

export interface FreshCell {
	readonly generation: number;
	/** Where it came from. */
	readonly of: ViewOf;
	readonly values: CellValues;
}

/** Cells beside the trait, by `key`: those that arrived as messages, and older ones that the trait no longer holds. */
export type Fresh = ReadonlyMap<string, FreshCell>;

export interface Cell {
	readonly layer: number;
	readonly position: number;
	readonly state: CellState;
	readonly values: CellValues;
	/** Not distinguishable from 0. */
	readonly negligible: boolean;
	/** 1 by construction. */
	readonly constructed: boolean;
	/** Computed, but its score is NaN. */
	readonly nan: boolean;
	/** The grid that is kept, under another corruption, says otherwise. */
	readonly apart: boolean;
	/** A true state of a known circuit, where these are shown. */
	readonly truth: boolean;
	/** It is held while others are patched. */
	readonly held: boolean;
	/** 0 by construction. */
	readonly dead: boolean;
}

/** Which grid is in view, known before any of its values are. */
export interface GridFrame extends ViewOf {
	readonly layers: number;
	readonly tokens: readonly string[];
	readonly axes: Axes;
}

export interface GridView extends GridFrame {
	/** For a difference: how the two grids differ. */
	readonly between?: string;
	/** What there is to know of all cells. */
	readonly notes: readonly string[];
	/** What is held, and as what, in words; "" for nothing. */
	readonly phrase: string;
	readonly kept: string;
	/** Where its paths lead, in words; "" for none. */
	readonly into: string;
	/** As on screen: by position, then layer, or the other way round. */
	readonly rows: readonly (readonly Cell[])[];
}

/** One cell of the grid, wherever it is on screen. */
export function cellOf(view: GridView, [layer, position]: CellIndex) {
	return view.axes === "tokens"
		? view.rows[position]?.[layer]
		: view.rows[layer]?.[position];
}

export function key(layer: number, position: number): string {
	return `${layer},${position}`;
}

const keys = (cells?: readonly CellIndex[]) =>
	new Set(cells?.map(([layer, position]) => key(layer, position)));

function readFields<T extends string>(
	names: readonly T[],
	floats: ArrayLike<number>,
	count: number,
	index: number,
): Record<T, number> {
	const values = names.map((name, field) => [
		name,
		floats[field * count + index] ?? Number.NaN,
	]);
	return Object.fromEntries(values);
}

/** One cell of a float32 array (fields, count): the layout of both the trait and the messages. */
export const readCell = (
	floats: ArrayLike<number>,
	count: number,
	index: number,
): CellValues => readFields(CELL_FIELDS, floats, count, index);

/** The values of a cell that is not computed. */
export const NOTHING = readCell([], 0, 0);

/** Whether the trait holds the grid in view, in the right shape. */
export function fits(
	grid: Grid | null,
	frame: Omit<GridFrame, "axes">,
): grid is Grid {
	return (
		grid !== null &&
		sameView(grid, frame) &&
		grid.layers === frame.layers &&
		grid.tokens.length === frame.tokens.length
	);
}

export function viewCells(
	frame: GridFrame,
	grid: Grid | null,
	fresh: Fresh,
	due: number,
	isWaiting: (layer: number, position: number) => boolean,
	disagreed: readonly CellIndex[] = [],
	truthful = false,
	held: ReadonlySet<string> = new Set(),
): GridView {
	const { layers, tokens } = frame;
	const count = layers * tokens.length;
	const trait = fits(grid, frame) ? grid : null;
	const floats = trait && toFloats(trait.values);
	const usable = floats?.length === count * CELL_FIELDS.length ? floats : null;
	const constructed = keys(trait?.constructed);
	const nan = keys(trait?.nan);
	const apart = keys(disagreed);
	const truth = keys(truthful ? trait?.truth : []);
	const dead = keys(trait?.dead);

	const cell = (layer: number, position: number): Cell => {
		let values = usable
			? readCell(usable, count, layer * tokens.length + position)
			: NOTHING;
		let born = trait?.generation ?? -1;
		let known =
			usable !== null &&
			(!Number.isNaN(values.score) || nan.has(key(layer, position)));
		const arrived = fresh.get(key(layer, position));
		if (
			arrived !== undefined &&
			sameView(arrived.of, frame) &&
			(arrived.generation > born || !known)
		) {
			values = arrived.values;
			born = arrived.generation;
			known = true;
		}
		let state: CellState = "value";
		if (!known) state = isWaiting(layer, position) ? "waiting" : "empty";
		else if (born < due) state = "old";
		return {
			layer,
			position,
			state,
			values,
			negligible: known && values.significant === 0,
			constructed: constructed.has(key(layer, position)),
			nan: known && Number.isNaN(values.score),
			apart: apart.has(key(layer, position)),
			truth: truth.has(key(layer, position)),
			held: held.has(key(layer, position)),
			dead: known && dead.has(key(layer, position)),
		};
	};

	const range = (length: number) => Array.from({ length }, (_, i) => i);
	const byToken = frame.axes === "tokens";
	return {
		...frame,
		notes: trait && trait.generation >= due ? trait.notes : [],
		phrase: trait?.held ?? "",
		kept: trait?.kept ?? "",
		into: trait?.into ?? "",
		rows: range(byToken ? tokens.length : layers).map((row) =>
			range(byToken ? layers : tokens.length).map((column) =>
				byToken ? cell(column, row) : cell(row, column),
			),
		),
	};
}

/** The grid with its difference from the kept one instead of its values; null if the two cannot be compared. */
export function differenceOf(
	view: GridView,
	difference: GridDifference,
	show: Show,
	due: number,
): GridView | null {
	const count = view.layers * view.tokens.length;
	const floats = toFloats(difference.values);
	if (floats?.length !== count * DIFFERENCE_FIELDS.length) return null;
	const test =
		show === "indirect_effect"
			? "significant"
			: (`${show}_significant` as const);
	const cell = (plain: Cell): Cell => {
		const { layer, position, nan, apart, truth, held } = plain;
		const index = layer * view.tokens.length + position;
		const values = readFields(DIFFERENCE_FIELDS, floats, count, index);
		let state: CellState = plain.state === "waiting" ? "waiting" : "empty";
		if (nan || !Number.isNaN(values.score))
			state = difference.generation < due ? "old" : "value";
		return {
			layer,
			position,
			state,
			values,
			negligible: values[test] === 0,
			constructed: false,
			nan,
			apart,
			truth,
			held,
			dead: false,
		};
	};
	return {
		...view,
		between: difference.text,
		notes: [],
		rows: view.rows.map((row) => row.map(cell)),
	};
}

/** The cells beside a new trait: values of the older one stay, marked as old, until they are replaced cell by cell. */
export function carryOver(
	fresh: Fresh,
	before: Grid | null,
	after: Grid | null,
): Fresh {
	if (after === null) return new Map();
	if (before === null || !fits(before, after)) return fresh;
	if (before.generation >= after.generation) return fresh;
	const { generation } = before;
	const count = before.layers * before.tokens.length;
	const floats = toFloats(before.values) ?? new Float32Array();
	const carried = new Map(fresh);
	const nan = keys(before.nan);
	for (let index = 0; index < count; index++) {
		const values = readCell(floats, count, index);
		const layer = Math.floor(index / before.tokens.length);
		const name = key(layer, index % before.tokens.length);
		const newer = (carried.get(name)?.generation ?? -1) > generation;
		if (!newer && (!Number.isNaN(values.score) || nan.has(name)))
			carried.set(name, { generation, of: before, values });
	}
	return carried;
}

function sameCell(a: Cell, b: Cell | undefined): boolean {
	return (
		a.state === b?.state &&
		a.constructed === b.constructed &&
		a.negligible === b.negligible &&
		a.apart === b.apart &&
		a.truth === b.truth &&
		a.held === b.held &&
		a.dead === b.dead &&
		CELL_FIELDS.every((name) => Object.is(a.values[name], b.values[name]))
	);
}

/** The same view, reusing unchanged rows of the previous one so that they need not be drawn again. */
export function reuseRows(view: GridView, previous: GridView | null): GridView {
	const rows = view.rows.map((row, index) => {
		const before =
			previous?.axes === view.axes ? previous.rows[index] : undefined;
		const same =
			before?.length === row.length &&
			row.every((cell, column) => sameCell(cell, before[column]));
		return same ? before : row;
	});
	return { ...view, rows };
}

/** The quantity that the grid's colour shows. */
export function shownValue(values: CellValues, show: Show): number {
	return values[show];
}

/** The means of the shown quantity over the computed cells of each row and column on screen; NaN if there are none. */
export function meansOf(view: GridView | null, show: Show) {
	const rows = view?.rows ?? [];
	const mean = (cells: readonly (Cell | undefined)[]) => {
		const known = cells
			.map((cell) => (cell ? shownValue(cell.values, show) : Number.NaN))
			.filter(Number.isFinite);
		return known.reduce((sum, value) => sum + value, 0) / known.length;
	};
	return {
		rows: rows.map(mean),
		columns: (rows[0] ?? []).map((_, column) =>
			mean(rows.map((row) => row[column])),
		),
	};
}

export function sameCells(
	a: readonly CellIndex[],
	b: readonly CellIndex[],
): boolean {
	if (a.length !== b.length) return false;
	const known = keys(a);
	return b.every(([l, p]) => known.has(key(l, p)));
}
