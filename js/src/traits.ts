// The synced state as the front end sees it. Every value is read through a parser that turns what is missing, empty or
// misshapen into "not there yet", so that nothing further in has to ask.

import {
	type Curve,
	type Detail,
	type Grid,
	PROTOCOL_VERSION,
	type Runs,
	type Setup,
} from "./protocol";

export type CellIndex = readonly [layer: number, position: number];
export type Show = "recovery" | "indirect_effect" | "score";
export type Direction = "restore" | "disrupt";

/** What a person changes: set here, saved to the kernel, and set by the kernel too. */
export interface Inputs {
	question: string;
	noise: number;
	block: string;
	site: string;
	metric: string;
	direction: Direction;
	window: number;
	kind: string;
	samples: number;
	seed: number;
	show: Show;
	selection: readonly CellIndex[];
	error: string;
	/** Index of the built-in example on show, -1 = none. */
	example: number;
}

/** What the kernel alone sets; null = not computed yet. */
export interface Outputs {
	setup: Setup | null;
	/** The protocol of the kernel, where it is not ours: then nothing else of `setup` may be relied on. */
	foreignVersion: number | null;
	picture: unknown;
	runs: Runs | null;
	grid: Grid | null;
	detail: Detail | null;
	curve: Curve | null;
	generation: number;
}

export const NOISE_MAX = 10;

type Fields = Record<string, unknown>;

function isRecord(value: unknown): value is Fields {
	return typeof value === "object" && value !== null && !Array.isArray(value);
}

function text(fallback: string) {
	return (value: unknown) => (typeof value === "string" ? value : fallback);
}

function number(fallback: number) {
	return (value: unknown) =>
		typeof value === "number" && Number.isFinite(value) ? value : fallback;
}

function oneOf<T extends string>(first: T, ...rest: T[]) {
	return (value: unknown) => [first, ...rest].find((v) => v === value) ?? first;
}

/** An object that has the named fields, each a list or an object; anything else is "not there yet". */
function shaped<T>(...needed: (keyof T & string)[]) {
	return (value: unknown): T | null => {
		if (!isRecord(value)) return null;
		for (const name of needed) {
			const field = value[name];
			if (typeof field !== "object" || field === null) return null;
		}
		return needed.length > 0 ? (value as T) : null;
	};
}

export function isCell(value: unknown): value is CellIndex {
	return (
		Array.isArray(value) &&
		value.length === 2 &&
		value.every((part) => Number.isInteger(part) && part >= 0)
	);
}

function version(value: unknown): number | null {
	return isRecord(value) && typeof value["version"] === "number"
		? value["version"]
		: null;
}

const readSetup = shaped<Setup>(
	"blocks",
	"sites",
	"metrics",
	"kinds",
	"examples",
	"answer_tokens",
);

/** How the raw value of each is read. */
export const PARSERS: {
	[K in keyof Inputs | keyof Outputs]: (
		value: unknown,
	) => (Inputs & Outputs)[K];
} = {
	question: text(""),
	noise: number(0),
	block: text("question_encoder"),
	site: text("block_output"),
	metric: text("probability"),
	direction: oneOf<Direction>("restore", "disrupt"),
	window: number(1),
	kind: text("multiplicative"),
	samples: number(10),
	seed: number(0),
	show: oneOf<Show>("recovery", "indirect_effect", "score"),
	selection: (value) => (Array.isArray(value) ? value.filter(isCell) : []),
	error: text(""),
	example: number(-1),
	setup: (value) =>
		version(value) === PROTOCOL_VERSION ? readSetup(value) : null,
	foreignVersion: (value) => {
		const theirs = version(value);
		return theirs === PROTOCOL_VERSION ? null : theirs;
	},
	picture: (value) => value ?? null,
	runs: shaped<Runs>("clean", "corrupted", "gate", "bars"),
	grid: shaped<Grid>("tokens", "constructed", "values"),
	detail: shaped<Detail>("cells", "bars"),
	curve: shaped<Curve>("factors", "scores"),
	generation: number(0),
};

/** The trait a signal is read from, where it has another name. */
export function traitOf(name: string): string {
	return name === "foreignVersion" ? "setup" : name;
}
