// A stand-in for the host's model and its kernel: keeps traits, counts listeners, remembers what was sent.

import type { HostModel } from "../src/host";
import type { Grid, Setup } from "../src/protocol";

type Listener = (...values: never[]) => void;

export interface FakeHost extends HostModel {
	readonly traits: Record<string, unknown>;
	readonly sent: Record<string, unknown>[];
	readonly buffers: unknown[];
	/** What happened, in order: "on change:noise", "send hello", … */
	readonly log: string[];
	listeners(): number;
	saves: number;
	/** The kernel sets a trait. */
	put(name: string, value: unknown): void;
	/** The kernel sends a message. */
	message(content: unknown, buffers?: unknown): void;
	connected: boolean;
}

export function createHost(traits: Record<string, unknown> = {}): FakeHost {
	const listeners: [event: string, listener: Listener][] = [];
	const emit = (event: string, ...values: unknown[]) => {
		for (const [name, listener] of [...listeners])
			if (name === event)
				(listener as (...values: unknown[]) => void)(...values);
	};
	const host: FakeHost = {
		traits,
		sent: [],
		buffers: [],
		log: [],
		saves: 0,
		connected: true,
		listeners: () => listeners.length,
		get: (name) => traits[name],
		set(name, value) {
			traits[name] = value;
			emit(`change:${name}`);
		},
		save_changes() {
			host.saves += 1;
		},
		on(event, listener) {
			host.log.push(`on ${event}`);
			listeners.push([event, listener]);
		},
		off(event, listener) {
			const at = listeners.findIndex(
				([name, other]) => name === event && other === listener,
			);
			if (at >= 0) listeners.splice(at, 1);
		},
		send(content, _callbacks, buffers) {
			const request = content as Record<string, unknown>;
			host.log.push(`send ${request["type"]}`);
			if (!host.connected) throw new Error("the comm is closed");
			host.sent.push(request);
			host.buffers.push(buffers);
		},
		put(name, value) {
			traits[name] = value;
			emit(`change:${name}`);
		},
		message: (content, buffers = []) => emit("msg:custom", content, buffers),
	};
	return host;
}

/** Floats as the host hands them over: a view that does not start at a multiple of four. */
export function unaligned(floats: ArrayLike<number>): DataView {
	const bytes = new Uint8Array(Float32Array.from(floats).buffer);
	const padded = new Uint8Array(bytes.length + 1);
	padded.set(bytes, 1);
	return new DataView(padded.buffer, 1);
}

export const TOKENS = ["[CLS]", "what", "color", "?"];
export const LAYERS = 3;

/** The five fields of every cell; `value` gives the recovery, NaN = not computed. */
export function gridOf(
	generation: number,
	value: (layer: number, position: number) => number,
	more: Partial<Grid> = {},
): Grid {
	const recoveries = Array.from({ length: LAYERS * TOKENS.length }, (_, i) =>
		value(Math.floor(i / TOKENS.length), i % TOKENS.length),
	);
	const known = (number: number) =>
		recoveries.map((recovery) => (Number.isNaN(recovery) ? recovery : number));
	return {
		generation,
		block: "question_encoder",
		site: "block_output",
		noise: 5,
		layers: LAYERS,
		tokens: TOKENS,
		constructed: [],
		values: unaligned([
			...recoveries.map((recovery) => 0.1 + 0.8 * recovery),
			...recoveries.map((recovery) => 0.8 * recovery),
			...known(0.02),
			...recoveries,
			...known(0.03),
		]),
		...more,
	};
}

export const SETUP: Setup = {
	version: 1,
	model: "demo",
	blocks: [
		{
			name: "image_encoder",
			layers: 2,
			tokens: ["a"],
			enabled: false,
			reason: "the noise lies behind it",
		},
		{
			name: "question_encoder",
			layers: LAYERS,
			tokens: TOKENS,
			enabled: true,
			reason: "",
		},
		{
			name: "answer_decoder",
			layers: LAYERS,
			tokens: ["[DEC]"],
			enabled: true,
			reason: "",
		},
	],
	sites: ["block_output", "mlp"],
	metrics: ["probability", "log_probability"],
	kinds: ["multiplicative", "additive"],
	examples: [
		{ name: "red circle", question: "what color ?" },
		{ name: "two squares", question: "how many?" },
	],
	answer_tokens: ["red"],
};

export const BARS = {
	words: ["red", "blue"],
	clean: [0.93, 0.03],
	corrupted: [0.12, 0.41],
	patched: [],
};

export const RUNS = {
	generation: 3,
	noise: 5,
	metric: "probability",
	clean: { answer: "red", score: 0.93, stderr: null },
	corrupted: { answer: "blue", score: 0.12, stderr: 0.02 },
	total_effect: 0.81,
	total_effect_stderr: 0.02,
	gate: { open: true, text: "the noise took 81 points: enough to trace" },
	bars: BARS,
};

/** All traits of a figure that is partly computed. */
export function fullTraits(): Record<string, unknown> {
	return {
		question: "what color ?",
		noise: 5,
		block: "question_encoder",
		site: "block_output",
		metric: "probability",
		direction: "restore",
		window: 1,
		kind: "multiplicative",
		samples: 10,
		seed: 0,
		show: "recovery",
		selection: [],
		error: "",
		setup: SETUP,
		picture: new DataView(new ArrayBuffer(8)),
		runs: RUNS,
		grid: gridOf(3, (layer, position) =>
			position === 3 ? Number.NaN : 0.2 * layer,
		),
		detail: {},
		curve: {
			generation: 3,
			factors: [0, 5, 10],
			scores: [0.9, 0.1, 0.1],
			clean: 0.93,
		},
		generation: 3,
	};
}
