import { expect, it } from "vitest";
import { neutral, shadeAt } from "../src/palette";
import { colorAt } from "../src/scale";
import { PALETTE } from "./host";

const { diverging, sequential } = PALETTE;

it("takes the nearest of the kernel's steps", () => {
	expect(shadeAt(PALETTE, "diverging", 0)).toBe(diverging[0]);
	expect(shadeAt(PALETTE, "diverging", 0.3)).toBe(diverging[1]);
	expect(shadeAt(PALETTE, "diverging", 1)).toBe(diverging[4]);
	expect(shadeAt(PALETTE, "sequential", 0.3)).toBe(sequential[1]);
});

it("takes the end's colour for what lies outside", () => {
	expect(shadeAt(PALETTE, "diverging", -7)).toBe(diverging[0]);
	expect(shadeAt(PALETTE, "sequential", 7)).toBe(sequential[2]);
});

it("has the colour of 0 in the middle", () => {
	expect(neutral(PALETTE)).toBe(diverging[2]);
});

it("is chosen by whether 0 lies in the middle of the scale", () => {
	const ends = { left: -1, right: 1 };
	expect(colorAt({ ...ends, diverging: true }, PALETTE, 0.5)).toBe(
		diverging[2],
	);
	expect(colorAt({ ...ends, diverging: false }, PALETTE, 0.5)).toBe(
		sequential[1],
	);
});

it("shows nothing while the kernel has sent no colours", () => {
	const none = ["transparent", "currentColor"];
	expect(shadeAt(undefined, "diverging", 0.5)).toEqual(none);
	expect(shadeAt({ diverging: [], sequential: [] }, "diverging", 1)).toEqual(
		none,
	);
	expect(neutral(undefined)).toEqual(none);
});
