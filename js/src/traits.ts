// The synced state as the front end sees it. Every value is read through a parser that turns missing, empty or
// malformed values into "not there yet", so that no other code has to check.

import {
	type Ablation,
	type Comparison,
	type Curve,
	type Detail,
	type FlowPicture,
	type Found,
	type Grid,
	type Look,
	type PictureMap,
	PROTOCOL_VERSION,
	type Runs,
	type Setup,
	type StateInfo,
	type Steps,
} from "./protocol";

export type CellIndex = readonly [layer: number, position: number];
export type Show = "recovery" | "indirect_effect" | "score";
export type Direction = "restore" | "disrupt";
/** What the grid's rows are. */
export type Axes = "tokens" | "layers";

/** What the user changes: set here, saved to the kernel, and also set by the kernel. */
export interface Inputs {
	question: string;
	noise: number;
	block: string;
	site: string;
	/** Attention head; null = all heads together. */
	head: number | null;
	metric: string;
	/** Alternative answer to compare with; "" = none. */
	foil: string;
	direction: Direction;
	window: number;
	/** Of the image encoder: side of the squares of tokens that are patched together. */
	patch: number;
	/** What keeps the base run's value: states, and words for states above what is patched. */
	hold: readonly (string | StateInfo)[];
	/** Where the paths lead that the grid shows; null = it is of patched states. */
	receivers: string | StateInfo[] | null;
	/** What is not held on these paths. */
	through: readonly (string | StateInfo)[];
	/** The receivers that were walked back from. */
	path: readonly (string | StateInfo[])[];
	/** Whether the selected sender's share is pointed out. */
	arrow: boolean;
	corruption: string;
	kind: string;
	at: string;
	samples: number;
	seed: number;
	otherQuestion: string;
	to: string;
	scale: number;
	/** The question's tokens that are damaged; null = all. */
	positions: readonly number[] | null;
	/** What the selected states are multiplied by in a clean run; 1 = no such run. */
	strength: number;
	show: Show;
	axes: Axes;
	/** Limit of the colour scale; 0 = automatic. */
	limit: number;
	selection: readonly CellIndex[];
	/** Region of the picture that is damaged; null = everywhere. */
	region: readonly (readonly boolean[])[] | null;
	/** Patches of the picture, (row, column), patched together. */
	patches: readonly CellIndex[];
	overlay: string;
	square: number;
	opacity: number;
	/** Whether the difference from the kept grid is shown instead of the values. */
	difference: boolean;
	error: string;
	/** Whether the true states are outlined, of a model whose circuit is known. */
	truth: boolean;
	/** Index of the built-in example that is shown, -1 = none. */
	example: number;
}

/** What only the kernel sets; null = not computed yet. */
export interface Outputs {
	look: Look | null;
	setup: Setup | null;
	/** The kernel's protocol version if it differs from this one: then nothing else in `setup` can be relied on. */
	foreignVersion: number | null;
	picture: unknown;
	otherPicture: unknown;
	pictureMap: PictureMap | null;
	runs: Runs | null;
	grid: Grid | null;
	/** The other grids computed for the same inputs. */
	grids: readonly Grid[];
	detail: Detail | null;
	pinned: Detail | null;
	ablation: Ablation | null;
	compared: Comparison | null;
	steps: Partial<Steps>;
	curve: Curve | null;
	found: Found | null;
	flow: FlowPicture | null;
	generation: number;
	/** What the kernel is doing until the two runs are available, in words. */
	doing: string;
}

type Fields = Record<string, unknown>;

