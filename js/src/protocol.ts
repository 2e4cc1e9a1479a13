// Generated from blip_trace_widget/display/protocol.py by `python -m blip_trace_widget.display.protocol`. Do not edit.

export const PROTOCOL_VERSION = 7;
export const MAX_CELLS = 4096;
export const MAX_SAMPLES = 200;
export const MAX_NOISE = 10;
export const MAX_SCALE = 2;
export const CELL_FIELDS = [
	"score",
	"indirect_effect",
	"margin",
	"recovery",
	"recovery_margin",
	"significant",
] as const;
export const DIFFERENCE_FIELDS = [
	"score",
	"score_margin",
	"score_significant",
	"indirect_effect",
	"margin",
	"significant",
	"recovery",
	"recovery_margin",
	"recovery_significant",
] as const;

/** Colours at even steps from the left to the right end, each with the colour of a legible mark on it. */
export interface Palette {
	diverging: [string, string][];
	sequential: [string, string][];
}

/** Words and colours, which do not depend on what is asked. */
export interface Look {
	labels: Record<string, string>;
	explain: Record<string, string>;
	captions: Record<string, string>;
	palettes: Record<string, Palette>;
}

/** One block of the model, with the rows and columns of its grid. */
export interface BlockInfo {
	name: string;
	layers: number;
	tokens: string[];
	sites: string[];
	heads: number;
	enabled: boolean;
	reason: string;
}

/** One line of the example chooser. */
export interface ExampleInfo {
	name: string;
	question: string;
}

/** What can be asked of this model and question. */
export interface Setup {
	version: number;
	closed: string;
	model: string;
	models: string[];
	circuit: string;
	blocks: BlockInfo[];
	head_sites: string[];
	choices: Record<string, string[]>;
	places: Record<string, string[]>;
	words: string[];
	patches: [number, number];
	examples: ExampleInfo[];
	answer_tokens: string[];
}

/** A summary of a run; None stands for NaN. */
export interface RunInfo {
	answer: string;
	score: number | null;
	stderr: number | null;
	share: number;
}

/** Probabilities of the same words at the first answer position in each run; empty if there is no such run. */
export interface Bars {
	words: string[];
	clean: (number | null)[];
	corrupted: (number | null)[];
	patched: (number | null)[];
	pinned: (number | null)[];
}

/** Whether the total effect is large enough for recovery to be meaningful, also in words. */
export interface Gate {
	open: boolean;
	text: string;
}

/** The clean and the corrupted run. */
export interface Runs {
	generation: number;
	cause: string;
	damage: string;
	line: string;
	metric: string;
	given: boolean;
	clean: RunInfo;
	corrupted: RunInfo;
	total_effect: number | null;
	total_effect_margin: number | null;
	error: string;
	gate: Gate;
	bars: Bars;
}

/** A state, as `blip_trace_widget.states.plain_form` writes it. */
export interface StateInfo {
	block: string;
	layer: number;
	position: number;
	site: string;
	head: number | null;
}

/** Which grid something is of, see `blip_trace_widget.results.grid_spec.GridSpec`. */
export interface GridOf {
	block: string;
	site: string;
	head: number | null;
	direction: string;
	window: number;
	patch: number;
	hold: (string | StateInfo)[];
	receivers: string | StateInfo[] | null;
	through: (string | StateInfo)[];
}

/** The grid in view: layers x positions. */
export interface Grid {
	block: string;
	site: string;
	head: number | null;
	direction: string;
	window: number;
	patch: number;
	hold: (string | StateInfo)[];
	receivers: string | StateInfo[] | null;
	through: (string | StateInfo)[];
	generation: number;
	damage: string;
	layers: number;
	tokens: string[];
	constructed: [number, number][];
	dead: [number, number][];
	nan: [number, number][];
	truth: [number, number][];
	notes: string[];
	held: string;
	kept: string;
	into: string;
	values: DataView;
}

/** A grid minus the kept one. */
export interface GridDifference {
	block: string;
	site: string;
	head: number | null;
	direction: string;
	window: number;
	patch: number;
	hold: (string | StateInfo)[];
	receivers: string | StateInfo[] | null;
	through: (string | StateInfo)[];
	generation: number;
	text: string;
	undefined: string;
	values: DataView;
	agreement: string;
	apart: [number, number][];
}

/** The grid that others are compared with. */
export interface Comparison {
	kept: string;
	differences: GridDifference[];
}

/** The numbers of a patched run; None stands for NaN. */
export interface Outcome {
	indirect_effect: number | null;
	margin: number | null;
	recovery: number | null;
	recovery_margin: number | null;
	negligible: boolean;
}

