// @vitest-environment happy-dom
import { afterEach, expect, it } from "vitest";
import { DIFFERENCE_FIELDS } from "../src/protocol";
import { gridOf, LAYERS, TOKENS, unaligned } from "./host";
import { open, point, settle, type, type View } from "./view";

const SETTINGS = {
	block: "question_encoder",
	site: "block_output",
	head: null,
	direction: "restore",
	window: 1,
	patch: 1,
};
const NAN = Number.NaN;

/** A difference that rises with the layer, not told from 0 in its first; the last token was computed in one grid alone. */
function told(more: object = {}) {
	const cells = Array.from({ length: LAYERS * TOKENS.length }, (_, i) =>
		i % TOKENS.length === 3 ? NAN : Math.floor(i / TOKENS.length),
	);
	const known = (number: number) =>
		cells.map((layer) => (Number.isNaN(layer) ? NAN : number));
	const fields: Record<(typeof DIFFERENCE_FIELDS)[number], number[]> = {
		score: cells.map((layer) => -0.2 * layer),
		score_margin: known(0.01),
		score_significant: known(1),
		indirect_effect: cells.map((layer) => 0.2 * layer),
		margin: known(0.02),
		significant: known(0),
		recovery: cells.map((layer) => 0.25 * layer),
		recovery_margin: known(0.03),
		recovery_significant: cells.map((layer) =>
			Number.isNaN(layer) ? NAN : Number(layer > 0),
		),
	};
	return {
		generation: 3,
		...SETTINGS,
		text: "ν 5 − ν 3",
		undefined: "",
		values: unaligned(DIFFERENCE_FIELDS.flatMap((name) => fields[name])),
		agreement: "",
		apart: [],
		...more,
	};
}

const compared = (...differences: object[]) => ({
	compared: { kept: "layer output · ν 3.0", differences },
	difference: true,
});

let view: View;
afterEach(() => {
	view.dispose();
	view.el.remove();
});

const text = (testid: string) => view.get(testid).textContent;
const caption = () => view.el.querySelector(".bt-top > p")?.textContent;

it("shows nothing of it until a grid is kept, which is asked for under More", async () => {
	view = await open();
	expect(view.find("compared")).toBeNull();
	expect(view.find("compare")).toBeNull();
	view.get("more").click();
	await settle();
	view.get("compare").click();
	expect(view.host.sent.at(-1)).toMatchObject({ type: "compare", on: true });
});

it("shows the difference in place of the values, with a scale and dots of its own", async () => {
	view = await open({ ...compared(told()), limit: 0.9 });
	expect(caption()).toBe("Difference of recovery");
	expect(text("compared")).toContain("ν 5 − ν 3");
	expect(view.cell(2, 0).dataset["value"]).toBe("0.5");
	expect(view.cell(2, 0).textContent).toBe("");
	expect(view.cell(0, 0).textContent).toBe("•");
	expect(text("limits")).toBe("−0.5 … 0.5");
	expect(view.find("fix-scale")).toBeNull();
	const legend = view.el.querySelector(".bt-legend")?.textContent;
	for (const said of ["less", "more", "difference of recovery of probability"])
		expect(legend).toContain(said);
});

it("marks what each quantity's own test says, on a diverging scale for scores too", async () => {
	view = await open({ ...compared(told()), show: "score" });
	expect(view.cell(0, 0).textContent).toBe("");
	expect(text("limits")).toBe("−0.4 … 0.4");
	await type(view.get<HTMLSelectElement>("show"), "indirect_effect", "change");
	expect(view.cell(2, 0).textContent).toBe("•");
});

it("names both grids in the tooltip and to a screen reader", async () => {
	view = await open(compared(told()));
	expect(view.cell(1, 2).getAttribute("aria-label")).toBe(
		"layer 1, color: recovery 25 ± 3 points; ν 5 − ν 3",
	);
	expect(view.cell(1, 3).getAttribute("aria-label")).toBe(
		"layer 1, ?; ν 5 − ν 3; not computed in both grids",
	);
	point(view.cell(1, 2), "pointerover");
	await settle();
	const tip = view.el.querySelector(".bt-tooltip")?.textContent;
	expect(tip).toContain("score−20 ± 1 points");
	expect(tip).toContain("ν 5 − ν 3");
});