function isRecord(value: unknown): value is Fields {
	return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function text(value: unknown) {
	return typeof value === "string" ? value : "";
}

export function number(value: unknown) {
	return Number.isFinite(value) ? (value as number) : 0;
}

function oneOf<T extends string>(first: T, ...rest: T[]) {
	return (value: unknown) => [first, ...rest].find((v) => v === value) ?? first;
}

/** An object that has the named fields, each a list or an object; anything else is "not there yet". */
export function shaped<T>(...needed: (keyof T & string)[]) {
	return (value: unknown): T | null =>
		isRecord(value) && needed.every((name) => value[name] instanceof Object)
			? (value as T)
			: null;
}

function isIndex(value: unknown): value is number {
	return Number.isInteger(value) && (value as number) >= 0;
}

export function isCell(value: unknown): value is CellIndex {
	return Array.isArray(value) && value.length === 2 && value.every(isIndex);
}

function states(value: unknown): (string | StateInfo)[] {
	return Array.isArray(value) ? value : [];
}

function receivers(value: unknown): string | StateInfo[] | null {
	if (typeof value === "string") return value;
	return Array.isArray(value) ? value : null;
}

function version(value: unknown): number | null {
	return isRecord(value) && typeof value["version"] === "number"
		? value["version"]
		: null;
}

const readGrid = shaped<Grid>(
	"tokens",
	"constructed",
	"nan",
	"notes",
	"values",
);
const readSetup = shaped<Setup>(
	"blocks",
	"head_sites",
	"choices",
	"places",
	"words",
	"patches",
	"examples",
);

/** How the raw value of each trait is parsed. */
export const PARSERS: {
	[K in keyof Inputs | keyof Outputs]: (
		value: unknown,
	) => (Inputs & Outputs)[K];
} = {
	question: text,
	noise: number,
	block: text,
	site: text,
	head: (value) => (isIndex(value) ? value : null),
	metric: text,
	foil: text,
	direction: oneOf<Direction>("restore", "disrupt"),
	window: number,
	patch: (value) => number(value) || 1,
	hold: states,
	receivers,
	through: states,
	path: (value) =>
		(Array.isArray(value) ? value : [])
			.map(receivers)
			.filter((each) => each !== null),
	arrow: (value) => value === true,
	corruption: text,
	kind: text,
	at: text,
	samples: number,
	seed: number,
	otherQuestion: text,
	to: text,
	scale: number,
	positions: (value) => (Array.isArray(value) ? value.filter(isIndex) : null),
	strength: number,
	show: oneOf<Show>("recovery", "indirect_effect", "score"),
	axes: oneOf<Axes>("tokens", "layers"),
	limit: number,
	selection: (value) => (Array.isArray(value) ? value.filter(isCell) : []),
	region: (value) =>
		Array.isArray(value) && value.every(Array.isArray) ? value : null,
	patches: (value) => (Array.isArray(value) ? value.filter(isCell) : []),
	overlay: text,
	square: number,
	opacity: number,
	difference: (value) => value === true,
	truth: (value) => value === true,
	error: text,
	example: number,
	look: shaped<Look>("labels", "explain", "captions", "palettes"),
	setup: (value) =>
		version(value) === PROTOCOL_VERSION ? readSetup(value) : null,
	foreignVersion: (value) => {
		const theirs = version(value);
		return theirs === PROTOCOL_VERSION ? null : theirs;
	},
	picture: (value) => value ?? null,
	otherPicture: (value) => value ?? null,
	pictureMap: shaped<PictureMap>("values"),
	runs: shaped<Runs>("clean", "corrupted", "gate", "bars"),
	grid: readGrid,
	grids: (value) =>
		(Array.isArray(value) ? value : []).map(readGrid).filter((g) => g !== null),
	detail: shaped<Detail>("cells", "bars", "tokens"),
	pinned: shaped<Detail>("cells", "bars", "tokens"),
	ablation: shaped<Ablation>("cells"),
	compared: shaped<Comparison>("differences"),
	steps: (value) => Object(value) as Partial<Steps>,
	curve: shaped<Curve>("factors", "scores"),
	flow: shaped<FlowPicture>("columns", "arrows"),
	found: shaped<Found>("sizes", "curve", "members"),
	generation: number,
	doing: text,
};

/** The trait that a signal mirrors. */
export function traitOf(name: string): string {
	if (name === "foreignVersion") return "setup";
	return name.replace(/[A-Z]/, (letter) => `_${letter.toLowerCase()}`);
}
