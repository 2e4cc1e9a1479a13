import { describe, expect, it } from "vitest";
import { toFloats } from "../src/binary";
import {
	type Fresh,
	isNegligible,
	layerMeans,
	NOTHING,
	viewCells,
} from "../src/cells";
import { gridOf, LAYERS, TOKENS, unaligned } from "./host";

const FRAME = {
	block: "question_encoder",
	site: "block_output",
	layers: LAYERS,
	tokens: TOKENS,
};
const NONE: Fresh = new Map();
const nobody = () => false;

function arrived(generation: number, recovery: number, more = {}): Fresh {
	const values = { ...NOTHING, score: 0.5, recovery };
	return new Map([
		[
			"1,2",
			{ generation, block: FRAME.block, site: FRAME.site, values, ...more },
		],
	]);
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
		expect(view.rows[2]?.[1]?.values.recoveryStderr).toBeCloseTo(0.03);
		expect(view.rows[2]?.[1]?.state).toBe("value");
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

	it("leaves out cells and traits of another site, block or shape", () => {
		const other = arrived(4, 0.7, { site: "mlp" });
		const view = viewCells(FRAME, null, other, 4, nobody);
		expect(view.rows[2]?.[1]?.state).toBe("empty");
		for (const change of [{ site: "mlp" }, { block: "x" }, { layers: 2 }]) {
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

	it("averages what is computed, layer by layer", () => {
		const means = layerMeans(
			viewCells(FRAME, grid, NONE, 3, nobody),
			"recovery",
		);
		expect(means[0]).toBeCloseTo(0.1);
		expect(means[2]).toBeCloseTo(2.1);
		const none = layerMeans(viewCells(FRAME, null, NONE, 3, nobody), "score");
		expect(none).toEqual([Number.NaN, Number.NaN, Number.NaN]);
	});
});

it("takes an effect within two standard errors for none, if there is a standard error", () => {
	expect(isNegligible(0.04, 0.02)).toBe(true);
	expect(isNegligible(-0.04, 0.02)).toBe(true);
	expect(isNegligible(0.041, 0.02)).toBe(false);
	expect(isNegligible(0.01, Number.NaN)).toBe(false);
	expect(isNegligible(0.01, 0)).toBe(false);
	expect(isNegligible(0, Number.NaN)).toBe(true);
});
