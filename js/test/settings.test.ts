// @vitest-environment happy-dom
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { TOKENS } from "./host";
import { key, open, settle, type, type View } from "./view";

let view: View;
const trait = (name: string) => view.host.traits[name];
const put = async (name: string, value: unknown) => {
	view.host.put(name, value);
	await settle();
};
const choose = (testid: string, value: string) =>
	type(view.get<HTMLSelectElement>(testid), value, "change");
const options = (testid: string) =>
	[...view.get<HTMLSelectElement>(testid).options].map(({ value }) => value);
const more = async () => {
	view.get("more").click();
	await settle();
};

beforeEach(async () => {
	view = await open();
});
afterEach(() => {
	view.dispose();
	view.el.remove();
});

describe("the settings", () => {
	it("go to the kernel as they are chosen", async () => {
		await choose("site", "mlp");
		expect(trait("site")).toBe("mlp");
		await choose("show", "score");
		expect(trait("show")).toBe("score");
		expect(view.find("metric")).toBeNull();
		await more();
		for (const [name, value] of [
			["direction", "disrupt"],
			["metric", "log_probability"],
			["axes", "layers"],
			["kind", "additive"],
			["at", "patch_embeddings"],
			["corruption", "QuestionSwap"],
		] as const) {
			await choose(name, value);
			expect(trait(name)).toBe(value);
		}
		expect(view.host.saves).toBe(8);
	});

	it("offer the sites of the block", async () => {
		expect(options("site")).toContain("cross_attention");
		await put("block", "image_encoder");
		expect(options("site")).toEqual(["block_output", "self_attention", "mlp"]);
	});

	it("commit numbers when they are finished, inside their limits", async () => {
		await more();
		const field = view.get<HTMLInputElement>("samples");
		await type(field, "400");
		expect(trait("samples")).toBe(10);
		await key(field, "Enter");
		expect(trait("samples")).toBe(200);
		await type(field, "");
		await key(field, "Enter");
		expect(trait("samples")).toBe(200);
		expect(field.value).toBe("200");
		await type(view.get<HTMLInputElement>("window"), "9");
		await key(view.get("window"), "Enter");
		expect(trait("window")).toBe(3);
	});

	it("set the squares of the image encoder's tokens, which no other block has", async () => {
		await more();
		expect(view.find("patch")).toBeNull();
		await put("block", "image_encoder");
		await type(view.get<HTMLInputElement>("patch"), "9");
		await key(view.get("patch"), "Enter");
		expect(trait("patch")).toBe(4);
	});

	it("choose a block, but not one that cannot be traced", () => {
		const closed = view.get("block-image_encoder");
		expect(closed.getAttribute("aria-disabled")).toBe("true");
		expect(closed.getAttribute("aria-description")).toBe(
			"the noise lies behind it",
		);
		closed.click();
		expect(trait("block")).toBe("question_encoder");
		view.get("block-answer_decoder").click();
		expect(trait("block")).toBe("answer_decoder");
	});

	it("choose an example", async () => {
		expect(view.get("example").textContent).toContain("Example…");
		await choose("example", "1");
		expect(trait("example")).toBe(1);
	});

	it("say what they mean while they are pointed at", async () => {
		await more();
		const said = () => view.el.querySelector(".bt-explain")?.textContent;
		view.get("window").focus();
		await settle();
		expect(said()).toBe("How many layers are patched together.");
		view.get("window").blur();
		await settle();
		expect(said()).toBe("Point at a setting to read what it means.");
	});
});

describe("the head", () => {
	it("can be chosen of an attention alone", async () => {
		await more();
		expect(options("head")).toEqual(["all"]);
		await put("site", "self_attention");
		expect(options("head")).toEqual(["all", "0", "1", "2", "3"]);
		await put("block", "image_encoder");
		expect(options("head")).toEqual(["all", "0", "1"]);
		await put("site", "mlp");
		expect(options("head")).toEqual(["all"]);
	});

	it("is a number, or null for all together", async () => {
		await more();
		await put("site", "self_attention");
		await choose("head", "0");
		expect(trait("head")).toBe(0);
		expect(view.get<HTMLSelectElement>("head").value).toBe("0");
		await choose("head", "all");
		expect(trait("head")).toBeNull();
	});

	it("ends what was under way for another one", async () => {
		view.get("trace-all").click();
		await settle();
		expect(view.find("stop")).not.toBeNull();
		await put("head", 1);
		expect(view.find("stop")).toBeNull();
	});
});

describe("the foil", () => {
	it("is committed with Enter, and taken back with Escape", async () => {
		await more();
		const field = view.get<HTMLInputElement>("foil");
		await type(field, " green ");
		expect(trait("foil")).toBe("");
		await key(field, "Escape");
		expect(field.value).toBe("");
		await type(field, " green ");
		await key(field, "Enter");
		expect(trait("foil")).toBe("green");
		await type(field, "");
		await key(field, "Enter");
		expect(trait("foil")).toBe("");
		expect(view.host.saves).toBe(2);
	});
});

