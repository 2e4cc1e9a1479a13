// @vitest-environment happy-dom
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { backTo, intoCells, type Receivers } from "../src/walk";
import { FRAME, gridOf } from "./host";
import { key, open, settle, type View } from "./view";

const state = (
	block: string,
	layer: number,
	position: number,
	site = "block_output",
	head: number | null = null,
) => ({ block, layer, position, site, head });
const WORD = state("question_encoder", 2, 1);
const HEAD = state("answer_decoder", 1, 0, "cross_attention_out", 0);
const INTO = { receivers: [WORD], path: ["answer"], into: "layer 2 at “what”" };

let view: View;
const receive = async (traits: Record<string, unknown>) => {
	for (const [name, value] of Object.entries(traits))
		view.host.put(name, value);
	await settle();
};
const cell = (layer: number, position: number) => view.cell(layer, position);
const walks = () =>
	view.host.sent
		.filter(({ type }) => type === "walk")
		.map(({ type: _, id: __, ...rest }) => rest);
const crumbs = () =>
	[...view.el.querySelectorAll('[data-testid="receiver"]')].map(
		({ textContent }) => textContent,
	);
const into = async () => {
	const { into, ...of } = INTO;
	await receive({
		...of,
		selection: [],
		grid: gridOf(3, () => 0.25, { receivers: of.receivers, into }),
	});
};

beforeEach(async () => {
	view = await open({ selection: [] });
});
afterEach(() => {
	view.dispose();
	view.el.remove();
});

describe("a walk", () => {
	it("begins at the answer or at what is selected, by a button or by P", async () => {
		view.get("paths-answer").click();
		const start = {
			block: "answer_decoder",
			site: "block_output",
			head: null,
			receivers: "answer",
			path: [],
			cells: [],
		};
		expect(walks()).toEqual([start]);
		expect(view.find("paths")).toBeNull();
		cell(0, 0).focus();
		await key(cell(0, 0), "p");
		expect(walks()).toEqual([start, start]);
		await receive({ selection: [[2, 1]] });
		view.get("paths").click();
		await key(cell(0, 0), "P");
		const next = { ...start, block: "question_encoder", receivers: [WORD] };
		expect(walks()).toEqual([start, start, next, next]);
	});

	it("is written as a line that leads back", async () => {
		await into();
		expect(crumbs()).toEqual(["answer", "layer 2 at “what”"]);
		expect(view.find("paths-answer")).toBeNull();
		view.el.querySelector<HTMLElement>('[data-testid="receiver"]')?.click();
		view.get("leave-paths").click();
		await key(cell(0, 0), "Escape");
		const back = {
			block: "question_encoder",
			site: "block_output",
			head: null,
			receivers: "answer",
			path: [],
			cells: [[2, 1]],
		};
		expect(walks()).toEqual([
			back,
			{ ...back, block: "question_encoder", receivers: null, cells: [] },
			back,
		]);
	});

	it("points out a sender at the second click or Enter, in words and, where it can, by an arrow", async () => {
		await into();
		cell(0, 3).click();
		await settle();
		await receive({ selection: [[0, 3]] });
		expect(view.get("sentence").textContent).toBe(
			"Restoring layer 0 at “?” sends 25 % ± 3 % of what the noise took directly to layer 2 at “what”.",
		);
		expect(view.find("share")).toBeNull();
		const before = view.host.sent.length;
		cell(0, 3).click();
		await settle();
		expect(view.host.sent.length).toBe(before);
		expect(view.host.get("arrow")).toBe(true);
		expect(view.get("share").textContent).toBe(
			"layer 0 at “?” → layer 2 at “what”: 25 % ± 3 %",
		);
		expect(view.find("arrow")).not.toBeNull();
		cell(0, 3).focus();
		await settle();
		await key(cell(0, 3), "Enter");
		expect(view.host.get("arrow")).toBe(false);
		expect(view.find("arrow")).toBeNull();
	});

	it("goes on to the picture from a state that can see it", async () => {
		expect(view.find("from-picture")).toBeNull();
		await into();
		view.get("from-picture").click();
		await settle();
		expect(view.host.get("overlay")).toBe("map_paths");
		expect(view.get("from-picture").getAttribute("aria-pressed")).toBe("true");
		view.get("from-picture").click();
		expect(view.host.get("overlay")).toBe("none");
	});
});

describe("a step", () => {
	const size = [3, 3] as const;

	it("into an attention to the question shows the question's states", () => {
		const of = { ...FRAME, ...HEAD };
		const now = { receivers: "answer", path: [] as Receivers[] };
		const next = intoCells(of, now, [[1, 0]], size);
		expect(next).toMatchObject({
			block: "question_encoder",
			site: "block_output",
			head: null,
			receivers: [HEAD],
			path: ["answer"],
		});
		const mlp = { ...of, site: "mlp", head: null };
		expect(intoCells(mlp, now, [[1, 0]], size).block).toBe("answer_decoder");
	});

	it("back shows the grid in which the receiver was chosen", () => {
		const walked = { receivers: [WORD], path: ["answer", [HEAD]] };
		expect(backTo(FRAME, walked, 1, size)).toEqual({
			block: "answer_decoder",
			site: "cross_attention_out",
			head: 0,
			receivers: "answer",
			path: [],
			cells: [[1, 0]],
		});
		expect(backTo(FRAME, walked, 2, size).receivers).toEqual([HEAD]);
	});

	it("of a square of image tokens is a step of all of them", () => {
		const of = { ...FRAME, block: "image_encoder", patch: 2 };
		const now = { receivers: null, path: [] };
		const next = intoCells(of, now, [[0, 1]], size);
		expect(next.receivers).toHaveLength(4);
		const walked = { receivers: next.receivers, path: [] };
		expect(backTo(of, walked, 0, size).cells).toEqual([[0, 1]]);
		expect(backTo(FRAME, walked, 0, size).cells).toEqual([]);
	});
});
