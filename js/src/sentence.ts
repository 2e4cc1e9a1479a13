// The result for the selected states as a sentence: pieces of text, some of them bold; and the description of one cell.

import type { Cell } from "./cells";
import { percent, plain, points, score } from "./format";
import type { Gate, HeldInfo, Outcome as Numbers } from "./protocol";
import type { CellIndex, Show } from "./traits";
import { SHOWN, type Words } from "./words";

export interface Piece {
	readonly text: string;
	readonly bold?: boolean;
}

const bold = (text: string): Piece => ({ text, bold: true });
const light = (text: string): Piece => ({ text });

/** A token in quotation marks, with its place if the same word occurs twice. */
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

/** What is patched. */
export interface Asked {
	readonly cells: readonly CellIndex[];
	/** Of the picture, if no cells are patched. */
	readonly patches: readonly CellIndex[];
	readonly direction: string;
	readonly window: number;
	readonly site: string;
	readonly head: number | null;
	readonly tokens: readonly string[];
	readonly layers: number;
	readonly metric: string;
	/** What caused the loss of the answer, in a word. */
	readonly cause: string;
}

/** What was patched and the result, from its own patched run or read off the grid. */
export interface Outcome extends Asked, Numbers {
	/** Why there is no margin, or "". */
	readonly error: string;
	/** What is held, if anything; then the numbers without that, if they are known. */
	readonly held?: HeldInfo | null;
	readonly free?: Numbers | null;
	/** Of paths: where they lead, and whether none does. */
	readonly into?: string;
	readonly dead?: boolean;
}

/** What is patched in a layer: one of its sites, or a head of an attention. */
export function siteName(
	site: string,
	head: number | null,
	label: Words["label"],
): string {
	return head === null ? label(site) : `${label(`${site} head`)} ${head}`;
}

/** What was patched: "layer 10 at “circle”". */
function subject(asked: Asked, { label }: Words): Piece[] {
	const { cells, patches, window, site, head, tokens, layers } = asked;
	const [patch] = patches;
	if (patch !== undefined)
		return [
			bold(
				patches.length === 1
					? `patch ${patch}`
					: `these ${patches.length} patches`,
			),
			light(" of the picture"),
		];
	const [first] = cells;
	if (first === undefined || cells.length !== 1)
		return [bold(`these ${cells.length} states`)];
	const [layer, position] = first;
	const part =
		site === "block_output" ? "" : ` (${siteName(site, head, label)})`;
	return [
		bold(layersName(layer, window, layers) + part),
		light(" at "),
		bold(tokenName(tokens, position)),
	];
}

function verb(direction: string): string {
	return direction === "disrupt" ? "damaging " : "restoring ";
}

const capitalised = (text: string) =>
	text.charAt(0).toUpperCase() + text.slice(1);

/** Undefined values are NaN in the grid, and null in the kernel's patched run. */
function isUndefined(value: number | null): value is null {
	return value === null || Number.isNaN(value);
}

/** The result; where others are held, the numbers without and with that. */
export function outcomeSentence(
	outcome: Outcome,
	gate: Gate | undefined,
	words: Words,
): Piece[] {
	const { held, free, direction, cells } = outcome;
	const patched = subject(outcome, words);
	if (outcome.into) return sent(outcome, patched, gate, outcome.into);
	if (held?.itself) {
		const [name, ...rest] = patched;
		const ends =
			cells.length === 1
				? ["is", "itself", "it is"]
				: ["are", "themselves", "they are"];
		return [
			bold(capitalised(name?.text ?? "")),
			...rest,
			light(
				` ${ends[0]} held ${held.kept} ${ends[1]}: ${ends[2]} not patched.`,
			),
		];
	}
	const holding = held ? `with ${held.phrase} held ${held.kept}, ` : "";
	const after = afterwards(outcome, gate);
	if (!free)
		return [
			light(capitalised(holding + verb(direction))),
			...patched,
			...cameOf(outcome, outcome, `.${after}`),
		];
	return [
		light(capitalised(verb(direction))),
		...patched,
		...cameOf(free, outcome, ""),
		light(`; ${holding}`),
		...withHeld(outcome, after),
	];
}

/** What a sender sends directly. */
function sent(
	outcome: Outcome,
	sender: Piece[],
	gate: Gate | undefined,
	into: string,
): Piece[] {
	const { direction, recovery, recovery_margin, negligible, cause } = outcome;
	const start = [light(capitalised(verb(direction))), ...sender];
	if (isUndefined(outcome.indirect_effect))
		return [...start, light(": the score is not a number.")];
	if (outcome.dead)
		return [
			...start,
			light(" sends nothing directly to "),
			bold(into),
			light(" by construction: no path leads there."),
		];
	const doubt = `${negligible ? ", not distinguishable from 0" : ""}.${afterwards(outcome, gate)}`;
	if (isUndefined(recovery))
		return [
			...start,
			light(" changes the score by "),
			bold(changeOf(outcome, outcome)),
			light(" directly through "),
			bold(into),
			light(doubt),
		];
	const against = recovery < -5e-4 && !negligible;
	const [verbs, of] =
		direction === "disrupt"
			? [
					against ? " sends a gain of " : " sends a loss of ",
					"the total effect",
				]
			: [
					against ? " sends a further loss of " : " sends ",
					`what the ${cause} took`,
				];
	return [
		...start,
		light(verbs ?? ""),
		bold(percent(against ? -recovery : recovery, recovery_margin)),
		light(` of ${of} directly to `),
		bold(into),
		light(doubt),
	];
}

