// @vitest-environment happy-dom
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { curveBand, curvePoints, heightAt } from "../src/components/NoiseCurve";
import { RUNS } from "./host";
import { key, open, settle, type, type View } from "./view";

let view: View;
const slider = () => view.get<HTMLInputElement>("noise-slider");
const point = (name: string) =>
	slider().dispatchEvent(new Event(name, { bubbles: true }));

const move = async (values: string[], ...events: string[]) => {
	for (const value of values) {
		slider().value = value;
		for (const event of events) point(event);
	}
	await settle();
};

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

	it("sends one value ahead, and no more before one is answered", async () => {
		point("pointerdown");
		for (const values of [
			["6", "7"],
			["8", "9"],
		]) {
			await move(values, "input");
			expect(view.host.traits["noise"]).toBe(7);
		}
		view.host.put("runs", { ...RUNS, generation: 4 });
		await settle();
		expect(view.host.traits["noise"]).toBe(9);
		expect(view.host.saves).toBe(3);
	});

	it("sends the next value if no answer comes for long", async () => {
		point("pointerdown");
		await type(slider(), "6");
		await type(slider(), "7");
		await new Promise((resolve) => setTimeout(resolve, 250));
		expect(view.host.traits["noise"]).toBe(7);
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

	it("leaves its keys to the browser, which steps by 0.1", async () => {
		const { min, max, step } = slider();
		expect([min, max, step]).toEqual(["0", "10", "0.1"]);
		const press = new KeyboardEvent("keydown", {
			key: "ArrowRight",
			bubbles: true,
			cancelable: true,
		});
		slider().dispatchEvent(press);
		expect(press.defaultPrevented).toBe(false);
	});

	it("waits for answers while a key is held, too", async () => {
		// At every repeat the browser says that the value changes, and that it has changed.
		for (const values of [
			["5.1", "5.2"],
			["5.3", "5.4"],
		]) {
			await move(values, "input", "change");
			expect(view.host.traits["noise"]).toBe(5.2);
		}
		view.host.put("runs", { ...RUNS, generation: 4 });
		await settle();
		expect(view.host.traits["noise"]).toBe(5.4);
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
		low: null,
		high: null,
		lost_at: null,
		lost: "",
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
		expect(heightAt(points, 4)).toBeCloseTo(70);
		expect(heightAt(points, 6)).toBeCloseTo(90);
		expect(heightAt(points, 7)).toBeNull();
		expect(heightAt([], 1)).toBeNull();
	});

	it("has a band between the ends of the interval, open where there is no upper one", () => {
		expect(curveBand(curve)).toBeNull();
		expect(curveBand({ ...curve, low: 2, high: 4.5 })).toEqual([2, 4.5]);
		expect(curveBand({ ...curve, low: 2 })).toEqual([2, 10]);
		expect(curveBand({ ...curve, low: 9, high: 30 })).toEqual([9, 10]);
		expect(curveBand({ ...curve, low: 20, high: 30 })).toBeNull();
	});

	it("draws from scores below 0 as well", () => {
		const logs = { ...curve, scores: [-0.1, -1, -2, -4], clean: -0.05 };
		for (const [, y] of curvePoints(logs)) {
			expect(y).toBeGreaterThanOrEqual(0);
			expect(y).toBeLessThanOrEqual(100);
		}
	});
});

describe("what the curve says of so much noise", () => {
	const said = () => view.get("lost").textContent;

	it("is there from the factor on at which all is lost, while the thumb moves too", async () => {
		view.host.put("noise", 5.9);
		await settle();
		const band = view.get("curve-band");
		expect(band.getAttribute("x")).toBe("2");
		expect(band.getAttribute("width")).toBe("2.5");
		expect(said()).toBe("");
		await type(slider(), "6");
		expect(said()).toBe("From ν = 6 on all is lost");
		await type(slider(), "5");
		expect(said()).toBe("");
	});

	it("is nothing where there is no curve", async () => {
		view.host.put("noise", 9);
		view.host.put("curve", {});
		await settle();
		expect(view.find("curve-band")).toBeNull();
		expect(said()).toBe("");
	});
});
