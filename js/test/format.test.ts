import { expect, it } from "vitest";
import { limit, percent, plain, points, score } from "../src/format";

it("rounds a share to what its margin allows", () => {
	expect(percent(0.5832, 0.0413)).toBe("58 % ± 4 %");
	expect(percent(0.5832, 0.0041)).toBe("58.3 % ± 0.4 %");
	expect(percent(0.5832, 0.123)).toBe("58 % ± 12 %");
	expect(percent(0.5832, 0.00096)).toBe("58.3 % ± 0.1 %");
});

it("leaves out a margin that is unknown, 0 or too small to show", () => {
	expect(percent(0.5832)).toBe("58 %");
	expect(percent(0.5832, 0)).toBe("58 %");
	expect(percent(0.5832, Number.NaN)).toBe("58 %");
	expect(percent(0.5832, 1e-7)).toBe("58.32 %");
});

it("shows small shares with a decimal, and no minus before zero", () => {
	expect(percent(0.004)).toBe("0.4 %");
	expect(percent(-0.00001)).toBe("0.0 %");
	expect(percent(0)).toBe("0 %");
});

it("uses a true minus sign", () => {
	expect(plain(-0.474, 0.031)).toBe("−0.47 ± 0.03");
	expect(limit(-0.6)).toBe("−0.6");
	expect(limit(1)).toBe("1");
});

it("says nothing of what is not known", () => {
	expect(percent(null)).toBe("–");
	expect(plain(Number.NaN)).toBe("–");
});

it("speaks of probabilities in percent and points, of other metrics in their own unit", () => {
	expect(score("probability", 0.93)).toBe("93 %");
	expect(score("log_probability", -2.3456)).toBe("−2.35");
	expect(points("probability", 0.03, 0.01)).toBe("3 ± 1 points");
	expect(points("logit_difference", 1.5, 0.2)).toBe("1.5 ± 0.2");
});
