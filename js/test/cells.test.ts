import { describe, expect, it } from "vitest";
import { toFloats } from "../src/binary";
import {
	type Cell,
	type CellValues,
	carryOver,
	cellOf,
	type Fresh,
	type GridFrame,
	key,
	meansOf,
	NOTHING,
	reuseRows,
	type ViewOf,
	viewCells,
} from "../src/cells";
import { FRAME, gridOf, LAYERS, TOKENS, unaligned } from "./host";

const TURNED: GridFrame = { ...FRAME, axes: "layers" };
const NONE: Fresh = new Map();
const nobody = () => false;

function arrived(
	generation: number,
	recovery: number,
	more: Partial<ViewOf> = {},
	also: Partial<CellValues> = {},
): Fresh {
	const values = { ...NOTHING, score: 0.5, recovery, ...also };
	return new Map([["1,2", { generation, of: { ...FRAME, ...more }, values }]]);
}

describe("floats", () => {
	it("are read from a view that starts anywhere", () => {
		const view = unaligned([1.5, Number.NaN, -2]);
		expect(view.byteOffset % 4).not.toBe(0);
		expect([...(toFloats(view) ?? [])]).toEqual([1.5, Number.NaN, -2]);
	});

	it("are none where the length does not fit", () => {
		expect(toFloats(new DataView(new ArrayBuffer(7)))).toBeNull();
		expect(toFloats("text")).toBeNull();
		expect(toFloats(undefined)).toBeNull();
	});
});

describe("the grid in view", () => {
	const grid = gridOf(3, (l, p) => (p === 3 ? Number.NaN : l + p / 10));

	it("has a row for each token and a column for each layer", () => {
		const view = viewCells(FRAME, grid, NONE, 3, nobody);
		expect(view.rows).toHaveLength(TOKENS.length);
		expect(view.rows[2]?.[1]?.values.recovery).toBeCloseTo(1.2);
		expect(view.rows[2]?.[1]?.values.recovery_margin).toBeCloseTo(0.03);
		expect(view.rows[2]?.[1]?.state).toBe("value");
	});

	it("tells a score that is no number from a cell that is not computed", () => {
		const told = { ...grid, nan: [[0, 3] as [number, number]] };
		const view = viewCells(FRAME, told, NONE, 4, () => true);
		expect(view.rows[3]?.[0]).toMatchObject({ state: "old", nan: true });
		expect(view.rows[3]?.[1]).toMatchObject({ state: "waiting", nan: false });
		const single = arrived(4, Number.NaN, {}, { score: Number.NaN });
		const seen = viewCells(FRAME, grid, single, 4, nobody);
		expect(seen.rows[2]?.[1]).toMatchObject({ state: "value", nan: true });
		const after = gridOf(4, () => Number.NaN);
		const carried = carryOver(NONE, told, after);
		expect(carried.get("0,3")?.generation).toBe(3);
		expect(carried.has("1,3")).toBe(false);
	});

	it("tells empty from waiting cells", () => {
		const view = viewCells(FRAME, grid, NONE, 3, (layer) => layer === 1);
		expect(view.rows[3]?.[0]?.state).toBe("empty");
		expect(view.rows[3]?.[1]?.state).toBe("waiting");
		expect(view.rows[2]?.[1]?.state).toBe("value");
	});

	it("marks values of an older generation", () => {
		const view = viewCells(FRAME, grid, NONE, 4, nobody);
		expect(view.rows[0]?.[0]?.state).toBe("old");
		expect(view.rows[3]?.[0]?.state).toBe("empty");
	});

	it("puts newer cells over the trait, one by one", () => {
		const view = viewCells(FRAME, grid, arrived(4, 0.7), 4, nobody);
		expect(view.rows[2]?.[1]?.values.recovery).toBe(0.7);
		expect(view.rows[2]?.[1]?.state).toBe("value");
		expect(view.rows[2]?.[0]?.state).toBe("old");
	});

	it("does not let an older or equally old cell cover a known value", () => {
		for (const generation of [2, 3]) {
			const view = viewCells(FRAME, grid, arrived(generation, 9), 3, nobody);
			expect(view.rows[2]?.[1]?.values.recovery).toBeCloseTo(1.2);
		}
	});

	it("leaves out cells and traits of another view or shape", () => {
		const others = [{ site: "mlp" }, { block: "x" }, { head: 1 }];
		const ways = [{ direction: "disrupt" }, { window: 3 }];
		for (const change of [...others, ...ways]) {
			const other = arrived(4, 0.7, change);
			const view = viewCells(FRAME, null, other, 4, nobody);
			expect(view.rows[2]?.[1]?.state).toBe("empty");
		}
		for (const change of [
			{ site: "mlp" },
			{ block: "x" },
			{ head: 0 },
			{ layers: 2 },
			...ways,
		]) {
			const wrong = gridOf(3, () => 1, change);
			const empty = viewCells(FRAME, wrong, NONE, 3, nobody);
			expect(empty.rows[0]?.[0]?.state).toBe("empty");
		}
	});

	it("is empty where the bytes do not fit the shape", () => {
		const broken = gridOf(3, () => 1, { values: unaligned([1, 2, 3]) });
		const view = viewCells(FRAME, broken, NONE, 3, nobody);
		expect(view.rows[0]?.[0]?.state).toBe("empty");
	});

	it("takes cells and traits of the head in view", () => {
		const frame = { ...FRAME, head: 1 };
		const own = gridOf(3, () => 0.3, { head: 1 });
		const view = viewCells(frame, own, NONE, 3, nobody);
		expect(view.rows[2]?.[1]?.values.recovery).toBeCloseTo(0.3);
		const newer = arrived(4, 0.7, { head: 1 });
		const after = viewCells(frame, own, newer, 4, nobody);
		expect(after.rows[2]?.[1]?.values.recovery).toBe(0.7);
	});

	it("can have a row for each layer and a column for each token", () => {
		const view = viewCells(TURNED, grid, NONE, 3, nobody);
		expect(view.rows).toHaveLength(LAYERS);
		expect(view.rows[1]).toHaveLength(TOKENS.length);
		expect(view.rows[1]?.[2]).toMatchObject({ layer: 1, position: 2 });
		expect(view.rows[1]?.[2]?.values.recovery).toBeCloseTo(1.2);
	});

	it.each([FRAME, TURNED])("finds a cell with $axes as rows", (frame) => {
		const view = viewCells(frame, grid, NONE, 3, nobody);
		expect(cellOf(view, [1, 2])).toMatchObject({ layer: 1, position: 2 });
		expect(cellOf(view, [2, 3])).toMatchObject({ layer: 2, position: 3 });
		expect(cellOf(view, [3, 0])).toBeUndefined();
		expect(cellOf(view, [0, 4])).toBeUndefined();
	});

	it("averages what is computed, row by row and column by column", () => {
		const { rows, columns } = meansOf(
			viewCells(FRAME, grid, NONE, 3, nobody),
			"recovery",
		);
		expect(rows.map((mean) => Number(mean.toFixed(4)))).toEqual([
			1,
			1.1,
			1.2,
			Number.NaN,
		]);
		expect(columns.map((mean) => Number(mean.toFixed(4)))).toEqual([
			0.1, 1.1, 2.1,
		]);
		const turned = meansOf(
			viewCells(TURNED, grid, NONE, 3, nobody),
			"recovery",
		);
		expect(turned).toEqual({ rows: columns, columns: rows });
		const none = meansOf(viewCells(FRAME, null, NONE, 3, nobody), "score");
		expect(none.columns).toEqual([Number.NaN, Number.NaN, Number.NaN]);
		expect(meansOf(null, "score")).toEqual({ rows: [], columns: [] });
	});

	it("takes from the kernel what cannot be told from 0", () => {
		const negligible = (significant: number, indirect_effect: number) => {
			const fresh = arrived(4, 0.7, {}, { significant, indirect_effect });
			const view = viewCells(FRAME, null, fresh, 4, nobody);
			return (cellOf(view, [1, 2]) as Cell).negligible;
		};
		expect(negligible(0, 0.4)).toBe(true);
		expect(negligible(1, 0.001)).toBe(false);
		expect(negligible(Number.NaN, 0.001)).toBe(false);
		expect(negligible(Number.NaN, 0)).toBe(false);
		const empty = viewCells(FRAME, null, NONE, 4, nobody);
		expect(cellOf(empty, [1, 2])?.negligible).toBe(false);
	});
});

