import { expect, it } from "vitest";
import { viewCells } from "../src/cells";
import { barStyle, marginalsOf } from "../src/components/Profile";
import type { Scale } from "../src/scale";
import { FRAME, gridOf } from "./host";

const SCALE: Scale = { left: -1, right: 1, diverging: true };

function meansOf(
	value: (layer: number, position: number) => number,
	scale = SCALE,
) {
	const grid = gridOf(3, value);
	const view = viewCells(FRAME, grid, new Map(), 3, () => false);
	return marginalsOf(view, "recovery", scale);
}

it("draws the bars of each side on one scale, the largest no longer than its room", () => {
	const { columns, rows } = meansOf((layer) => 0.2 * layer);
	expect(columns.unit).toBe(0.4);
	expect(columns.bars.map(({ size }) => size)).toEqual([
		0,
		expect.closeTo(35),
		expect.closeTo(70),
	]);
	expect(rows.unit).toBe(0.2);
	expect(rows.bars[0]?.size).toBeCloseTo(70);
});

it("keeps the line of 0 where it is, and room below it", () => {
	const { columns } = meansOf((layer) => (layer === 0 ? -0.6 : 0.1));
	expect(columns.unit).toBe(1.5);
	const [below, above] = columns.bars;
	if (below === undefined || above === undefined) expect.fail();
	expect(below.size).toBeCloseTo(28);
	const style = (bar: typeof below) =>
		barStyle(bar, "height", ["bottom", "top"]);
	expect(Number.parseFloat(style(below)["top"] ?? "")).toBeCloseTo(70);
	expect(Number.parseFloat(style(above)["bottom"] ?? "")).toBeCloseTo(30);
	expect([below.below, above.below]).toEqual([true, false]);
});

it("turns round for a score that rises with the damage", () => {
	const falling = { ...SCALE, left: 1, right: -1 };
	const bar = (value: number) => meansOf(() => value, falling).rows.bars[0];
	expect(bar(-0.5)?.below).toBe(false);
	expect(bar(0.5)?.below).toBe(true);
});

it("has no bar for what is not computed", () => {
	const { rows, columns } = meansOf((_, p) => (p === 2 ? Number.NaN : 0.5));
	expect(rows.bars[2]).toMatchObject({
		mean: Number.NaN,
		size: 0,
		text: "not computed",
	});
	expect(columns.bars[0]?.text).toBe("0.50");
	const none = marginalsOf(null, "recovery", SCALE);
	expect(none.rows).toEqual({ bars: [], unit: 1 });
});
