import { describe, expect, it } from "vitest";
import {
	contrast,
	diverging,
	fromOklab,
	markOn,
	neutral,
	parseHex,
	type Rgb,
	sequential,
	type Theme,
	toHex,
	toLinear,
	toOklab,
} from "../src/colormap";

const THEMES: Theme[] = ["light", "dark"];
const STEPS = Array.from({ length: 11 }, (_, index) => index / 10);

// Machado, Oliveira & Fernandes (2009), severity 1, on linear RGB.
const DEFICIENCIES: Record<string, number[][]> = {
	protanopia: [
		[0.152286, 1.052583, -0.204868],
		[0.114503, 0.786281, 0.099216],
		[-0.003882, -0.048116, 1.051998],
	],
	deuteranopia: [
		[0.367322, 0.860646, -0.227968],
		[0.280085, 0.672501, 0.047413],
		[-0.01182, 0.04294, 0.968881],
	],
	tritanopia: [
		[1.255528, -0.076749, -0.178779],
		[-0.078411, 0.930809, 0.147602],
		[0.004733, 0.691367, 0.3039],
	],
};

function asSeenWith(matrix: number[][], hex: string): Rgb {
	const linear = parseHex(hex).map(toLinear);
	return matrix.map((row) => {
		const part = row.reduce((sum, w, i) => sum + w * (linear[i] ?? 0), 0);
		const clipped = Math.min(1, Math.max(0, part));
		return clipped <= 0.0031308
			? 12.92 * clipped
			: 1.055 * clipped ** (1 / 2.4) - 0.055;
	}) as unknown as Rgb;
}

function distance(a: Rgb, b: Rgb): number {
	const [p, q] = [toOklab(a), toOklab(b)];
	return Math.hypot(p[0] - q[0], p[1] - q[1], p[2] - q[2]);
}

const lightness = (hex: string) => toOklab(parseHex(hex))[0];

describe.each(THEMES)("the diverging scale in the %s theme", (theme) => {
	it("is the background at 0", () => {
		expect(diverging(theme, 0)).toBe(neutral(theme));
		expect(sequential(theme, 0)).toBe(neutral(theme));
		expect(lightness(neutral(theme))).toSatisfy((l: number) =>
			theme === "light" ? l > 0.95 : l < 0.3,
		);
	});

	it.each([1, -1])("has even steps of lightness on side %i", (side) => {
		const values = STEPS.map((t) => lightness(diverging(theme, side * t)));
		const steps = values.slice(1).map((v, i) => Math.abs(v - (values[i] ?? 0)));
		expect(Math.max(...steps) - Math.min(...steps)).toBeLessThan(0.012);
		expect(Math.min(...steps)).toBeGreaterThan(0.04);
	});

	it("is symmetric in lightness", () => {
		for (const t of STEPS)
			expect(
				Math.abs(
					lightness(diverging(theme, t)) - lightness(diverging(theme, -t)),
				),
			).toBeLessThan(0.01);
	});

	it("is purple where it restores and orange where it hurts", () => {
		const [red, green, blue] = parseHex(diverging(theme, 0.7));
		expect(blue).toBeGreaterThan(red);
		expect(red).toBeGreaterThan(green);
		const [r, g, b] = parseHex(diverging(theme, -0.7));
		expect(r).toBeGreaterThan(g);
		expect(g).toBeGreaterThan(b);
	});

	it.each(Object.keys(DEFICIENCIES))(
		"keeps its sides apart under %s",
		(name) => {
			const matrix = DEFICIENCIES[name] ?? [];
			const apart = (t: number) =>
				distance(
					asSeenWith(matrix, diverging(theme, t)),
					asSeenWith(matrix, diverging(theme, -t)),
				);
			expect(apart(1)).toBeGreaterThan(0.1);
			expect(apart(0.5)).toBeGreaterThan(0.06);
			expect(apart(0.25)).toBeGreaterThan(0.03);
		},
	);

	it("clips what lies outside its limits", () => {
		expect(diverging(theme, 7)).toBe(diverging(theme, 1));
		expect(diverging(theme, -7)).toBe(diverging(theme, -1));
	});

	it("carries marks that can be seen everywhere", () => {
		for (let t = -1; t <= 1; t += 0.02) {
			const ground = diverging(theme, t);
			expect(contrast(markOn(ground), ground)).toBeGreaterThanOrEqual(3);
			const other = sequential(theme, t);
			expect(contrast(markOn(other), other)).toBeGreaterThanOrEqual(3);
		}
	});
});

it("goes to OKLab and back", () => {
	for (const hex of ["#000000", "#ffffff", "#592b9f", "#c4741a"])
		expect(toHex(fromOklab(toOklab(parseHex(hex))))).toBe(hex);
});
