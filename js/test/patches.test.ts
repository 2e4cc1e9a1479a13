// @vitest-environment happy-dom
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { joined } from "../src/navigate";
import {
	doubtful,
	drawMap,
	outline,
	type PatchMap,
	placesIn,
	valueText,
} from "../src/patches";
import { RUNS, SETUP, TOKENS, unaligned } from "./host";
import { key, open, point, settle, type View } from "./view";

const MAP: PatchMap = {
	generation: 3,
	rows: 2,
	columns: 2,
	square: 2,
	limit: 0.4,
	low: "−40 %",
	high: "40 %",
	text: "What each part costs",
	unit: "of the total effect",
	percent: true,
	floats: [
		0.4,
		-0.1,
		Number.NaN,
		0.02,
		0.03,
		0.02,
		Number.NaN,
		0.05,
		1,
		1,
		Number.NaN,
		0,
	],
};
/** The same as the kernel sends it. */
const picture_map = {
	...MAP,
	floats: undefined,
	overlay: "map_disrupt",
	done: 3,
	left: "2 s left",
	values: unaligned(MAP.floats),
};

describe("a set of patches", () => {
	it("is outlined by the edges it does not share", () => {
		expect(outline([])).toBe("");
		expect(outline([[1, 2]])).toBe("M2 1h1M2 2h1M2 1v1M3 1v1");
		const edges = outline([
			[0, 0],
			[0, 1],
		]).match(/M/g);
		expect(edges).toHaveLength(6);
	});

	it("grows by what is added, and loses what it has already", () => {
		const set = [[0, 0]] as const;
		expect(joined(set, [[0, 1]])).toEqual([
			[0, 0],
			[0, 1],
		]);
		expect(joined(set, [[0, 0]])).toEqual([]);
		expect(
			joined(set, [
				[0, 0],
				[1, 0],
			]),
		).toEqual([
			[0, 0],
			[1, 0],
		]);
	});

	it("is read from a mask", () => {
		expect(placesIn(null)).toEqual([]);
		expect(
			placesIn([
				[false, true],
				[true, false],
			]),
		).toEqual([
			[0, 1],
			[1, 0],
		]);
	});
});

describe("a map", () => {
	it("says of each patch what its square says, and what is in doubt", () => {
		expect(valueText(MAP, [1, 1])).toBe("40 % ± 3 % of the total effect");
		expect(valueText(MAP, [0, 3])).toBe("−10 % ± 2 % of the total effect");
		expect(valueText(MAP, [3, 0])).toBe("");
		expect(valueText(MAP, [3, 3])).toBe(
			"2 % ± 5 % of the total effect, not distinguishable from 0",
		);
		expect(valueText(null, [0, 0])).toBe("");
		expect(valueText({ ...MAP, percent: false, unit: "times" }, [0, 0])).toBe(
			"0.40 ± 0.03 times",
		);
	});

	it("marks the middles of squares in doubt", () => {
		expect(doubtful(MAP)).toEqual([[3, 3]]);
		expect(doubtful(null)).toEqual([]);
	});

	it("is painted a pixel a square: colour by sign, strength by size, a veil where nothing is known", () => {
		const drawn: unknown[] = [];
		const context = {
			fillStyle: "",
			globalAlpha: 0,
			fillRect(x: number, y: number) {
				drawn.push([x, y, context.fillStyle, context.globalAlpha]);
			},
		};
		const canvas = document.createElement("canvas");
		vi.spyOn(canvas, "getContext").mockReturnValue(context as never);
		drawMap(canvas, MAP, ["minus", "plus", "veil"]);
		expect([canvas.width, canvas.height]).toEqual([2, 2]);
		expect(drawn).toEqual([
			[0, 0, "plus", 1],
			[1, 0, "minus", expect.closeTo(0.25)],
			[0, 1, "veil", 0.5],
			[1, 1, "plus", expect.closeTo(0.05)],
		]);
	});
});

