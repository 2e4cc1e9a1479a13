import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { BARS, gridOf, unaligned } from "./host";
import { key, open, settle, type View } from "./view";

let view: View;
const { host, cell } = {
	host: () => view.host,
	cell: (layer: number, position: number) => view.cell(layer, position),
};
const last = () => host().sent.at(-1);
const selected = () =>
	[...view.el.querySelectorAll<HTMLElement>("[aria-selected=true]")].map(
		({ dataset }) => [Number(dataset["layer"]), Number(dataset["position"])],
	);
const arrive = (more: object, values = [0.5, 0.4, 0.02, 0.45, 0.03]) =>
	host().message(
		{
			type: "cells",
			id: 9,
			generation: 3,
			block: "question_encoder",
			site: "block_output",
			cells: [[1, 3]],
			...more,
		},
		[unaligned(values)],
	);
const DETAIL = {
	generation: 3,
	block: "question_encoder",
	site: "block_output",
	direction: "restore",
	window: 1,
	cells: [[2, 1]],
	score: 0.59,
	stderr: 0.03,
	indirect_effect: 0.47,
	recovery: 0.58,
	recovery_stderr: 0.04,
	bars: { ...BARS, patched: [0.59, 0.18] },
};

beforeEach(async () => {
	view = await open();
});
afterEach(() => {
	view.dispose();
	view.el.remove();
});

describe("the cells", () => {
	it("carry place, state and value", () => {
		expect(cell(1, 0).dataset).toMatchObject({ state: "value", value: "0.2" });
		expect(cell(1, 3).dataset["state"]).toBe("empty");
		expect(cell(1, 3).getAttribute("data-value")).toBe("");
		expect(cell(0, 0).textContent).toBe("•");
		expect(cell(1, 0).getAttribute("aria-label")).toBe(
			"layer 1, [CLS]: recovery 20 % ± 3 %",
		);
	});

	it("show another quantity when it is chosen", async () => {
		host().put("show", "score");
		await settle();
		expect(cell(1, 0).dataset["value"]).toBe("0.26");
	});

	it("are marked where they are 1 by construction", async () => {
		host().put(
			"grid",
			gridOf(3, () => 1, { constructed: [[2, 0]] }),
		);
		await settle();
		expect(cell(2, 0).textContent).toBe("=");
		expect(cell(2, 0).getAttribute("aria-label")).toContain("by construction");
	});

	it("become old with a new generation, and new one by one", async () => {
		host().put("generation", 4);
		await settle();
		expect(cell(1, 0).dataset["state"]).toBe("old");
		arrive({ generation: 4, cells: [[1, 0]] });
		await settle();
		expect(cell(1, 0).dataset).toMatchObject({ state: "value", value: "0.45" });
		expect(cell(0, 0).dataset["state"]).toBe("old");
	});

	it("do not take values of an older generation or of another site", async () => {
		arrive({ generation: 2 });
		arrive({ site: "mlp" });
		arrive({ cells: [[40, 40]] });
		await settle();
		expect(cell(1, 3).dataset["state"]).toBe("empty");
		arrive({});
		await settle();
		expect(cell(1, 3).dataset).toMatchObject({ state: "value", value: "0.45" });
	});

	it("stay, as old, when a newer grid does not hold them yet", async () => {
		const sparse = (generation: number) =>
			gridOf(generation, (layer, position) =>
				layer === 1 && position === 0 ? 0.9 : Number.NaN,
			);
		for (const generation of [4, 5]) {
			host().put("generation", generation);
			host().put("grid", sparse(generation));
			await settle();
			expect(cell(1, 0).dataset).toMatchObject({
				state: "value",
				value: "0.9",
			});
			expect(cell(2, 0).dataset).toMatchObject({ state: "old", value: "0.4" });
			expect(cell(2, 3).dataset["state"]).toBe("empty");
		}
		host().put("direction", "disrupt");
		host().put("grid", sparse(5));
		await settle();
		expect(cell(1, 0).dataset["state"]).toBe("value");
		expect(cell(2, 0).dataset["state"]).toBe("empty");
	});

	it("that arrived alone go when the kernel clears the grid", async () => {
		arrive({});
		host().put("grid", {});
		await settle();
		expect(cell(1, 3).dataset["state"]).toBe("empty");
		expect(cell(1, 0).dataset["state"]).toBe("empty");
	});
});

