// What is held, as the grid in view shows it: which of its cells are, and what a lock on some of them changes. Pure
// functions; what is held is words for sites above what is patched, and single states.

import { key, type ViewOf } from "./cells";
import { patchesOf } from "./patches";
import type { StateInfo } from "./protocol";
import type { CellIndex } from "./traits";

export type Hold = readonly (string | StateInfo)[];
type Size = readonly [rows: number, columns: number];

/** The words that hold a site above what is patched, in the kernel's order. */
export const WORDS = ["mlp", "self_attention_out", "cross_attention_out"];
/** Beside these: at all positions, not only the patched one. */
export const EVERYWHERE = "everywhere";

const nameOf = ({ block, layer, position, site, head }: StateInfo) =>
	[block, layer, position, site, head].join();

export const statesIn = (hold: Hold): StateInfo[] =>
	hold.filter((item) => typeof item !== "string");
export const wordsIn = (hold: Hold): string[] =>
	hold.filter((item) => typeof item === "string");

/** The states that a cell stands for in its own layer: one, or a square of image tokens. */
export function statesOf(view: ViewOf, [layer, column]: CellIndex, size: Size) {
	const { block, site, head, patch } = view;
	const square = patch > 1 ? patchesOf(column, patch, size) : [];
	const tokens = square.map(([row, at]) => 1 + row * size[1] + at);
	return (tokens.length > 0 ? tokens : [column]).map(
		(position): StateInfo => ({ block, layer, position, site, head }),
	);
}

/** The cells of a grid that are held, by `key`. */
export function heldCells(
	view: ViewOf & {
		readonly layers: number;
		readonly tokens: readonly unknown[];
	},
	size: Size,
): ReadonlySet<string> {
	const held = new Set(statesIn(view.hold).map(nameOf));
	const found = new Set<string>();
	for (let layer = 0; held.size > 0 && layer < view.layers; layer++)
		for (let column = 0; column < view.tokens.length; column++) {
			const states = statesOf(view, [layer, column], size);
			if (states.every((state) => held.has(nameOf(state))))
				found.add(key(layer, column));
		}
	return found;
}

/** Some cells held too, or let go if all of them are. */
export function toggled(
	view: ViewOf,
	hold: Hold,
	cells: readonly CellIndex[],
	size: Size,
): Hold {
	const states = cells.flatMap((cell) => statesOf(view, cell, size));
	const held = new Set(statesIn(hold).map(nameOf));
	const more = states.filter((state) => !held.has(nameOf(state)));
	return more.length > 0
		? [...wordsIn(hold), ...[...statesIn(hold), ...more].sort(inOrder)]
		: without(hold, states);
}

const BLOCKS = ["image_encoder", "question_encoder", "answer_decoder"];

/** The kernel's order, so that it has nothing to send back, which might be older than what was chosen meanwhile. */
function inOrder(a: StateInfo, b: StateInfo): number {
	return (
		BLOCKS.indexOf(a.block) - BLOCKS.indexOf(b.block) ||
		a.layer - b.layer ||
		a.position - b.position ||
		Number(a.site > b.site) - Number(a.site < b.site) ||
		(a.head ?? 0) - (b.head ?? 0)
	);
}

/** Held states that belong together: a whole layer, all of a token, or one state. */
export interface Held {
	readonly states: readonly StateInfo[];
	/** Which of its axes is whole. */
	readonly all: "tokens" | "layers" | null;
}

/** The held states by whole rows and columns, which may share a state, and what is left one by one. */
export function groupsOf(
	hold: Hold,
	sizeOf: (block: string) => readonly [layers: number, tokens: number],
): Held[] {
	const held = statesIn(hold);
	const groups = (["tokens", "layers"] as const).flatMap((all) => {
		const lines = new Map<string, StateInfo[]>();
		for (const state of held) {
			const { block, site, head, layer, position } = state;
			const at = all === "tokens" ? layer : position;
			const line = [block, site, head, at].join();
			lines.set(line, [...(lines.get(line) ?? []), state]);
		}
		return [...lines.values()]
			.filter((states) => {
				const [layers, tokens] = sizeOf(states[0]?.block ?? "");
				const size = all === "tokens" ? tokens : layers;
				return size > 1 && states.length === size;
			})
			.map((states): Held => ({ states, all }));
	});
	const left = statesIn(
		without(
			held,
			groups.flatMap(({ states }) => states),
		),
	);
	return [...groups, ...left.map((state) => ({ states: [state], all: null }))];
}

export function without(hold: Hold, states: readonly StateInfo[]): Hold {
	const gone = new Set(states.map(nameOf));
	return hold.filter(
		(item) => typeof item === "string" || !gone.has(nameOf(item)),
	);
}

/** What is held with one of the words turned on or off. */
export function withWord(hold: Hold, word: string): Hold {
	const now = wordsIn(hold);
	const next = now.includes(word)
		? now.filter((each) => each !== word)
		: [...now, word];
	const sites = WORDS.filter((site) => next.includes(site));
	const where = sites.length > 0 && next.includes(EVERYWHERE);
	return [...sites, ...(where ? [EVERYWHERE] : []), ...statesIn(hold)];
}
