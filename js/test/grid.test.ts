// @vitest-environment happy-dom
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import sources from "../src/index";
import type { Grid } from "../src/protocol";
import { cellLabel } from "../src/sentence";
import { BARS, DETAIL, gridOf, RUNS, unaligned } from "./host";
import { key, open, point, settle, type View } from "./view";

// So that it can be told how often a cell is drawn; not in a bundle.
vi.mock("../src/sentence", { spy: true });

let view: View;
const host = () => view.host;
const cell = (layer: number, position: number) => view.cell(layer, position);
const place = (row: number, column: number) => view.place(row, column);
const last = () => host().sent.at(-1);
const selected = () =>
	[...view.el.querySelectorAll<HTMLElement>("[aria-selected=true]")].map(
		({ dataset }) => [Number(dataset["layer"]), Number(dataset["position"])],
	);
const arrive = (more: object, values = [0.5, 0.4, 0.02, 0.45, 0.03, 1]) =>
	host().message(
		{
			type: "cells",
			id: 9,
			generation: 3,
			block: "question_encoder",
			site: "block_output",
			head: null,
			direction: "restore",
			window: 1,
			patch: 1,
			cells: [[1, 3]],
			...more,
		},
		[unaligned(values)],
	);
/** The cells of the patches asked for so far. */
const patches = () =>
	host()
		.sent.filter(({ type }) => type === "patch")
		.map(({ cells }) => cells);