describe("choosing", () => {
	it("by click selects, asks for the patch and waits for it", async () => {
		cell(1, 3).click();
		await settle();
		expect(last()).toMatchObject({ type: "patch", cells: [[1, 3]] });
		expect(host().traits["selection"]).toEqual([[1, 3]]);
		expect(selected()).toEqual([[1, 3]]);
		expect(cell(1, 3).dataset["state"]).toBe("waiting");
		host().message({
			type: "done",
			id: last()?.["id"],
			generation: 3,
			stopped: false,
		});
		await settle();
		expect(cell(1, 3).dataset["state"]).toBe("empty");
	});

	it("stops waiting when an error comes", async () => {
		cell(1, 3).click();
		host().put("error", "out of memory");
		await settle();
		expect(cell(1, 3).dataset["state"]).toBe("empty");
	});

	it("has one cell to tab to, moved by the arrow keys", async () => {
		const stops = () =>
			[...view.el.querySelectorAll("[role=gridcell][tabindex='0']")].length;
		cell(0, 0).focus();
		await key(cell(0, 0), "ArrowRight");
		await key(cell(1, 0), "ArrowDown");
		expect(document.activeElement).toBe(cell(1, 1));
		expect(stops()).toBe(1);
		expect(host().sent).toHaveLength(1);
		await key(cell(1, 1), "End", { ctrlKey: true });
		expect(document.activeElement).toBe(cell(2, 3));
	});

	it.each(["Enter", " "])("by key %j patches", async (name) => {
		cell(2, 1).focus();
		await settle();
		await key(cell(2, 1), name);
		expect(last()).toMatchObject({ type: "patch", cells: [[2, 1]] });
	});

	it("of a set asks once, when Shift is let go", async () => {
		cell(0, 0).focus();
		await settle();
		await key(cell(0, 0), "ArrowRight", { shiftKey: true });
		await key(cell(1, 0), "ArrowDown", { shiftKey: true });
		expect(host().sent).toHaveLength(1);
		expect(selected()).toHaveLength(4);
		cell(1, 1).dispatchEvent(
			new KeyboardEvent("keyup", { key: "Shift", bubbles: true }),
		);
		await settle();
		expect(host().sent).toHaveLength(2);
		expect(last()?.["cells"]).toEqual([
			[0, 0],
			[0, 1],
			[1, 0],
			[1, 1],
		]);
	});

	it("of a set by pointer asks when it is let go anywhere", async () => {
		cell(0, 0).click();
		const point = (target: EventTarget, name: string) =>
			target.dispatchEvent(
				new PointerEvent(name, { bubbles: true, shiftKey: true, button: 0 }),
			);
		point(cell(1, 0), "pointerdown");
		point(cell(2, 1), "pointerover");
		await settle();
		expect(selected()).toHaveLength(6);
		point(window, "pointerup");
		await settle();
		expect(last()?.["cells"]).toHaveLength(6);
		const sent = host().sent.length;
		point(window, "pointerup");
		expect(host().sent).toHaveLength(sent);
	});

	it("goes back to one with Escape", async () => {
		host().put("selection", [
			[0, 0],
			[1, 0],
		]);
		await settle();
		cell(1, 0).focus();
		await settle();
		await key(cell(1, 0), "Escape");
		expect(host().traits["selection"]).toEqual([[1, 0]]);
	});

	it("works without a kernel for what is known", async () => {
		host().connected = false;
		cell(2, 1).click();
		await settle();
		expect(selected()).toEqual([[2, 1]]);
		expect(view.get("sentence").textContent).toContain(
			"Restoring layer 2 at “what” brings back 40 % ± 3 %",
		);
		expect(view.el.textContent).toContain("no answer from the kernel");
		cell(1, 3).click();
		await settle();
		expect(cell(1, 3).dataset["state"]).toBe("empty");
	});
});

describe("the detail", () => {
	it("shows sentence and bars of the selection, and no other", async () => {
		host().put("detail", DETAIL);
		await settle();
		expect(view.get("bars").textContent).not.toContain("59 %");
		host().put("selection", [[2, 1]]);
		await settle();
		expect(view.get("sentence").textContent).toBe(
			"Restoring layer 2 at “what” brings back 58 % ± 4 % of what the noise took.",
		);
		expect(view.get("bars").textContent).toContain("59 %");
		expect(view.el.querySelector("[role=status]")?.textContent).toContain(
			"brings back 58 % ± 4 %",
		);
	});

	it("is dimmed when it is older than the inputs", async () => {
		host().put("selection", [[2, 1]]);
		host().put("detail", DETAIL);
		host().put("generation", 4);
		await settle();
		expect(view.get("sentence").className).toContain("bt-old");
		expect(view.get("bars").className).toContain("bt-old");
		expect(view.el.querySelector("[role=status]")?.textContent).toBe("");
	});
});

describe("tracing all", () => {
	const progress = (more: object = {}) =>
		host().message({
			type: "progress",
			id: last()?.["id"],
			generation: 3,
			done: 8,
			total: 12,
			seconds_left: 0.4,
			...more,
		});

	it("puts Stop in the same place and tells how far it is", async () => {
		const button = view.get("trace-all");
		button.click();
		await settle();
		expect(last()?.["type"]).toBe("trace");
		expect(view.get("stop")).toBe(button);
		expect(cell(1, 3).dataset["state"]).toBe("waiting");
		progress();
		await settle();
		expect(view.el.textContent).toContain("8 of 12 · 0.4 s left");
		expect(view.get("progress").getAttribute("aria-valuenow")).toBe("8");
		host().message({
			type: "done",
			id: last()?.["id"],
			generation: 3,
			stopped: false,
		});
		await settle();
		expect(view.get("trace-all")).toBe(button);
		expect(view.find("progress")).toBeNull();
	});

	it("stops at once, whatever progress is still on its way", async () => {
		view.get("trace-all").click();
		await settle();
		const id = last()?.["id"];
		view.get("stop").click();
		progress({ id });
		await settle();
		expect(last()?.["type"]).toBe("stop");
		expect(view.find("stop")).toBeNull();
	});

	it("says so when the kernel stays silent, until it is heard again", async () => {
		vi.useFakeTimers();
		view.get("trace-all").click();
		vi.advanceTimersByTime(11_000);
		vi.useRealTimers();
		await settle();
		expect(view.el.textContent).toContain("no answer from the kernel");
		progress();
		await settle();
		expect(view.el.textContent).toContain("8 of 12");
	});

	it("shows a later run of the request that was stopped", async () => {
		view.get("trace-all").click();
		await settle();
		const id = last()?.["id"];
		view.get("stop").click();
		host().message({ type: "done", id, generation: 3, stopped: true });
		host().put("generation", 4);
		progress({ id, generation: 4 });
		await settle();
		expect(view.find("stop")).not.toBeNull();
	});

	it("ends with a new generation", async () => {
		view.get("trace-all").click();
		host().put("generation", 4);
		await settle();
		expect(view.find("stop")).toBeNull();
	});

	it("shows what another view has started", async () => {
		progress({ id: 77 });
		await settle();
		expect(view.find("stop")).not.toBeNull();
	});
});
