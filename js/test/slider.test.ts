import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { curvePoints, heightAt } from "../src/components/NoiseCurve";
import { key, open, settle, type, type View } from "./view";

let view: View;
const slider = () => view.get<HTMLInputElement>("noise-slider");
const point = (name: string) =>
	slider().dispatchEvent(new Event(name, { bubbles: true }));

beforeEach(async () => {
	view = await open();
});
afterEach(() => {
	view.dispose();
	view.el.remove();
});

describe("the noise slider", () => {
	it("sets the trait while it is dragged, the last value always", async () => {
		point("pointerdown");
		for (const value of ["5.1", "5.4", "5.9", "6.2"]) {
			slider().value = value;
			point("input");
		}
		expect(view.host.saves).toBe(1);
		point("pointerup");
		await settle();
		expect(view.host.traits["noise"]).toBe(6.2);
		expect(view.host.saves).toBeLessThanOrEqual(3);
	});

	it("does not let an echo move the thumb while it is held", async () => {
		point("pointerdown");
		await type(slider(), "7");
		view.host.put("noise", 5.3);
		await settle();
		expect(slider().value).toBe("7");
		expect(view.get<HTMLInputElement>("noise-number").value).toBe("7.0");
	});

	it("follows the kernel once it is let go", async () => {
		point("pointerdown");
		await type(slider(), "7");
		point("pointerup");
		view.host.put("noise", 10);
		await new Promise((resolve) => setTimeout(resolve, 500));
		expect(slider().value).toBe("10");
	});

	it.each([
		["ArrowRight", 5.1],
		["ArrowDown", 4.9],
		["PageUp", 6],
		["PageDown", 4],
		["Home", 0],
		["End", 10],
	])("moves with %s", async (name, expected) => {
		await key(slider(), name);
		expect(view.host.traits["noise"]).toBeCloseTo(expected);
	});

	it("takes a number, kept inside the limits", async () => {
		const field = view.get<HTMLInputElement>("noise-number");
		await type(field, "12");
		expect(view.host.traits["noise"]).toBe(5);
		await key(field, "Enter");
		expect(view.host.traits["noise"]).toBe(10);
	});
});

describe("the noise curve", () => {
	const curve = {
		generation: 1,
		factors: [0, 2, 4, 6],
		scores: [0.9, 0.5, null, 0.1],
		clean: 1,
	};

	it("leaves out what is not computed and puts the clean score on top", () => {
		const points = curvePoints(curve);
		expect(points.map(([x]) => x)).toEqual([0, 2, 6]);
		expect(points[0]?.[1]).toBeCloseTo(10);
		expect(points[2]?.[1]).toBeCloseTo(90);
	});

	it("has a height between its points and none beyond them", () => {
		const points = curvePoints(curve);
		expect(heightAt(points, 1)).toBeCloseTo(30);
		expect(heightAt(points, 0)).toBeCloseTo(10);
		expect(heightAt(points, 7)).toBeNull();
		expect(heightAt([], 1)).toBeNull();
	});

	it("draws from scores below 0 as well", () => {
		const logs = { ...curve, scores: [-0.1, -1, -2, -4], clean: -0.05 };
		for (const [, y] of curvePoints(logs)) {
			expect(y).toBeGreaterThanOrEqual(0);
			expect(y).toBeLessThanOrEqual(100);
		}
	});
});