describe("the picture", () => {
	let view: View;
	const pane = () => view.get("patches");
	const sent = (type: string) =>
		view.host.sent.filter((request) => request["type"] === type);
	/** A part of a gesture in the middle of a patch; the picture is 4 by 4 patches of 10 pixels. */
	const at = (name: string, row: number, column: number, more = {}) =>
		point(pane(), name, {
			clientX: 10 * column + 5,
			clientY: 10 * row + 5,
			...more,
		});
	const marked = () =>
		view.el.querySelector(".bt-marked")?.getAttribute("d") ?? "";
	const drag = (from: number[], to: number[], more = {}) => {
		at("pointerdown", from[0] ?? 0, from[1] ?? 0, more);
		at("pointermove", to[0] ?? 0, to[1] ?? 0, more);
		at("pointerup", to[0] ?? 0, to[1] ?? 0, more);
		return settle();
	};

	beforeEach(async () => {
		vi.spyOn(URL, "createObjectURL").mockReturnValue("blob:1");
		view = await open();
		vi.spyOn(pane(), "getBoundingClientRect").mockReturnValue(
			new DOMRect(0, 0, 40, 40),
		);
	});
	afterEach(() => {
		view.dispose();
		view.el.remove();
	});

	it("marks a patch by click, a rectangle by drag, and adds with Shift", async () => {
		await drag([1, 2], [1, 2]);
		expect(view.host.traits["patches"]).toEqual([[1, 2]]);
		await drag([1, 1], [2, 2]);
		expect(view.host.traits["patches"]).toEqual([
			[1, 1],
			[1, 2],
			[2, 1],
			[2, 2],
		]);
		await drag([3, 3], [3, 3], { shiftKey: true });
		expect(view.host.traits["patches"]).toHaveLength(5);
		await drag([1, 1], [1, 1], { shiftKey: true });
		expect(view.host.traits["patches"]).toHaveLength(4);
	});

	it("marks by keyboard", async () => {
		await key(pane(), "ArrowDown");
		await key(pane(), "ArrowRight");
		expect(view.host.traits["patches"]).toEqual([]);
		await key(pane(), "Enter");
		expect(view.host.traits["patches"]).toEqual([[1, 1]]);
		await key(pane(), "ArrowDown", { shiftKey: true });
		expect(view.host.traits["patches"]).toEqual([
			[1, 1],
			[2, 1],
		]);
		expect(pane().getAttribute("aria-label")).toBe("patch 2,1");
		await key(pane(), "Escape");
		expect(view.host.traits["patches"]).toEqual([]);
	});

	it("patches states in the image encoder's grid instead, in the layer that is selected", async () => {
		const blocks = SETUP.blocks.map((block) =>
			block.name === "image_encoder"
				? {
						...block,
						enabled: true,
						tokens: Array.from({ length: 17 }, (_, i) => `${i}`),
					}
				: block,
		);
		view.host.put("setup", { ...SETUP, blocks });
		view.host.put("block", "image_encoder");
		await settle();
		await drag([1, 0], [1, 1]);
		expect(view.host.traits["patches"]).toEqual([]);
		expect(sent("patch").at(-1)?.["cells"]).toEqual([
			[1, 5],
			[1, 6],
		]);
		view.host.confirm();
		view.host.put("selection", [[0, 3]]);
		await settle();
		await drag([3, 3], [3, 3]);
		expect(sent("patch").at(-1)?.["cells"]).toEqual([[0, 16]]);
	});

	it("patches squares of tokens where the grid is of squares", async () => {
		const blocks = SETUP.blocks.map((block) =>
			block.name === "image_encoder"
				? { ...block, enabled: true, tokens: TOKENS }
				: block,
		);
		view.host.put("setup", { ...SETUP, blocks });
		view.host.put("patch", 3);
		view.host.put("block", "image_encoder");
		await settle();
		expect(view.get("squares").textContent).toBe(" · squares of 3 × 3 tokens");
		expect(view.el.querySelectorAll(".bt-grid .bt-row").length).toBe(1 + 5);
		await drag([1, 0], [1, 3]);
		expect(sent("patch").at(-1)?.["cells"]).toEqual([
			[1, 1],
			[1, 2],
		]);
		view.host.confirm();
		view.host.put("selection", [[0, 4]]);
		await settle();
		expect(marked()).toBe("M3 3h1M3 4h1M3 3v1M4 3v1");
		view.host.put("selection", [[0, 0]]);
		await settle();
		expect(marked()).toBe("");
	});

	it("offers to damage only what is marked, or all else, or everything again", async () => {
		expect(view.find("damage-marked")).toBeNull();
		view.host.put("patches", [[0, 0]]);
		await settle();
		view.get("damage-marked").click();
		view.get("damage-others").click();
		expect(view.find("damage-all")).toBeNull();
		view.host.put("region", [[true], [false]]);
		await settle();
		view.get("damage-all").click();
		expect(sent("set_region").map(({ to }) => to)).toEqual([
			"marked",
			"others",
			"all",
		]);
		expect(view.el.querySelectorAll(".bt-hit")).toHaveLength(1);
		view.host.put("corruption", "QuestionSwap");
		await settle();
		expect(view.find("damage-all")).toBeNull();
	});

	it("shows a map with what it means, how far it is, and of a patch what is known", async () => {
		expect(view.find("overlay-legend")).toBeNull();
		view.host.put("overlay", "map_disrupt");
		view.host.put("picture_map", picture_map);
		await settle();
		expect(view.find("picture-map")).not.toBeNull();
		expect(view.get("overlay-text").textContent).toBe(MAP.text);
		expect(view.get("overlay-progress").textContent).toBe("3 of 4 · 2 s left");
		view.get("fill-overlay").click();
		expect(sent("fill_overlay").at(-1)).toMatchObject({ on: false });
		view.host.put("picture_map", { ...picture_map, left: "" });
		await settle();
		view.get("fill-overlay").click();
		expect(sent("fill_overlay").at(-1)).toMatchObject({ on: true });
		at("pointermove", 1, 1);
		await settle();
		expect(view.get("overlay-text").textContent).toBe(
			"Patch 1,1: 40 % ± 3 % of the total effect",
		);
		at("pointerleave", 1, 1);
		view.host.put("generation", 4);
		await vi.waitFor(() =>
			expect(view.get("picture-map").className).toBe("bt-old"),
		);
		view.host.put("picture_map", { ...picture_map, rows: 0 });
		await settle();
		expect(view.find("picture-map")).toBeNull();
	});

	it("shows where a token looks while its cell is pointed at, and who looks at a patch", async () => {
		view.host.put("site", "cross_attention");
		await settle();
		point(view.cell(2, 1), "pointerover");
		await settle();
		expect(sent("attention")).toMatchObject([{ layer: 2 }]);
		const weights = new Float32Array(4 * 16);
		weights[16 + 5] = 0.5;
		weights[2 * 16 + 5] = 0.25;
		const told = {
			...{ type: "attention", id: sent("attention")[0]?.["id"] },
			...{ generation: 3, layer: 2, head: null },
			...{ rows: 4, columns: 4 },
		};
		view.host.message(told, [unaligned(weights)]);
		await settle();
		expect(view.get("overlay-text").textContent).toBe(
			"Where “what” looks in layer 2",
		);
		point(view.el.querySelector("[role=grid]") as Element, "pointerleave");
		await settle();
		expect(view.find("overlay-legend")).toBeNull();
		at("pointermove", 1, 1);
		await settle();
		const looks = (row: number) =>
			view.place(row, -1).style.getPropertyValue("--bt-attention");
		expect([0, 1, 2].map(looks)).toEqual(["", "1", "0.5"]);
		expect(sent("attention")).toHaveLength(1);
		view.host.put("generation", 4);
		await settle();
		expect(looks(1)).toBe("");
		expect(sent("attention")).toHaveLength(2);
	});

	it("asks for nothing where no token looks at the picture", async () => {
		point(view.cell(2, 1), "pointerover");
		at("pointermove", 1, 1);
		await settle();
		expect(sent("attention")).toEqual([]);
	});

	it("lets cells go where patches are marked, and patches where cells are", async () => {
		view.host.put("selection", [[1, 1]]);
		await settle();
		expect(view.get("sentence").textContent).toContain("layer 1");
		await drag([1, 2], [1, 2]);
		expect(view.host.traits["patches"]).toEqual([[1, 2]]);
		expect(view.el.querySelector("[aria-selected=true]")).toBeNull();
		expect(view.get("sentence").textContent).toBe(
			"Restoring patch 1,2 of the picture …",
		);
		view.cell(1, 1).click();
		await settle();
		expect(view.el.querySelector(".bt-marked")?.getAttribute("d")).toBe("");
		expect(view.get("sentence").textContent).toContain("layer 1");
		expect([view.host.saves, sent("patch").length]).toEqual([1, 1]);
	});

	it("shows no map of another overlay", async () => {
		view.host.put("picture_map", picture_map);
		await settle();
		expect(view.find("picture-map")).toBeNull();
		view.host.put("overlay", "map_disrupt");
		await settle();
		expect(view.find("picture-map")).not.toBeNull();
		view.host.put("overlay", "map_restore");
		await settle();
		expect(view.find("picture-map")).toBeNull();
	});

	it("draws what comes after something that could not be drawn", async () => {
		const complain = vi.spyOn(console, "error").mockImplementation(() => {});
		view.host.put("runs", { clean: {}, corrupted: {}, gate: {}, bars: {} });
		await settle();
		expect(complain).toHaveBeenCalled();
		view.host.put("runs", RUNS);
		view.host.put("question", "what else?");
		await settle();
		expect(view.get<HTMLInputElement>("question").value).toBe("what else?");
		complain.mockRestore();
	});
});
