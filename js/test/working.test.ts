// @vitest-environment happy-dom
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { createModel } from "../src/model";
import { createHost, fullTraits, gridOf, RUNS } from "./host";
import { open, settle } from "./view";

const LATE = { generation: 4, doing: "embedding the picture" };

describe("what is being done", () => {
	beforeEach(() => {
		vi.useFakeTimers();
	});
	afterEach(() => {
		vi.useRealTimers();
	});

	const begun = (traits: Record<string, unknown> = LATE) => {
		const host = createHost(fullTraits());
		const model = createModel(host);
		for (const [name, value] of Object.entries(traits)) host.put(name, value);
		return { host, model };
	};

	it("is said once it takes a while, with the seconds from the first on", () => {
		const { model } = begun();
		vi.advanceTimersByTime(299);
		expect(model.working.value).toBe("");
		vi.advanceTimersByTime(1);
		expect(model.working.value).toBe("embedding the picture …");
		vi.advanceTimersByTime(1000);
		expect(model.working.value).toBe("embedding the picture … 1 s");
		vi.advanceTimersByTime(11_000);
		expect(model.working.value).toBe("embedding the picture … 12 s");
	});

	it("goes on to the next step at once, and ends with the runs", () => {
		const { host, model } = begun();
		vi.advanceTimersByTime(2000);
		host.put("doing", "answering");
		expect(model.working.value).toBe("answering …");
		host.put("runs", { ...RUNS, generation: 4 });
		expect(model.working.value).toBe("");
		vi.advanceTimersByTime(5000);
		expect(model.working.value).toBe("");
	});

	it.each([
		["it is done at once", { ...LATE, runs: { ...RUNS, generation: 4 } }],
		["it failed", { ...LATE, error: "boom" }],
	])("is not said where %s", (_, traits) => {
		const { model } = begun(traits);
		vi.advanceTimersByTime(5000);
		expect(model.working.value).toBe("");
	});
});

describe("values of the inputs before", () => {
	let host: ReturnType<typeof createHost>;
	let model: ReturnType<typeof createModel>;
	beforeEach(() => {
		vi.useFakeTimers();
		host = createHost(fullTraits());
		model = createModel(host);
	});
	afterEach(() => {
		vi.useRealTimers();
	});
	const state = () => model.view.value?.rows[0]?.[0]?.state;

	it("are old once they are not replaced at once", () => {
		host.put("generation", 4);
		vi.advanceTimersByTime(249);
		expect(state()).toBe("value");
		vi.advanceTimersByTime(1);
		expect(state()).toBe("old");
	});

	it("never are while new ones come as fast as a slider moves, though always behind it", () => {
		for (let generation = 4; generation < 20; generation++) {
			host.put("generation", generation);
			vi.advanceTimersByTime(100);
			expect(state()).toBe("value");
			host.put(
				"grid",
				gridOf(generation - 1, () => 0.5),
			);
		}
	});

	it("are not old where another kernel counts anew", () => {
		host.put("generation", 9);
		vi.advanceTimersByTime(500);
		expect(state()).toBe("old");
		host.put("generation", 3);
		expect(state()).toBe("value");
	});
});

describe("a new picture", () => {
	it("is told of beside the numbers of the old one", async () => {
		const { host, get } = await open();
		const bars = get("bars").outerHTML;
		for (const [name, value] of Object.entries(LATE)) host.put(name, value);
		await vi.waitFor(() =>
			expect(get("working").textContent).toBe("embedding the picture …"),
		);
		expect(get("bars").textContent).not.toBe("");
		host.put("runs", { ...RUNS, generation: 4 });
		await settle();
		expect(get("working").textContent).toBe("");
		expect(get("bars").outerHTML).toBe(bars);
	});
});