it("hatches what either grid lacks, and dims what is older than the inputs", async () => {
	view = await open({ ...compared(told()), generation: 4 });
	expect(view.cell(1, 1).dataset["state"]).toBe("old");
	expect(view.cell(1, 3).dataset["state"]).toBe("empty");
});

it("goes back to the values and forth, by keys too, and lets the kept grid go", async () => {
	view = await open(compared(told()));
	const button = view.get("difference");
	expect(button.getAttribute("aria-pressed")).toBe("true");
	button.click();
	await settle();
	expect(view.host.traits["difference"]).toBe(false);
	expect(view.cell(2, 0).dataset["value"]).toBe("0.4");
	expect(caption()).toBe("How much each state brings back");
	view.get("let-go").click();
	expect(view.host.sent.at(-1)).toMatchObject({ type: "compare", on: false });
	view.host.put("compared", {});
	await settle();
	expect(view.find("compared")).toBeNull();
});

it("says why two grids cannot be compared, and shows the plain one", async () => {
	const text_ = "Not comparable with that: another block";
	view = await open(
		compared(told({ text: text_, values: new DataView(new ArrayBuffer(0)) })),
	);
	expect(text("compared")).toContain(text_);
	expect(view.cell(2, 0).dataset["value"]).toBe("0.4");
	expect(caption()).toBe("How much each state brings back");
});

it("says what is kept where nothing is known of the grid in view", async () => {
	const mlp = { ...SETTINGS, site: "mlp" };
	view = await open({ ...compared(told(mlp)) });
	expect(text("compared")).toContain("Kept to compare with: layer output");
	expect(view.cell(2, 0).dataset["value"]).toBe("0.4");
	view.host.put(
		"grid",
		gridOf(3, () => 0.1, { site: "mlp" }),
	);
	view.host.put("site", "mlp");
	await settle();
	expect(view.cell(2, 0).dataset["value"]).toBe("0.5");
});

it("says why there is no difference of recoveries", async () => {
	view = await open(compared(told({ undefined: "of the first: too small" })));
	expect(text("compared")).toContain("of the first: too small");
});

it("leaves the sentence to the values", async () => {
	view = await open({ ...compared(told()), selection: [[2, 1]] });
	expect(text("sentence")).toContain("brings back 40 % ± 3 %");
});

it("cannot be asked for without a kernel, but looked at", async () => {
	view = await open(compared(told()));
	view.host.lose();
	await settle();
	expect(view.get("let-go").closest("fieldset")?.disabled).toBe(true);
	view.get("difference").click();
	await settle();
	expect(view.cell(2, 0).dataset["value"]).toBe("0.4");
});

const AGREEMENT =
	"Also under ν 3: rank correlation 0.5 · 1 of 12 cells disagrees";
const also = () => told({ agreement: AGREEMENT, apart: [[1, 2]] });

it("asks for the grid under another corruption under More", async () => {
	view = await open();
	view.get("more").click();
	await settle();
	const menu = view.get<HTMLSelectElement>("also");
	expect([...menu.options].slice(1).map(({ value }) => value)).toEqual([
		"other seed",
		"ablation",
	]);
	const before = view.host.sent.length;
	await type(menu, "ablation", "change");
	expect(view.host.sent.slice(before)).toMatchObject([
		{ type: "also_under", under: "ablation" },
	]);
	expect(menu.selectedIndex).toBe(0);
	view.host.lose();
	await settle();
	expect(menu.closest("fieldset[disabled]")).not.toBeNull();
});

it("outlines the cells that disagree, on values and on differences, and says so", async () => {
	view = await open({ ...compared(also()), difference: false });
	const outlined = () =>
		[...view.el.querySelectorAll<HTMLElement>("[data-apart]")].map(
			({ dataset }) => [dataset["layer"], dataset["position"]],
		);
	expect(text("compared")).toContain(AGREEMENT);
	expect(text("compared")).not.toContain("ν 5 − ν 3");
	expect(outlined()).toEqual([["1", "2"]]);
	expect(view.cell(1, 2).getAttribute("aria-label")).toContain(
		"not so under the other damage",
	);
	view.get("difference").click();
	await settle();
	expect(text("compared")).toContain(`ν 5 − ν 3 · ${AGREEMENT}`);
	expect(outlined()).toEqual([["1", "2"]]);
	view.host.put("compared", compared(told()).compared);
	await settle();
	expect(outlined()).toEqual([]);
});