describe("the corruption", () => {
	const PARTS = [
		"noise-slider",
		"scale-slider",
		"choose-other-picture",
		"other-question",
		"to",
	];

	it.each([
		["GaussianNoise", "noise-slider"],
		["Scale", "scale-slider"],
		["ImageSwap", "choose-other-picture"],
		["QuestionSwap", "other-question"],
		["MeanAblation", "to"],
	])("%s asks for its own one thing", async (name, part) => {
		await more();
		await put("corruption", name);
		expect(PARTS.filter((testid) => view.find(testid) !== null)).toEqual([
			part,
		]);
		for (const testid of ["kind", "samples", "seed"])
			expect(view.find(testid) !== null).toBe(name === "GaussianNoise");
	});

	it.each([
		["GaussianNoise", 3],
		["Scale", 2],
		["ImageSwap", 2],
		["QuestionSwap", 0],
		["MeanAblation", 2],
	])("%s is done where it can be done", async (name, places) => {
		await more();
		await put("corruption", name);
		expect(view.find("at") === null ? [] : options("at")).toHaveLength(places);
	});

	it("takes a factor, beyond the slider's end too", async () => {
		await put("corruption", "Scale");
		const field = view.get<HTMLInputElement>("scale-number");
		expect(field.value).toBe("0.7691");
		await type(field, "3.5");
		await key(field, "Enter");
		expect(trait("scale")).toBe(3.5);
	});

	it("takes words of the question, all of them where none is left", async () => {
		await more();
		expect(view.find("positions")).toBeNull();
		await put("at", "question_embeddings");
		const chips = () => [...view.get("positions").querySelectorAll("button")];
		const pressed = () =>
			chips().map((chip) => chip.getAttribute("aria-pressed") === "true");
		expect(chips().map((chip) => chip.textContent)).toEqual(TOKENS);
		expect(pressed()).not.toContain(false);
		chips()[1]?.click();
		await settle();
		const rest = [...TOKENS.keys()].filter((at) => at !== 1);
		expect(trait("positions")).toEqual(rest);
		expect(pressed()[1]).toBe(false);
		await put("positions", [2]);
		chips()[2]?.click();
		await settle();
		expect(trait("positions")).toBeNull();
		expect(view.find("damage-marked")).toBeNull();
	});

	it("takes another question when it is asked with Enter", async () => {
		await put("corruption", "QuestionSwap");
		const field = view.get<HTMLInputElement>("other-question");
		await type(field, "what shape ?");
		expect(trait("other_question")).toBe("");
		await key(field, "Enter");
		expect(trait("other_question")).toBe("what shape ?");
		await put("other_question", "how many ?");
		expect(field.value).toBe("how many ?");
	});

	it("takes what image tokens are set to", async () => {
		await put("corruption", "MeanAblation");
		expect(options("to")).toEqual(["mean", "zero"]);
		await choose("to", "zero");
		expect(trait("to")).toBe("zero");
	});

	it("shows the other picture", async () => {
		const png = new DataView(Uint8Array.of(0x89, 0x50).buffer);
		view.host.put("other_picture", png);
		await put("corruption", "ImageSwap");
		const [own, other] = view.el.querySelectorAll("img");
		expect(own?.alt).toBe("What is asked about");
		expect(other?.alt).toBe("other picture");
	});
});

describe("the strength of what is selected", () => {
	it("needs a cell, and says what the clean run answers then", async () => {
		await more();
		const slider = () => view.get<HTMLInputElement>("strength-slider");
		expect(slider().disabled).toBe(true);
		expect(view.get("ablation").textContent).toBe("Select a cell first.");
		await put("selection", [[2, 1]]);
		expect(slider().disabled).toBe(false);
		slider().value = "0.5";
		slider().dispatchEvent(new Event("input", { bubbles: true }));
		await settle();
		expect(trait("strength")).toBe(0.5);
		const found = {
			generation: 3,
			block: "question_encoder",
			site: "block_output",
			head: null,
			window: 1,
			cells: [[2, 1]],
			strength: 0.5,
			answer: "blue",
			score: 0.4,
			text: "“blue”, 40 % (untouched 93 %)",
		};
		await put("ablation", found);
		expect(view.get("ablation").textContent).toBe(found.text);
		expect(view.get("ablation").className).not.toContain("bt-old");
		await put("strength", 2);
		expect(view.get("ablation").className).toContain("bt-old");
	});
});

describe("taking back", () => {
	const closed = () =>
		["undo", "redo"].map((name) =>
			view.get(name).getAttribute("aria-disabled"),
		);

	it("is possible where there is something to take back", async () => {
		expect(closed()).toEqual(["true", "true"]);
		view.get("undo").click();
		view.get("redo").click();
		expect(view.host.sent).toHaveLength(1);
		await put("steps", { undo: true, redo: false });
		expect(closed()).toEqual(["false", "true"]);
		view.get("undo").click();
		expect(view.host.sent.at(-1)).toMatchObject({ type: "undo" });
		await put("steps", { undo: false, redo: true });
		expect(closed()).toEqual(["true", "false"]);
		view.get("undo").click();
		view.get("redo").click();
		expect(view.host.sent.at(-1)).toMatchObject({ type: "redo" });
		expect(view.host.sent).toHaveLength(3);
	});
});
