// @vitest-environment happy-dom
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { heldCells, toggled, withWord } from "../src/holds";
import { DETAIL, FRAME, gridOf, SETUP } from "./host";
import { key, open, settle, type View } from "./view";

const at = (layer: number, position: number) => ({
	block: "question_encoder",
	layer,
	position,
	site: "block_output",
	head: null,
});
const HELD = { held: "layer 2 at “what”", kept: "noisy" };
const MLPS = { held: "the later MLPs there", kept: "noisy" };

let view: View;
const cell = (layer: number, position: number) => view.cell(layer, position);
const place = (row: number, column: number) => view.place(row, column);
const hold = () => view.host.get("hold");
const locks = () =>
	[...view.el.querySelectorAll<HTMLElement>("[data-lock]")].map(
		({ dataset: { row, column } }) => [Number(row), Number(column)],
	);
const altClick = async (target: HTMLElement) => {
	target.dispatchEvent(
		new MouseEvent("click", { bubbles: true, altKey: true }),
	);
	await settle();
};
const button = (text: string) =>
	[...view.el.querySelectorAll("button")].find(({ textContent }) =>
		textContent?.includes(text),
	);

beforeEach(async () => {
	view = await open();
});
afterEach(() => {
	view.dispose();
	view.el.remove();
});

describe("a lock", () => {
	it("is set and let go by Alt-click or L, and nothing is patched by that", async () => {
		await altClick(cell(2, 1));
		expect(hold()).toEqual([at(2, 1)]);
		expect(locks()).toEqual([[1, 2]]);
		expect(cell(2, 1).dataset["held"]).toBe("true");
		cell(0, 0).focus();
		await key(cell(0, 0), "l");
		await key(cell(0, 0), "L", { repeat: true });
		expect(hold()).toEqual([at(0, 0), at(2, 1)]);
		await key(cell(0, 0), "L");
		await altClick(cell(2, 1));
		expect(hold()).toEqual([]);
		expect(locks()).toEqual([]);
		expect(view.host.sent.filter(({ type }) => type === "patch")).toEqual([]);
		await key(cell(0, 0), "l", { ctrlKey: true });
		expect(hold()).toEqual([]);
	});

	it("of a header is of its whole row or column, and drawn there", async () => {
		await altClick(cell(1, 1));
		await altClick(place(1, -1));
		expect(hold()).toEqual([at(0, 1), at(1, 1), at(2, 1)]);
		expect(locks()).toEqual([[1, -1]]);
		place(-1, 0).focus();
		await settle();
		await key(place(-1, 0), "l");
		expect(locks()).toEqual([
			[-1, 0],
			[1, -1],
		]);
		expect(view.get("held").textContent).toBe(
			"Held noisy:layer 0, all tokens ×“what”, all layers ×Unlock all",
		);
		expect(place(1, -1).getAttribute("aria-label")).toBe("what, held");
		expect(place(-1, 0).getAttribute("aria-label")).toBe("0, held");
		await altClick(place(1, -1));
		expect(locks()).toEqual([
			[0, 0],
			[2, 0],
			[3, 0],
		]);
	});

	it("counts a state once that is of a row and of a column", async () => {
		const states = (layers: number[], tokens: number[]) =>
			layers.flatMap((layer) => tokens.map((token) => at(layer, token)));
		view.host.put("hold", states([0, 1, 2], [0, 1, 2, 3]));
		await settle();
		expect(view.get("held").textContent).not.toContain("more");
		view.host.put("hold", states([0, 1], [0, 1, 2]));
		await settle();
		expect(view.get("held").textContent).toContain("and 2 more");
	});

	it("is in the list, in words for who cannot see it, and goes from there", async () => {
		view.host.put("hold", ["mlp", "everywhere", at(2, 1)]);
		await settle();
		const line = view.get("held");
		expect(line.textContent).toContain("Held noisy:");
		expect(line.textContent).toContain("layer 2 at “what”");
		const heard = () =>
			[...view.el.querySelectorAll("[role=status]")].map((e) => e.textContent);
		expect(heard()).toContain("held noisy: hold mlp, layer 2 at “what”");
		button("layer 2 at “what”")?.click();
		await settle();
		expect(hold()).toEqual(["mlp", "everywhere"]);
		view.get("unlock-all").click();
		await settle();
		expect(hold()).toEqual([]);
		expect(view.find("held")).toBeNull();
		expect(heard()).toContain("nothing is held");
	});

	it("of words is chosen under More", async () => {
		view.get("more").click();
		await settle();
		const press = async (name: string) => {
			const chip = [...view.get("hold").querySelectorAll("button")].find(
				({ textContent }) => textContent === name,
			);
			chip?.click();
			await settle();
		};
		await press("hold everywhere");
		expect(hold()).toEqual([]);
		await press("hold mlp");
		await press("hold everywhere");
		expect(hold()).toEqual(["mlp", "everywhere"]);
		await press("hold mlp");
		expect(hold()).toEqual([]);
	});

	it("without a kernel changes to what is there, else it says that a kernel is needed", async () => {
		view.host.put("setup", { ...SETUP, closed: "a recording" });
		view.host.put("grids", [
			gridOf(3, () => 0.5, { hold: [at(2, 1)], ...HELD }),
		]);
		await settle();
		await altClick(cell(2, 1));
		expect(hold()).toEqual([at(2, 1)]);
		expect(cell(0, 0).dataset["value"]).toBe("0.5");
		await altClick(cell(0, 0));
		expect(hold()).toEqual([at(2, 1)]);
		expect(view.host.get("error")).toBe("hold: a recording");
	});
});