const TURNED = ["tokens", "layers"] as const;
const wholeLayer = (layer: number) => [0, 1, 2, 3].map((p) => [layer, p]);
const wholeToken = (position: number) => [0, 1, 2].map((l) => [l, position]);

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

	it("are named above by what is patched, where that is not the layer's output", async () => {
		expect(view.find("site-in-view")).toBeNull();
		host().put("site", "mlp");
		await settle();
		expect(view.get("site-in-view").textContent).toBe(" · MLP");
		host().put("site", "self_attention");
		host().put("head", 2);
		await settle();
		expect(view.get("site-in-view").textContent).toBe(
			" · self-attention head 2",
		);
	});

	it("become old with a new generation, and new one by one", async () => {
		host().put("generation", 4);
		await settle();
		expect(cell(1, 0).dataset["state"]).toBe("value"); // what is replaced at once does not flicker
		await vi.waitFor(() => expect(cell(1, 0).dataset["state"]).toBe("old"));
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

	it("are those of the head in view", async () => {
		arrive({ head: 1 });
		await settle();
		expect(cell(1, 3).dataset["state"]).toBe("empty");
		host().put("head", 1);
		await settle();
		expect(cell(1, 0).dataset["state"]).toBe("empty");
		arrive({ head: 1 });
		await settle();
		expect(cell(1, 3).dataset).toMatchObject({ state: "value", value: "0.45" });
	});

	it("take their mark for what cannot be told from 0 from the kernel", async () => {
		arrive({}, [0.5, 0.4, 0.02, 0.45, 0.03, 0]);
		await settle();
		expect(cell(1, 3).textContent).toBe("•");
	});

	it("have a row for each layer where it is asked for", async () => {
		expect(place(2, 1)).toBe(cell(1, 2));
		host().put("axes", "layers");
		await settle();
		expect(place(2, 1)).toBe(cell(2, 1));
		expect(cell(1, 0).dataset["value"]).toBe("0.2");
		const heads = [...view.el.querySelectorAll("[role=columnheader]")];
		expect(heads.map(({ textContent }) => textContent)).toEqual([
			"token",
			"[CLS]",
			"what",
			"color",
			"?",
		]);
		expect(place(2, -1).textContent).toBe("2");
	});

	it("stay, as old, when a newer grid does not hold them yet", async () => {
		const sparse = (generation: number, more: Partial<Grid> = {}) =>
			gridOf(
				generation,
				(layer, position) => (layer === 1 && position === 0 ? 0.9 : Number.NaN),
				more,
			);
		for (const generation of [4, 5]) {
			host().put("generation", generation);
			host().put("grid", sparse(generation));
			await vi.waitFor(() =>
				expect(cell(2, 0).dataset).toMatchObject({
					state: "old",
					value: "0.4",
				}),
			);
			expect(cell(1, 0).dataset).toMatchObject({
				state: "value",
				value: "0.9",
			});
			expect(cell(2, 3).dataset["state"]).toBe("empty");
		}
		host().put("direction", "disrupt");
		await settle();
		expect(cell(1, 0).dataset["state"]).toBe("empty"); // it meant something else
		host().put("grid", sparse(5, { direction: "disrupt" }));
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

it("draws again the rows in which something changed, and no other", async () => {
	view.dispose();
	view.el.remove();
	view = await open({}, undefined, sources);
	const drawn = vi.mocked(cellLabel).mockClear();
	arrive({}, [0.5, 0.4, 0.02, 0.2, 0.03, 1]);
	await settle();
	expect(cell(1, 3).dataset["value"]).toBe("0.2");
	expect(drawn).toHaveBeenCalledTimes(3);
});

describe("choosing", () => {
	it("by click selects, asks for the patch and waits for it", async () => {
		cell(1, 3).click();
		await settle();
		expect(last()).toMatchObject({ type: "patch", cells: [[1, 3]] });
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

	it("has one place to tab to, moved by the arrow keys", async () => {
		const stops = () =>
			view.el.querySelectorAll("[role=grid] [tabindex='0']").length;
		cell(0, 0).focus();
		await key(cell(0, 0), "ArrowRight");
		await key(cell(1, 0), "ArrowDown");
		expect(document.activeElement).toBe(cell(1, 1));
		expect(stops()).toBe(1);
		expect(host().sent).toHaveLength(1);
		await key(cell(1, 1), "End", { ctrlKey: true });
		expect(document.activeElement).toBe(cell(2, 3));
		await key(cell(2, 3), "Home");
		await key(cell(0, 3), "ArrowLeft");
		expect(document.activeElement).toBe(place(3, -1));
		expect(stops()).toBe(1);
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

	it("of a set by Shift and pointer asks when it is let go anywhere", async () => {
		cell(0, 0).click();
		point(cell(1, 0), "pointerdown", { shiftKey: true });
		point(cell(2, 1), "pointerover", { shiftKey: true });
		await settle();
		expect(selected()).toHaveLength(6);
		point(window, "pointerup", { shiftKey: true });
		await settle();
		expect(last()?.["cells"]).toHaveLength(6);
		const sent = host().sent.length;
		point(window, "pointerup");
		expect(host().sent).toHaveLength(sent);
	});

	it.each(TURNED)("by a drag asks once, with %s as rows", async (axes) => {
		host().put("axes", axes);
		await settle();
		point(cell(2, 1), "pointerdown");
		point(cell(2, 2), "pointerover");
		point(cell(1, 2), "pointerover");
		await settle();
		expect(selected()).toHaveLength(4);
		expect(patches()).toEqual([]);
		point(cell(1, 2), "pointerup");
		// The browser sends the click to what both ends have in common.
		view.el.querySelector<HTMLElement>("[role=grid]")?.click();
		await settle();
		const square = [
			[1, 1],
			[1, 2],
			[2, 1],
			[2, 2],
		];
		expect(patches()).toEqual([square]);
		expect(selected()).toHaveLength(4);
		point(cell(0, 0), "pointerover");
		await settle();
		expect(selected()).toHaveLength(4);
	});

	it("by pointer within one cell is a click", async () => {
		point(cell(2, 1), "pointerdown");
		point(cell(2, 1), "pointerover");
		point(cell(2, 1), "pointerup");
		await settle();
		expect(patches()).toEqual([]);
		cell(2, 1).click();
		await settle();
		expect(patches()).toEqual([[[2, 1]]]);
	});

	it.each([{ pointerType: "touch" }, { button: 2 }, { ctrlKey: true }])(
		"does not drag with %j",
		async (how) => {
			point(cell(0, 0), "pointerdown", how);
			point(cell(2, 2), "pointerover", how);
			point(cell(2, 2), "pointerup", how);
			await settle();
			expect(selected()).toEqual([]);
			expect(patches()).toEqual([]);
		},
	);

	it.each(["ctrlKey", "metaKey"])(
		"with %s adds a cell and takes it out",
		async (held) => {
			const press = async (target: HTMLElement) => {
				target.dispatchEvent(
					new MouseEvent("click", { bubbles: true, [held]: true }),
				);
				await settle();
			};
			cell(0, 0).click();
			await settle();
			await press(cell(1, 1));
			expect(patches().at(-1)).toEqual([
				[0, 0],
				[1, 1],
			]);
			await press(cell(0, 0));
			expect(patches().at(-1)).toEqual([[1, 1]]);
			await press(cell(1, 1));
			expect(selected()).toEqual([]);
			expect(patches()).toHaveLength(4);
			cell(1, 1).click();
			await settle();
			await press(place(-1, 1));
			expect(selected()).toHaveLength(4);
			await press(place(-1, 1));
			expect(selected()).toEqual([]);
		},
	);

	it("by many clicks asks for the first and the last", async () => {
		for (const layer of [0, 1, 2]) cell(layer, 0).click();
		await settle();
		expect(patches()).toEqual([[[0, 0]], [[2, 0]]]);
	});

	it("is forgotten when another block is chosen before it is asked", async () => {
		for (const layer of [0, 1]) cell(layer, 0).click();
		host().put("block", "answer_decoder");
		await settle();
		expect(patches()).toEqual([[[0, 0]]]);
	});

	it("is taken back with Escape", async () => {
		host().put("selection", [
			[0, 0],
			[1, 0],
		]);
		await settle();
		cell(1, 0).focus();
		await settle();
		await key(cell(1, 0), "Escape");
		expect(selected()).toEqual([]);
		expect(patches()).toEqual([[]]);
		await key(cell(1, 0), "Escape");
		expect(patches()).toEqual([[]]);
		expect(host().saves).toBe(0);
	});

	it("of a set that is being drawn out is taken back with Escape", async () => {
		cell(0, 0).focus();
		await settle();
		await key(cell(0, 0), "ArrowRight", { shiftKey: true });
		expect(selected()).toHaveLength(2);
		await key(cell(1, 0), "Escape");
		expect(selected()).toEqual([]);
		cell(1, 0).dispatchEvent(
			new KeyboardEvent("keyup", { key: "Shift", bubbles: true }),
		);
		await settle();
		expect(patches()).toEqual([]);
	});

	it.each([{ ctrlKey: true }, { metaKey: true }])(
		"is copied with %j and C",
		async (held) => {
			await key(cell(0, 0), "c", held);
			expect(host().sent).toHaveLength(1); // nothing is selected
			host().put("selection", [[0, 0]]);
			await settle();
			await key(cell(0, 0), "c");
			expect(host().sent).toHaveLength(1);
			await key(cell(0, 0), "c", held);
			expect(last()).toMatchObject({ type: "export", format: "cells" });
		},
	);

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

describe("a header", () => {
	it.each(TURNED)(
		"selects all of its row or column, with %s as rows",
		async (axes) => {
			host().put("axes", axes);
			await settle();
			const [across, down] =
				axes === "tokens"
					? [wholeLayer(1), wholeToken(2)]
					: [wholeToken(1), wholeLayer(2)];
			place(-1, 1).click();
			await settle();
			expect(patches().at(-1)).toEqual(across);
			place(2, -1).click();
			await settle();
			expect(patches().at(-1)).toEqual(down);
			expect(patches()).toHaveLength(2);
		},
	);

	it("is reached by keys, and Enter selects", async () => {
		cell(0, 0).focus();
		await key(cell(0, 0), "ArrowUp");
		expect(document.activeElement).toBe(place(-1, 0));
		await key(place(-1, 0), "ArrowLeft");
		expect(document.activeElement).toBe(place(-1, 0));
		await key(place(-1, 0), "ArrowRight");
		await key(place(-1, 1), "Enter");
		expect(patches()).toEqual([wholeLayer(1)]);
		await key(place(-1, 1), "ArrowDown");
		await key(cell(1, 0), "Home");
		await key(cell(0, 0), "ArrowLeft");
		await key(place(0, -1), "ArrowDown");
		await key(place(1, -1), " ");
		expect(patches().at(-1)).toEqual(wholeToken(1));
	});

	it("is not drawn into a set", async () => {
		cell(0, 0).focus();
		await settle();
		await key(cell(0, 0), "ArrowUp", { shiftKey: true });
		expect(document.activeElement).toBe(cell(0, 0));
		point(cell(0, 0), "pointerdown");
		point(place(-1, 2), "pointerover");
		point(window, "pointerup");
		await settle();
		expect(selected()).toEqual([]);
	});
});

describe("the means", () => {
	it("stand under the columns and beside the rows", async () => {
		const beside = () =>
			[...view.el.querySelectorAll<HTMLElement>(".bt-mean[title]")].map(
				({ title }) => title,
			);
		const under = () =>
			view.el.querySelector(".bt-profile")?.getAttribute("aria-label");
		expect(under()).toBe(
			"mean recovery: layer 0 0.00, layer 1 0.20, layer 2 0.40",
		);
		expect(beside()).toEqual([
			"mean of “[CLS]”: 0.20",
			"mean of “what”: 0.20",
			"mean of “color”: 0.20",
			"mean of “?”: not computed",
		]);
		host().put("axes", "layers");
		await settle();
		expect(under()).toContain("“what” 0.20");
		expect(beside()[2]).toBe("mean of layer 2: 0.40");
	});
});

describe("the legend", () => {
	const limits = () => view.get("limits").textContent;

	it("keeps its limits where they are fixed, until they are let go", async () => {
		expect(limits()).toBe("−0.4 … 0.4");
		expect(view.find("limit")).toBeNull();
		const fill = () =>
			cell(1, 1).querySelector("span")?.style.getPropertyValue("--bt-fill");
		const before = fill();
		view.get("fix-scale").click();
		await settle();
		expect(host().traits["limit"]).toBe(0.4);
		expect(view.get("fix-scale").getAttribute("aria-pressed")).toBe("true");
		host().put(
			"grid",
			gridOf(3, (layer) => 0.2 * layer ** 3),
		);
		await settle();
		expect(fill()).toBe(before);
		view.get("fix-scale").click();
		await settle();
		expect(host().traits["limit"]).toBe(0);
		expect(limits()).toBe("−2 … 2");
		expect(fill()).not.toBe(before);
	});

	it("takes a limit as a number", async () => {
		host().put("limit", 0.4);
		await settle();
		const field = view.get<HTMLInputElement>("limit");
		expect(Number(field.value)).toBe(0.4);
		await key(field, "Enter");
		expect(host().traits["limit"]).toBe(0.4); // nothing was typed
		field.value = "0.25";
		field.dispatchEvent(new Event("input", { bubbles: true }));
		await settle();
		await key(field, "Enter");
		expect(host().traits["limit"]).toBe(0.25);
	});

	it("says of which metric its numbers are", async () => {
		const legend = () => view.el.querySelector(".bt-legend")?.textContent;
		expect(legend()).toContain("recovery of probability");
		host().put("runs", { ...RUNS, metric: "log_probability" });
		host().put("show", "score");
		await settle();
		expect(legend()).toContain("log probability");
	});
});

describe("scrolling", () => {
	const scroll = async (sizes: object) => {
		const box = view.el.querySelector<HTMLElement>(".bt-scroll");
		for (const [name, value] of Object.entries(sizes))
			Object.defineProperty(box, name, { value, configurable: true });
		box?.dispatchEvent(new Event("scroll"));
		await settle();
	};

	it.each(TURNED)(
		"tells which positions are visible, with %s as rows",
		async (axes) => {
			host().put("axes", axes);
			await settle();
			const down = { scrollTop: 50, clientHeight: 50, scrollHeight: 200 };
			const across = { scrollLeft: 100, clientWidth: 50, scrollWidth: 200 };
			await scroll({ ...down, ...across });
			expect(host().sent).toHaveLength(2);
			expect(last()).toMatchObject({
				type: "visible_range",
				...(axes === "tokens" ? { first: 1, last: 2 } : { first: 2, last: 3 }),
			});
		},
	);
});

it("sends nothing more once the view is gone", async () => {
	await settle();
	const box = view.el.querySelector<HTMLElement>(".bt-scroll");
	for (const layer of [0, 1]) cell(layer, 0).click();
	for (const _ of [0, 1]) box?.dispatchEvent(new Event("scroll"));
	const sent = host().sent.length;
	view.dispose();
	await new Promise((resolve) => setTimeout(resolve, 250));
	expect(host().sent).toHaveLength(sent);
});

describe("the detail", () => {
	it("shows sentence and bars of the selection, and no other", async () => {
		host().put("detail", { ...DETAIL, cells: [[1, 3]] });
		await settle();
		expect(view.get("bars").textContent).not.toContain("59 %");
		host().put("selection", [[1, 3]]);
		await settle();
		expect(view.get("sentence").textContent).toBe(
			"Restoring layer 1 at “?” brings back 58 % ± 4 % of what the noise took.",
		);
		expect(view.get("bars").textContent).toContain("59 %");
		expect(view.el.querySelector("[role=status]")?.textContent).toContain(
			"brings back 58 % ± 4 %",
		);
		host().put("head", 1);
		await settle();
		expect(view.get("bars").textContent).not.toContain("59 %");
	});

	it("of a cell that the grid knows says the same as the grid", async () => {
		host().put("detail", DETAIL);
		host().put("selection", [[2, 1]]);
		await settle();
		expect(view.get("sentence").textContent).toContain("40 % ± 3 %");
		host().put(
			"grid",
			gridOf(3, () => 0.02),
		);
		await settle();
		expect(cell(2, 1).textContent).toBe("•");
		expect(view.get("sentence").textContent).toContain(
			"brings back 2 % ± 3 % of what the noise took, not distinguishable from 0.",
		);
	});

	it("is dimmed when it is older than the inputs", async () => {
		host().put("selection", [[2, 1]]);
		host().put("detail", DETAIL);
		host().put("generation", 4);
		await vi.waitFor(() =>
			expect(view.get("bars").className).toContain("bt-old"),
		);
		expect(view.get("sentence").className).toContain("bt-old");
		expect(view.el.querySelector("[role=status]")?.textContent).toBe("");
	});
});

describe("pinning", () => {
	const columns = () =>
		[...view.el.querySelectorAll("[data-testid=bars] thead th")].map(
			({ textContent }) => textContent,
		);

	it("is offered for a patched run alone", async () => {
		expect(view.find("pin")).toBeNull();
		host().put("selection", [[2, 1]]);
		host().put("detail", DETAIL);
		await settle();
		view.get("pin").click();
		expect(last()).toMatchObject({ type: "pin", on: true });
	});

	it("keeps a sentence and a column until it is let go", async () => {
		expect(columns()).toHaveLength(3);
		expect(view.find("pinned")).toBeNull();
		host().put("pinned", { ...DETAIL, damage: "noise 4.0" });
		host().put("runs", { ...RUNS, bars: { ...BARS, pinned: [0.71, 0.2] } });
		await settle();
		expect(view.get("pinned").textContent).toContain(
			"Pinned (noise 4.0): Restoring layer 2 at “what” brings back 58 % ± 4 %",
		);
		expect(columns()).toHaveLength(4);
		expect(columns()[2]).toBe("pinned");
		expect(view.get("bars").textContent).toContain("71 %");
		view.get("unpin").click();
		expect(last()).toMatchObject({ type: "pin", on: false });
	});

	it("outlives the block and the corruption", async () => {
		host().put("pinned", DETAIL);
		host().put("block", "answer_decoder");
		host().put("runs", { ...RUNS, cause: "other picture" });
		await settle();
		expect(view.get("pinned").textContent).toContain("layer 2 at “what”");
		expect(view.get("pinned").textContent).toContain("what the noise took");
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
			left: "0.4 s left",
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

	it("ends, and says so, when the kernel is lost", async () => {
		view.get("trace-all").click();
		await settle();
		host().lose();
		await settle();
		expect(view.find("stop")).toBeNull();
		expect(cell(1, 3).dataset["state"]).toBe("empty");
		expect(view.el.textContent).toContain("no answer from the kernel");
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