/** What is held in a patched run, in words. */
export interface HeldInfo {
	phrase: string;
	kept: string;
	itself: boolean;
	dead: boolean;
}

/** The patched run of the selected cells, or of the pinned ones. */
export interface Detail {
	block: string;
	site: string;
	head: number | null;
	direction: string;
	window: number;
	patch: number;
	hold: (string | StateInfo)[];
	receivers: string | StateInfo[] | null;
	through: (string | StateInfo)[];
	generation: number;
	tokens: string[];
	layers: number;
	damage: string;
	cause: string;
	metric: string;
	cells: [number, number][];
	patches: [number, number][];
	score: number | null;
	indirect_effect: number | null;
	margin: number | null;
	recovery: number | null;
	recovery_margin: number | null;
	held: HeldInfo | null;
	free: Outcome | null;
	into: string;
	dead: boolean;
	negligible: boolean;
	error: string;
	bars: Bars;
}

/** The clean run in which the selected states are times a factor. */
export interface Ablation {
	generation: number;
	block: string;
	site: string;
	head: number | null;
	window: number;
	cells: [number, number][];
	strength: number;
	answer: string;
	score: number | null;
	text: string;
}

/** What users set of the question, the score and the corruption; each is a trait. */
export interface Inputs {
	question: string;
	foil: string;
	metric: string;
	corruption: string;
	noise: number;
	kind: string;
	at: string;
	samples: number;
	seed: number;
	other_question: string;
	to: string;
	region: boolean[][] | null;
	scale: number;
	positions: number[] | null;
}

/** An overlay on the picture. */
export interface PictureMap {
	generation: number;
	overlay: string;
	square: number;
	rows: number;
	columns: number;
	limit: number;
	low: string;
	high: string;
	text: string;
	unit: string;
	percent: boolean;
	done: number | null;
	left: string;
	values: DataView;
}

/** Whether there is something to undo, and something to redo. */
export interface Steps {
	undo: boolean;
	redo: boolean;
}

/** The noise curve: mean score of the corrupted run against the noise factor. */
export interface Curve {
	generation: number;
	factors: number[];
	scores: (number | null)[];
	clean: number | null;
	low: number | null;
	high: number | null;
	lost_at: number | null;
	lost: string;
}

/** A set of states that was searched for, or the search so far. */
export interface Found {
	generation: number;
	target: number;
	sizes: number[];
	curve: (number | null)[];
	bold: string;
	text: string;
	members: string[];
}

/** What is lost where one group of tokens no longer attends to another. */
export interface Arrow {
	ends: [string, string];
	value: number | null;
	text: string;
}

/** Groups of tokens, and arrows between them. */
export interface FlowPicture {
	generation: number;
	columns: string[][];
	arrows: Arrow[];
	text: string;
}

/** One line of a data set's list. */
export interface ListedSample {
	number: number;
	picture: DataView;
	question: string;
	group: string;
	answers: [string, string][];
	effect: string;
	note: string;
}

/** The visible part of a data set's list. */
export interface Listing {
	title: string;
	rows: ListedSample[];
	first: number;
	size: number;
	found: number;
	groups: string[];
	orders: string[];
}

/** One of a data set's small maps. */
export interface Panel {
	group: string;
	text: string;
	rows: string[];
	columns: string[];
	values: DataView;
}

/** A data set's small maps beside each other, on one scale. */
export interface Maps {
	choices: string[];
	groups: string[];
	title: string;
	across: [string, string];
	difference: boolean;
	panels: Panel[];
	told: string;
	note: string;
}

/** The first message of a view: its protocol version. */
export interface HelloRequest {
	type: "hello";
	id: number;
	version: number;
}

/** Select these cells of the grid in view and patch them, all in one run; an empty list clears the selection. */
export interface PatchRequest {
	type: "patch";
	id: number;
	cells: [number, number][];
}

/** Show the paths into some receivers, or none, walked back to along `path`, and fill that grid. */
export interface WalkRequest {
	type: "walk";
	id: number;
	block: string;
	site: string;
	head: number | null;
	receivers: string | StateInfo[] | null;
	path: (string | StateInfo[])[];
	cells: [number, number][];
}

/** Fill the grid in view. */
export interface TraceRequest {
	type: "trace";
	id: number;
}

/** Stop filling the grid; computed cells stay. */
export interface StopRequest {
	type: "stop";
	id: number;
}

/** Fill the rest of the map over the picture, or stop filling it. */
export interface FillOverlayRequest {
	type: "fill_overlay";
	id: number;
	on: boolean;
}

/** Use the picture in the message's only buffer. */
export interface ImageRequest {
	type: "image";
	id: number;
}

