// @vitest-environment happy-dom
// One session a model: what views share, what each has for itself, and what a click sends.
import { afterEach, describe, expect, it, vi } from "vitest";
import { createHost, DETAIL, type FakeHost, fullTraits, LOOK } from "./host";
import { key, open, point, proxyOf, settle, type View, widget } from "./view";

const views: View[] = [];

async function show(host = createHost(fullTraits())): Promise<View> {
	const view = await open({}, host);
	views.push(view);
	return view;
}

const patches = ({ sent }: FakeHost) =>
	sent.filter(({ type }) => type === "patch");
const selected = ({ el }: View) =>
	[...el.querySelectorAll<HTMLElement>("[aria-selected=true]")].map(
		({ dataset: { layer, position } }) => [Number(layer), Number(position)],
	);
const taken = (id: unknown) => ({ type: "taken", id, generation: 3 });

afterEach(() => {
	for (const view of views.splice(0)) {
		view.dispose();
		view.el.remove();
	}
	vi.useRealTimers();
});

describe("two views of one widget", () => {
	it("agree on what is waited for and how far the grid is", async () => {
		const first = await show();
		const second = await show(first.host);
		first.cell(1, 3).click();
		await settle();
		for (const view of [first, second]) {
			expect(view.cell(1, 3).dataset["state"]).toBe("waiting");
			expect(selected(view)).toEqual([[1, 3]]);
		}
		second.get("trace-all").click();
		await settle();
		const { id } = first.host.sent.at(-1) ?? {};
		const progress = { type: "progress", id, generation: 3, left: "1 s left" };
		first.host.message({ ...progress, done: 5, total: 12 });
		await settle();
		for (const view of [first, second])
			expect(view.get("blip-trace").textContent).toContain(
				"5 of 12 · 1 s left",
			);
		first.get("stop").click();
		await settle();
		expect(second.find("stop")).toBeNull();
	});

	it("hear the host once, whatever their number", async () => {
		const first = await show();
		const listeners = first.host.listeners();
		const second = await show(first.host);
		expect(first.host.listeners()).toBe(listeners);
		second.dispose();
		expect(first.host.listeners()).toBe(listeners);
		views.pop();
		first.host.put("question", "is it red?");
		await settle();
		expect(first.get<HTMLInputElement>("question").value).toBe("is it red?");
	});

	it("point, draw out sets and say “Copied” each for itself", async () => {
		vi.spyOn(navigator.clipboard, "writeText").mockResolvedValue();
		const first = await show();
		const second = await show(first.host);
		point(first.cell(1, 1), "pointerdown");
		point(first.cell(2, 1), "pointerover");
		await settle();
		expect([selected(first).length, selected(second).length]).toEqual([2, 0]);
		point(window, "pointerup");
		await settle();
		expect([selected(first).length, selected(second).length]).toEqual([2, 2]);
		await key(first.cell(1, 1), "c", { ctrlKey: true });
		first.host.message(
			{
				...{ type: "exported", id: first.host.sent.at(-1)?.["id"] },
				...{ generation: 3, format: "cells", name: "", media: "text/plain" },
			},
			[new DataView(new ArrayBuffer(1))],
		);
		await settle();
		const label = (view: View) =>
			view.get<HTMLSelectElement>("export").selectedOptions[0]?.textContent;
		expect([label(first), label(second)]).toEqual(["Copied", "Export"]);
	});

	it("each see where tokens attend to where their own hand points", async () => {
		const first = await show();
		first.host.put("site", "cross_attention");
		const second = await show(first.host);
		point(first.cell(2, 1), "pointerover");
		await settle();
		point(second.cell(1, 1), "pointerover");
		await settle();
		const asked = first.host.sent.filter(({ layer }) => layer !== undefined);
		expect(asked.map(({ layer }) => layer)).toEqual([2, 1]);
		for (const { id, layer } of asked)
			first.host.message(
				{
					...{ type: "attention", id, generation: 3, layer, head: null },
					...{ rows: 4, columns: 4 },
				},
				[new DataView(new ArrayBuffer(4 * 4 * 16))],
			);
		await settle();
		expect(first.get("overlay-text").textContent).toContain("layer 2");
		expect(second.get("overlay-text").textContent).toContain("layer 1");
		expect(first.host.sent).toHaveLength(4);
	});
});