describe("rows", () => {
	const grid = gridOf(3, () => 0.5);
	const view = (frame: GridFrame, fresh = NONE) =>
		viewCells(frame, grid, fresh, 3, nobody);

	it("are used again where nothing in them changed", () => {
		const before = view(FRAME);
		const after = reuseRows(view(FRAME, arrived(4, 0.9)), before);
		expect(after.rows[0]).toBe(before.rows[0]);
		expect(after.rows[2]).not.toBe(before.rows[2]);
		expect(after.rows[2]?.[1]?.values.recovery).toBe(0.9);
	});

	it("are not used again when the axes are turned round", () => {
		// As many layers as tokens: nothing but the place of a cell tells the two apart.
		const tokens = TOKENS.slice(0, LAYERS);
		const square = { ...FRAME, tokens };
		const before = viewCells(square, null, NONE, 3, nobody);
		const turned = viewCells(
			{ ...square, axes: "layers" },
			null,
			NONE,
			3,
			nobody,
		);
		const { rows } = reuseRows(turned, before);
		expect(rows[2]?.[1]).toMatchObject({ layer: 2, position: 1 });
	});
});

it("keeps with their head the values that a newer trait does not hold yet", () => {
	const before = gridOf(3, () => 0.5, { head: 2 });
	const empty = (head: number) => gridOf(4, () => Number.NaN, { head });
	const carried = carryOver(NONE, before, empty(2));
	expect(carried.get(key(1, 2))).toMatchObject({
		generation: 3,
		of: { head: 2 },
	});
	expect(carryOver(NONE, before, empty(1)).size).toBe(0);
});
