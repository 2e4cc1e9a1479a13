import { describe, expect, it } from "vitest";
import { viewCells } from "../src/cells";
import { neutral } from "../src/palette";
import { cellColor, colorOf, fitScale, roundUp } from "../src/scale";
import type { Show } from "../src/traits";
import { FRAME, gridOf, PALETTE, TOKENS } from "./host";

const view = (
	recovery: (layer: number, position: number) => number,
	constructed: [number, number][] = [],
) =>
	viewCells(
		FRAME,
		gridOf(1, recovery, { constructed }),
		new Map(),
		1,
		() => false,
	);

it("rounds limits up to few round numbers", () => {
	expect([0.58, 0.6, 0.61, 1, 1.01, 0.012, 37].map(roundUp)).toEqual([
		0.6, 0.6, 0.8, 1, 1.5, 0.015, 40,
	]);
	expect(roundUp(0)).toBe(0);
});

describe("the limits", () => {
	it("are symmetric about 0, whichever side is larger", () => {
		const scale = fitScale(
			view((layer) => (layer === 1 ? -0.55 : 0.2)),
			"recovery",
			false,
			0,
		);
		expect([scale.left, scale.right]).toEqual([-0.6, 0.6]);
	});

	it("never make a small recovery look large", () => {
		const small = fitScale(
			view(() => 0.01),
			"recovery",
			false,
			0,
		);
		expect(small.right).toBe(0.1);
		expect(fitScale(null, "recovery", false, 0).right).toBe(0.1);
	});

	it("leave out what is 1 by construction", () => {
		const scale = fitScale(
			view(
				(layer) => (layer === 2 ? 1 : 0.3),
				TOKENS.map((_, p) => [2, p]),
			),
			"recovery",
			false,
			0,
		);
		expect(scale.right).toBe(0.3);
	});

	it("turn round for a score that rises with the damage", () => {
		const scale = fitScale(
			view(() => -0.5),
			"indirect_effect",
			true,
			0,
		);
		expect(scale.left).toBeGreaterThan(0);
		expect(colorOf(scale, PALETTE, -0.5)).toBe(PALETTE.diverging[4]);
	});

	it("are kept to where they are fixed, whatever is computed", () => {
		const large = view((layer) => (layer === 1 ? -0.55 : 0.2));
		const ends = (show: Show, falling = false, fixed = 0.05) => {
			const { left, right } = fitScale(large, show, falling, fixed);
			return [left, right];
		};
		expect(ends("recovery")).toEqual([-0.05, 0.05]);
		expect(ends("recovery", false, 3)).toEqual([-3, 3]);
		expect(ends("indirect_effect")).toEqual([-0.05, 0.05]);
		expect(ends("indirect_effect", true)).toEqual([0.05, -0.05]);
		expect(ends("score", false, 3)).toEqual([-3, 3]);
		expect(fitScale(null, "recovery", false, 0.05).right).toBe(0.05);
	});

	it("run from 0 for scores, below 0 where scores are negative", () => {
		const score = fitScale(
			view(() => 0.5),
			"score",
			false,
			0,
		);
		expect([score.left, score.right, score.diverging]).toEqual([0, 0.5, false]);
		const log = fitScale(
			view(() => -2),
			"score",
			false,
			0,
		);
		expect(log.left).toBeLessThan(0);
		expect(log.right).toBe(0);
	});
});

it("gives a cell no colour while unknown, and the neutral one where the quantity is not defined", () => {
	const scale = fitScale(null, "recovery", false, 0);
	const cell = view((layer) => (layer === 0 ? Number.NaN : 0.05)).rows[0];
	const values = cell?.[1]?.values ?? expect.fail();
	const nothing = cell?.[0]?.values ?? expect.fail();
	expect(cellColor(nothing, "recovery", scale, PALETTE)).toBeNull();
	expect(
		cellColor({ ...values, recovery: Number.NaN }, "recovery", scale, PALETTE),
	).toBe(neutral(PALETTE));
});