/** Swap in the picture in the message's only buffer. */
export interface OtherImageRequest {
	type: "other_image";
	id: number;
}

/** Pin the patched run of the selected cells beside the next ones, or unpin it. */
export interface PinRequest {
	type: "pin";
	id: number;
	on: boolean;
}

/** Keep the grid in view to compare others with it, or stop comparing. */
export interface CompareRequest {
	type: "compare";
	id: number;
	on: boolean;
}

/** Compute the grid in view under another corruption too, one of `Setup.choices`' "also", and keep that. */
export interface AlsoUnderRequest {
	type: "also_under";
	id: number;
	under: string;
}

/** Compute random cells of the grid in view again by plain hooks. */
export interface VerifyRequest {
	type: "verify";
	id: number;
}

/** Search for a small set that recovers a share of the total effect. */
export interface FindRequest {
	type: "find";
	id: number;
	percent: number;
	among: "states" | "heads";
	direction: "restore" | "disrupt" | "isolate";
}

/** Select one member of the set that was found. */
export interface MemberRequest {
	type: "member";
	id: number;
	index: number;
}

/** Cut the attention between groups of tokens, pair by pair. */
export interface FlowRequest {
	type: "flow";
	id: number;
}

/** Undo the last change of inputs. */
export interface UndoRequest {
	type: "undo";
	id: number;
}

/** Redo what was undone. */
export interface RedoRequest {
	type: "redo";
	id: number;
}

/** The first and last visible position of the grid: visible ones are computed first. */
export interface VisibleRangeRequest {
	type: "visible_range";
	id: number;
	first: number;
	last: number;
}

/** Corrupt only the marked patches of the picture, only the others, or all. */
export interface SetRegionRequest {
	type: "set_region";
	id: number;
	to: "marked" | "others" | "all";
}

/** Ask what the question's tokens attend to in a layer. */
export interface AttentionRequest {
	type: "attention";
	id: number;
	layer: number;
}

/** Export what is shown as a file or text. */
export interface ExportRequest {
	type: "export";
	id: number;
	format: "svg" | "csv" | "json" | "picture" | "other" | "python" | "cells";
	theme: "light" | "dark";
}

/** Continue with another built-in model, one of `Setup.models`. */
export interface ModelRequest {
	type: "model";
	id: number;
	name: string;
}

/** The answer to a `call`. */
export interface CalledRequest {
	type: "called";
	id: number;
}

/** Computed cells; the message's buffer is float32 (len(CELL_FIELDS), len(cells)). */
export interface CellsEvent {
	block: string;
	site: string;
	head: number | null;
	direction: string;
	window: number;
	patch: number;
	hold: (string | StateInfo)[];
	receivers: string | StateInfo[] | null;
	through: (string | StateInfo)[];
	type: "cells";
	id: number;
	generation: number;
	cells: [number, number][];
}

/** What the question's tokens attend to in a layer; the message's buffer is float32 (tokens, rows, columns). */
export interface AttentionEvent {
	type: "attention";
	id: number;
	generation: number;
	layer: number;
	head: number | null;
	rows: number;
	columns: number;
}

/** Progress of the grid; sent at most ten times a second. */
export interface ProgressEvent {
	type: "progress";
	id: number;
	generation: number;
	done: number;
	total: number;
	left: string;
}

/** The request is finished, or was stopped. */
export interface DoneEvent {
	type: "done";
	id: number;
	generation: number;
	stopped: boolean;
}

/** The kernel has received the request, which may take a while. */
export interface TakenEvent {
	type: "taken";
	id: number;
	generation: number;
}

/** An export; the message's buffer is the file. */
export interface ExportedEvent {
	type: "exported";
	id: number;
	generation: number;
	format: string;
	name: string;
	media: string;
}

/** Ask for a `called`: output of users' functions is shown only while a message of the page is handled. */
export interface CallEvent {
	type: "call";
	id: number;
	generation: number;
}

export type Request =
	| HelloRequest
	| PatchRequest
	| WalkRequest
	| TraceRequest
	| StopRequest
	| FillOverlayRequest
	| ImageRequest
	| OtherImageRequest
	| PinRequest
	| CompareRequest
	| AlsoUnderRequest
	| VerifyRequest
	| FindRequest
	| MemberRequest
	| FlowRequest
	| UndoRequest
	| RedoRequest
	| VisibleRangeRequest
	| SetRegionRequest
	| AttentionRequest
	| ExportRequest
	| ModelRequest
	| CalledRequest;

export type TraceEvent =
	| CellsEvent
	| AttentionEvent
	| ProgressEvent
	| DoneEvent
	| TakenEvent
	| ExportedEvent
	| CallEvent;
