// What the selected states say, as a sentence: pieces of text, some of them bold, and the words for one cell.

import { type Cell, type GridView, isNegligible } from "./cells";
import { percent, plain, points, score } from "./format";
import { siteLabel } from "./labels";
import type { Detail, Runs } from "./protocol";
import type { CellIndex, Show } from "./traits";

export interface Piece {
	readonly text: string;
	readonly bold?: boolean;
}

const bold = (text: string): Piece => ({ text, bold: true });
const light = (text: string): Piece => ({ text });

/** A token in quotation marks, with its place where the same word occurs twice. */
export function tokenName(tokens: readonly string[], position: number): string {
	const token = tokens[position] ?? "";
	const twice = tokens.indexOf(token) !== tokens.lastIndexOf(token);
	return twice ? `“${token}” (token ${position})` : `“${token}”`;
}

/** The layers that a window restores around one layer. */
export function layersName(layer: number, window: number, layers: number) {
	const first = Math.max(0, layer - Math.floor(window / 2));
	const last = Math.min(
		layers - 1,
		layer - Math.floor(window / 2) + window - 1,
	);
	return first === last ? `layer ${first}` : `layers ${first}–${last}`;
}

/** What was patched and how it came out, whether it was patched alone or is read off the grid. */
export interface Outcome {
	readonly cells: readonly CellIndex[];
	readonly direction: string;
	readonly window: number;
	readonly site: string;
	readonly indirectEffect: number | null;
	readonly stderr: number | null;
	readonly recovery: number | null;
	readonly recoveryStderr: number | null;
}

export function outcomeOf(detail: Detail): Outcome {
	return {
		cells: detail.cells,
		direction: detail.direction,
		window: detail.window,
		site: detail.site,
		indirectEffect: detail.indirect_effect,
		stderr: detail.stderr,
		recovery: detail.recovery,
		recoveryStderr: detail.recovery_stderr,
	};
}

/** What was patched: "layer 10 at “circle”". */
function subject(
	cells: readonly CellIndex[],
	window: number,
	site: string,
	view: GridView,
): Piece[] {
	const [first] = cells;
	if (first === undefined || cells.length !== 1)
		return [bold(`these ${cells.length} states`)];
	const [layer, position] = first;
	const part = site === "block_output" ? "" : ` (${siteLabel(site)})`;
	return [
		bold(layersName(layer, window, view.layers) + part),
		light(" at "),
		bold(tokenName(view.tokens, position)),
	];
}

function verb(direction: string): string {
	return direction === "disrupt" ? "Damaging " : "Restoring ";
}

export function outcomeSentence(
	outcome: Outcome,
	view: GridView,
	runs: Runs | null,
): Piece[] {
	const { cells, direction, window, site } = outcome;
	const { indirectEffect, stderr, recovery, recoveryStderr } = outcome;
	const start = [light(verb(direction)), ...subject(cells, window, site, view)];
	if (indirectEffect === null)
		return [...start, light(": this could not be computed.")];
	const negligible = isNegligible(indirectEffect, stderr ?? Number.NaN);
	const doubt = negligible ? ", not distinguishable from 0." : ".";
	if (recovery === null) {
		const metric = runs?.metric ?? "probability";
		// The effect of damage is counted as a loss, so its sign turns round in "changes the score by".
		const change =
			direction === "disrupt" && indirectEffect !== 0
				? -indirectEffect
				: indirectEffect;
		const closed = runs !== null && !runs.gate.open;
		const reason = closed
			? `Recovery is not shown: ${runs.gate.text}.`
			: "Recovery is not defined here.";
		return [
			...start,
			light(" changes the score by "),
			bold(points(metric, change, stderr)),
			light(`${doubt} ${reason}`),
		];
	}
	const against = recovery < 0 && !negligible;
	const amount = bold(percent(against ? -recovery : recovery, recoveryStderr));
	const words =
		direction === "disrupt"
			? [against ? " adds " : " costs ", " of the total effect"]
			: [
					against ? " takes away a further " : " brings back ",
					" of what the noise took",
				];
	return [...start, light(words[0] ?? ""), amount, light(words[1] + doubt)];
}

/** While the numbers are on their way: only what is being asked. */
export function pendingSentence(
	cells: readonly CellIndex[],
	direction: string,
	window: number,
	view: GridView,
): Piece[] {
	return [
		light(verb(direction)),
		...subject(cells, window, view.site, view),
		light(" …"),
	];
}

export function toText(pieces: readonly Piece[]): string {
	return pieces.map(({ text }) => text).join("");
}

/** The values of one cell by name, as its tooltip and its label give them. */
export function cellValues(cell: Cell, metric: string): [string, string][] {
	const { values } = cell;
	if (Number.isNaN(values.score)) return [];
	return [
		["score", score(metric, values.score)],
		["indirect effect", plain(values.indirectEffect, values.stderr)],
		["recovery", percent(values.recovery, values.recoveryStderr)],
	];
}

/** What there is to say about one cell beside its values. */
export function cellNotes(cell: Cell): string[] {
	const notes: string[] = [];
	if (cell.state === "empty") notes.push("not computed: click to patch it");
	if (cell.state === "waiting") notes.push("waiting to be computed");
	if (cell.state === "old") notes.push("value for earlier settings");
	if (cell.constructed)
		notes.push(
			"1 by construction: all that the answer is read from passes through this state",
		);
	else if (cell.negligible) notes.push("not distinguishable from 0");
	return notes;
}

/** What a screen reader says of a cell: where it is, the shown value, and what is special. */
export function cellLabel(
	cell: Cell,
	tokens: readonly string[],
	metric: string,
	show: Show,
): string {
	const place = `layer ${cell.layer}, ${tokens[cell.position] ?? ""}`;
	const { values } = cell;
	let value = "";
	if (!Number.isNaN(values.score)) {
		if (show === "score") value = `score ${score(metric, values.score)}`;
		else if (show === "indirect_effect")
			value = `indirect effect ${plain(values.indirectEffect, values.stderr)}`;
		else
			value = Number.isNaN(values.recovery)
				? "recovery not defined"
				: `recovery ${percent(values.recovery, values.recoveryStderr)}`;
	}
	const told = [place, value].filter((part) => part !== "").join(": ");
	return [told, ...cellNotes(cell)].join("; ");
}