describe("the sentence", () => {
	const text = () => view.get("sentence").textContent;

	it("has the kernel's numbers without and with what is held", async () => {
		const info = {
			phrase: MLPS.held,
			kept: "noisy",
			itself: false,
			dead: false,
		};
		const free = { ...DETAIL, recovery: 0.25, recovery_margin: 0.01 };
		view.host.put("hold", ["mlp"]);
		view.host.put(
			"grid",
			gridOf(3, () => 0.58, { hold: ["mlp"], ...MLPS }),
		);
		view.host.put("selection", [[2, 1]]);
		view.host.put("detail", { ...DETAIL, hold: ["mlp"], held: info, free });
		await settle();
		expect(text()).toBe(
			"Restoring layer 2 at “what” brings back 25 % ± 1 % of what the noise took; with the later MLPs there held noisy, 58 % ± 4 %.",
		);
	});

	it("reads both off the grids where the kernel said nothing", async () => {
		const grid = view.host.get("grid");
		view.host.put("hold", ["mlp"]);
		view.host.put("selection", [[2, 1]]);
		view.host.put(
			"grid",
			gridOf(3, () => 0.1, { hold: ["mlp"], ...MLPS }),
		);
		await settle();
		expect(text()).toBe(
			"With the later MLPs there held noisy, restoring layer 2 at “what” brings back 10 % ± 3 % of what the noise took.",
		);
		view.host.put("grids", [grid]);
		await settle();
		expect(text()).toContain("brings back 40 % ± 3 %");
		expect(text()).toContain("held noisy, 10 % ± 3 %.");
	});

	it("says of a cell that is held itself that it is not patched", async () => {
		view.host.put("hold", [at(2, 1)]);
		view.host.put("selection", [[2, 1]]);
		const more = {
			hold: [at(2, 1)],
			...HELD,
			dead: [[2, 1]] as [number, number][],
		};
		view.host.put(
			"grid",
			gridOf(3, () => 0, more),
		);
		await settle();
		expect(text()).toBe(
			"Layer 2 at “what” is held noisy itself: it is not patched.",
		);
		expect(cell(2, 1).dataset["dead"]).toBe("true");
	});
});

it("of a square of image tokens is of all of them", () => {
	const frame = { ...FRAME, block: "image_encoder", patch: 2, layers: 2 };
	const tokens = ["[CLS]", "0-1,0-1", "0-1,2-3"];
	const of = { ...frame, tokens };
	const held = toggled(of, [], [[1, 2]], [2, 4]);
	expect(held.map((state) => Object(state).position)).toEqual([3, 4, 7, 8]);
	expect([...heldCells({ ...of, hold: [...held] }, [2, 4])]).toEqual(["1,2"]);
	expect(heldCells({ ...of, hold: held.slice(1) }, [2, 4]).size).toBe(0);
	expect(toggled(of, held, [[1, 2]], [2, 4])).toEqual([]);
	expect(withWord(["mlp", ...held], "self_attention_out").slice(0, 2)).toEqual([
		"mlp",
		"self_attention_out",
	]);
});