/** What came of patching: "brings back 58 % of what the noise took", and how that ends. */
function cameOf(numbers: Numbers, asked: Outcome, end: string): Piece[] {
	const { negligible, recovery } = numbers;
	if (isUndefined(numbers.indirect_effect))
		return [light(`: the score is not a number${end && "."}`)];
	const doubt = (negligible ? ", not distinguishable from 0" : "") + end;
	if (isUndefined(recovery))
		return [
			light(" changes the score by "),
			bold(changeOf(numbers, asked)),
			light(doubt),
		];
	// What would be shown as 0 removes nothing.
	const against = recovery < -5e-4 && !negligible;
	const amount = percent(
		against ? -recovery : recovery,
		numbers.recovery_margin,
	);
	const ends =
		asked.direction === "disrupt"
			? [against ? " adds " : " costs ", " of the total effect"]
			: [
					against ? " takes away a further " : " brings back ",
					` of what the ${asked.cause} took`,
				];
	return [light(ends[0] ?? ""), bold(amount), light(ends[1] + doubt)];
}

/** The number with what is held, after the one without. */
function withHeld(outcome: Outcome, after: string): Piece[] {
	const { recovery, recovery_margin, held } = outcome;
	if (isUndefined(outcome.indirect_effect))
		return [light("the score is not a number.")];
	let doubt = outcome.negligible ? ", not distinguishable from 0" : "";
	if (held?.dead) doubt = " by construction, for nothing gets past it";
	const amount = isUndefined(recovery)
		? changeOf(outcome, outcome)
		: percent(recovery, recovery_margin);
	return [bold(amount), light(`${doubt}.${after}`)];
}

/** By how much the score changes; the effect of damage is counted as a loss, so its sign is reversed. */
function changeOf(numbers: Numbers, { direction, metric }: Asked): string {
	const effect = numbers.indirect_effect;
	const change = direction === "disrupt" && effect ? -effect : effect;
	return points(metric, change, numbers.margin);
}

/** What follows the numbers: why there is no recovery, or no error. */
function afterwards(outcome: Outcome, gate: Gate | undefined): string {
	const { error } = outcome;
	const alone = error && ` ${capitalised(error)}.`;
	if (!isUndefined(outcome.recovery)) return alone;
	const reason =
		gate?.open === false
			? `is not shown: ${gate.text}.`
			: "is not defined here.";
	return ` Recovery ${reason}${alone}`;
}

/** While the numbers are pending: only what is being computed. */
export function pendingSentence(asked: Asked, words: Words): Piece[] {
	const start = light(capitalised(verb(asked.direction)));
	return [start, ...subject(asked, words), light(" …")];
}

export function toText(pieces: readonly Piece[]): string {
	return pieces.map(({ text }) => text).join("");
}

/** The values of one cell by name, in the order of `SHOWN`. */
export function cellValues(
	cell: Cell,
	metric: string,
	between = "",
): [string, string][] {
	const { values } = cell;
	if (Number.isNaN(values.score)) return [];
	if (between !== "")
		return [
			[
				"recovery",
				points("probability", values.recovery, values.recovery_margin),
			],
			["indirect effect", plain(values.indirect_effect, values.margin)],
			["score", points(metric, values.score, values.score_margin)],
		];
	return [
		["recovery", percent(values.recovery, values.recovery_margin)],
		["indirect effect", plain(values.indirect_effect, values.margin)],
		["score", score(metric, values.score)],
	];
}

/** Notes on one cell beside its values; for a difference, which grids it compares. */
export function cellNotes(cell: Cell, { explain }: Words, between = "") {
	const { state } = cell;
	let special = cell.negligible ? "negligible" : "";
	if (cell.dead) special = cell.held ? "" : "dead";
	if (cell.constructed) special = "constructed";
	if (cell.nan) special = "nan";
	return [
		between,
		explain(between && state === "empty" ? "lacking" : state),
		explain(special),
		cell.apart ? explain("apart") : "",
		cell.truth ? explain("true") : "",
		cell.held ? explain("held") : "",
	].filter((note) => note !== "");
}

/** The screen reader's text for a cell: its place, the shown value, and its notes. */
export function cellLabel(
	cell: Cell,
	tokens: readonly string[],
	metric: string,
	show: Show,
	words: Words,
	between = "",
): string {
	const place = `layer ${cell.layer}, ${tokens[cell.position] ?? ""}`;
	const named = cellValues(cell, metric, between)[SHOWN.indexOf(show)];
	const value = named?.join(" ") ?? "";
	const placeAndValue = [place, value].filter((part) => part !== "").join(": ");
	return [placeAndValue, ...cellNotes(cell, words, between)].join("; ");
}