describe("a session", () => {
	const begin = () => {
		const host = createHost(fullTraits());
		const made = widget();
		const draw = () => {
			const el = document.createElement("div");
			document.body.append(el);
			const takeAway = made.render({ model: proxyOf(host), el });
			return { el, takeAway };
		};
		return { host, made, draw };
	};

	it("begins with its model, without a view, and ends with it", () => {
		const { host, made } = begin();
		const end = made.initialize({ model: proxyOf(host) });
		expect(host.listeners()).toBeGreaterThan(10);
		expect(host.sent).toEqual([]);
		end();
		expect(host.listeners()).toBe(0);
	});

	it("keeps what passed by while no view was open", async () => {
		const { host, made, draw } = begin();
		const end = made.initialize({ model: proxyOf(host) });
		draw().takeAway();
		host.message({
			...{ type: "progress", id: 1, generation: 3 },
			...{ done: 5, total: 12, left: "" },
		});
		const { el, takeAway } = draw();
		await settle();
		expect(el.textContent).toContain("5 of 12");
		takeAway();
		end();
		expect(host.listeners()).toBe(0);
	});

	it("begins with the first view and ends with the last, where the host does not initialize", async () => {
		const { host, draw } = begin();
		const [first, second] = [draw(), draw()];
		await settle();
		first.takeAway();
		expect(host.listeners()).toBeGreaterThan(10);
		host.put("error", "too long");
		await settle();
		expect(second.el.textContent).toContain("too long");
		second.takeAway();
		expect(host.listeners()).toBe(0);
	});
});

describe("a click", () => {
	it("sends one message, and saves nothing", async () => {
		const view = await show();
		view.cell(1, 3).click();
		await settle();
		expect(patches(view.host)).toMatchObject([{ cells: [[1, 3]] }]);
		expect(view.host.sent).toHaveLength(2); // and the greeting
		expect(view.host.saves).toBe(0);
		expect(selected(view)).toEqual([[1, 3]]);
		view.host.confirm();
		await settle();
		expect(selected(view)).toEqual([[1, 3]]);
	});

	it("gives way to what the kernel makes of it, and to what Python selects later", async () => {
		const view = await show();
		view.cell(1, 3).click();
		await settle();
		view.host.confirm();
		view.host.put("selection", [[0, 0]]);
		await settle();
		expect(selected(view)).toEqual([[0, 0]]);
	});

	it("is shown while the answers to earlier ones come in", async () => {
		const view = await show();
		view.cell(1, 3).click();
		await settle();
		const [first] = patches(view.host);
		view.cell(2, 2).click();
		view.host.message(taken(first?.["id"]));
		view.host.put("selection", [[1, 3]]);
		await settle();
		expect(selected(view)).toEqual([[2, 2]]);
		view.host.confirm();
		view.host.put("selection", []);
		await settle();
		expect(selected(view)).toEqual([]);
	});

	it("that is refused is not selected", async () => {
		const view = await show();
		view.host.put("selection", [[0, 0]]);
		view.cell(1, 3).click();
		await settle();
		view.host.message(taken(patches(view.host)[0]?.["id"]));
		view.host.put("error", "selection: not recorded");
		await settle();
		expect(selected(view)).toEqual([[0, 0]]);
	});

	it("before another block is chosen is not meant there", async () => {
		const view = await show();
		view.cell(1, 0).click();
		view.host.put("block", "answer_decoder");
		await settle();
		expect(selected(view)).toEqual([]);
	});

	it("selects here alone where there is no kernel", async () => {
		const host = createHost({ ...fullTraits(), detail: DETAIL, look: LOOK });
		host.connected = false;
		const view = await show(host);
		view.cell(2, 1).click();
		await settle();
		expect(selected(view)).toEqual([[2, 1]]);
		expect(view.get("sentence").textContent).toContain("brings back");
		await key(view.cell(2, 1), "Escape");
		expect(selected(view)).toEqual([]);
	});

	it("selects here alone where the host takes messages and no kernel hears them", async () => {
		vi.useFakeTimers();
		const opened = show();
		await vi.advanceTimersByTimeAsync(3100);
		const view = await opened;
		view.cell(2, 1).click();
		await vi.advanceTimersByTimeAsync(11_000);
		expect(selected(view)).toEqual([[2, 1]]);
		view.cell(1, 1).click();
		await vi.advanceTimersByTimeAsync(100);
		expect(selected(view)).toEqual([[1, 1]]);
	});
});
