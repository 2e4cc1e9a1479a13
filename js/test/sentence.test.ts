import { describe, expect, it } from "vitest";
import { type Cell, viewCells } from "../src/cells";
import type { Gate } from "../src/protocol";
import {
	cellLabel,
	layersName,
	type Outcome,
	outcomeSentence,
	pendingSentence,
	tokenName,
	toText,
} from "../src/sentence";
import { wordsOf } from "../src/words";
import { FRAME, gridOf, LAYERS, LOOK, TOKENS } from "./host";

const WORDS = wordsOf(LOOK);

const OUTCOME: Outcome = {
	cells: [[1, 2]],
	patches: [],
	direction: "restore",
	window: 1,
	site: "block_output",
	head: null,
	tokens: TOKENS,
	layers: LAYERS,
	metric: "probability",
	cause: "noise",
	indirect_effect: 0.47,
	margin: 0.03,
	recovery: 0.58,
	recovery_margin: 0.04,
	negligible: false,
	error: "",
};

const say = (change: Partial<Outcome>, gate?: Gate) =>
	toText(outcomeSentence({ ...OUTCOME, ...change }, gate, WORDS));

describe("the sentence", () => {
	it("says what one restored state brings back", () => {
		expect(say({})).toBe(
			"Restoring layer 1 at “color” brings back 58 % ± 4 % of what the noise took.",
		);
	});

	it("puts the place and the number in bold", () => {
		const bold = outcomeSentence(OUTCOME, undefined, WORDS).filter(
			(p) => p.bold,
		);
		expect(bold.map(({ text }) => text)).toEqual([
			"layer 1",
			"“color”",
			"58 % ± 4 %",
		]);
	});

	it("counts the states of a set", () => {
		const cells = [
			[0, 0],
			[0, 1],
			[1, 1],
		] as const;
		expect(say({ cells })).toMatch(/^Restoring these 3 states brings back/);
	});

	it("speaks of damage where states are disrupted", () => {
		expect(say({ direction: "disrupt" })).toBe(
			"Damaging layer 1 at “color” costs 58 % ± 4 % of the total effect.",
		);
	});

	it("turns a negative recovery into words", () => {
		expect(say({ indirect_effect: -0.47, recovery: -0.58 })).toContain(
			"takes away a further 58 % ± 4 % of what the noise took.",
		);
	});

	it("says where an effect cannot be told from 0", () => {
		expect(say({ recovery: 0.012, negligible: true })).toContain(
			"brings back 1 % ± 4 % of what the noise took, not distinguishable from 0.",
		);
		expect(say({ recovery: -0.012, negligible: true })).toContain(
			"brings back −1 % ± 4 %",
		);
		// What would be shown as 0 takes nothing away.
		expect(say({ recovery: -1e-5, recovery_margin: null })).toContain(
			"brings back 0.0 %",
		);
	});

	it("gives score points and the reason where recovery is not defined", () => {
		const gate = { open: false, text: "the noise did not break the answer" };
		expect(say({ recovery: null }, gate)).toBe(
			"Restoring layer 1 at “color” changes the score by 47 ± 3 points. Recovery is not shown: the noise did not break the answer.",
		);
		expect(say({ recovery: null, direction: "disrupt" })).toContain(
			"changes the score by −47 ± 3 points",
		);
	});

	it("names the part of a layer and the layers of a window", () => {
		expect(say({ site: "mlp", window: 3 })).toContain(
			"Restoring layers 0–2 (MLP) at",
		);
		expect(say({ site: "self_attention", head: 0 })).toContain(
			"Restoring layer 1 (self-attention head 0) at",
		);
	});

	it("names the patches of the picture", () => {
		expect(say({ cells: [], patches: [[2, 3]] })).toContain(
			"Restoring patch 2,3 of the picture brings back 58 %",
		);
		const two = [
			[2, 3],
			[2, 4],
		] as const;
		expect(say({ cells: [], patches: two })).toContain(
			"Restoring these 2 patches of the picture brings back",
		);
	});

	it("names what took the answer away", () => {
		expect(say({ cause: "other picture" })).toContain(
			"of what the other picture took.",
		);
	});
});

it("says what is being asked while the numbers are on their way", () => {
	expect(toText(pendingSentence(OUTCOME, WORDS))).toBe(
		"Restoring layer 1 at “color” …",
	);
});

it("clips a window to the block", () => {
	expect(layersName(5, 1, 12)).toBe("layer 5");
	expect(layersName(5, 4, 12)).toBe("layers 3–6");
	expect(layersName(0, 3, 12)).toBe("layers 0–1");
	expect(layersName(11, 3, 12)).toBe("layers 10–11");
});

it("tells tokens apart that occur twice", () => {
	expect(tokenName(["a", "b", "a"], 2)).toBe("“a” (token 2)");
	expect(tokenName(["a", "b", "a"], 1)).toBe("“b”");
});

describe("a cell's label", () => {
	const grid = gridOf(1, (layer) => (layer === 2 ? Number.NaN : 0.3 * layer), {
		constructed: [[1, 0]],
	});
	const view = viewCells(FRAME, grid, new Map(), 2, () => false);
	const label = (layer: number, position: number) =>
		cellLabel(
			view.rows[position]?.[layer] as Cell,
			TOKENS,
			"probability",
			"recovery",
			wordsOf(LOOK),
		);

	it("gives the place, the value and what is special", () => {
		expect(label(1, 1)).toBe(
			"layer 1, what: recovery 30 % ± 3 %; value for earlier settings",
		);
		expect(label(0, 1)).toContain("not distinguishable from 0");
		expect(label(1, 0)).toContain("1 by construction");
		expect(label(2, 1)).toBe("layer 2, what; not computed: click to patch it");
	});
});
