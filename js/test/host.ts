// A stand-in for the host's model and its kernel: keeps traits, counts listeners, remembers what was sent.

import type { GridFrame } from "../src/cells";
import type { HostModel } from "../src/host";
import {
	type Bars,
	type Detail,
	type Grid,
	type Look,
	type Palette,
	PROTOCOL_VERSION,
	type Runs,
	type Setup,
} from "../src/protocol";

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
	/** The kernel takes the last patch that was asked for, and sets the traits. */
	confirm(): void;
	/** The kernel restarts or dies. */
	lose(): void;
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
		confirm() {
			const patch = host.sent.filter(({ type }) => type === "patch").at(-1);
			host.message({ type: "taken", id: patch?.["id"], generation: 3 });
			host.put("selection", patch?.["cells"]);
			host.put("patches", []);
		},
		lose() {
			host.connected = false;
			emit("comm_live_update");
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
export const FRAME: GridFrame = {
	block: "question_encoder",
	site: "block_output",
	head: null,
	direction: "restore",
	window: 1,
	patch: 1,
	hold: [],
	receivers: null,
	through: [],
	layers: LAYERS,
	tokens: TOKENS,
	axes: "tokens",
};

/** The six fields of every cell; `value` gives the recovery, NaN = not computed; from 0.05 on it is significant. */
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
		head: null,
		direction: "restore",
		window: 1,
		patch: 1,
		hold: [],
		receivers: null,
		through: [],
		damage: "noise 5.0",
		layers: LAYERS,
		tokens: TOKENS,
		constructed: [],
		dead: [],
		nan: [],
		truth: [],
		notes: [],
		held: "",
		into: "",
		kept: "noisy",
		values: unaligned([
			...recoveries.map((recovery) => 0.1 + 0.8 * recovery),
			...recoveries.map((recovery) => 0.8 * recovery),
			...known(0.02),
			...recoveries,
			...known(0.03),
			...recoveries.map((recovery) =>
				Number.isNaN(recovery) ? recovery : Number(Math.abs(recovery) >= 0.05),
			),
		]),
		...more,
	};
}

const PARTS = ["block_output", "self_attention", "mlp"];

export const SETUP: Setup = {
	version: PROTOCOL_VERSION,
	closed: "",
	model: "demo",
	models: [],
	circuit: "",
	blocks: [
		{
			name: "image_encoder",
			layers: 2,
			tokens: ["a"],
			sites: PARTS,
			heads: 2,
			enabled: false,
			reason: "the noise lies behind it",
		},
		{
			name: "question_encoder",
			layers: LAYERS,
			tokens: TOKENS,
			sites: [...PARTS, "cross_attention"],
			heads: 4,
			enabled: true,
			reason: "",
		},
		{
			name: "answer_decoder",
			layers: LAYERS,
			tokens: ["[DEC]"],
			sites: [...PARTS, "cross_attention"],
			heads: 4,
			enabled: true,
			reason: "",
		},
	],
	head_sites: ["self_attention", "cross_attention"],
	choices: {
		metric: ["probability", "log_probability", "logit_difference"],
		corruption: [
			"GaussianNoise",
			"Scale",
			"ImageSwap",
			"QuestionSwap",
			"MeanAblation",
		],
		kind: ["multiplicative", "additive"],
		at: ["image_embeddings", "patch_embeddings"],
		to: ["mean", "zero"],
		overlay: ["none", "map_disrupt", "map_restore", "attention_clean"],
		direction: ["restore", "disrupt"],
		axes: ["tokens", "layers"],
		also: ["other seed", "ablation"],
		find: ["restore", "disrupt", "isolate"],
		among: ["states", "heads"],
	},
	places: {
		GaussianNoise: [
			"patch_embeddings",
			"image_embeddings",
			"question_embeddings",
		],
		Scale: ["patch_embeddings", "image_embeddings"],
		ImageSwap: ["patch_embeddings", "image_embeddings"],
		QuestionSwap: [],
		MeanAblation: ["patch_embeddings", "image_embeddings"],
	},
	words: TOKENS,
	patches: [4, 4],
	examples: [
		{ name: "red circle", question: "what color ?" },
		{ name: "two squares", question: "how many?" },
	],
	answer_tokens: ["red"],
};

/** Few colours, so that each can be told apart: a fill, and the mark's colour on it. */
export const PALETTE: Palette = {
	diverging: [
		["#7e4000", "#ffffff"],
		["#c08040", "#1b1b1f"],
		["#f7f7fa", "#6f6f7c"],
		["#9070d0", "#1b1b1f"],
		["#5f30a8", "#ffffff"],
	],
	sequential: [
		["#f7f7fa", "#6f6f7c"],
		["#80b0b0", "#1b1b1f"],
		["#005e66", "#ffffff"],
	],
};

export const LOOK: Look = {
	labels: {
		question_encoder: "Question encoder",
		self_attention: "self-attention",
		"self_attention head": "self-attention head",
		mlp: "MLP",
		score: "patched score",
		GaussianNoise: "noise",
		mean: "their mean",
		export_python: "Copy as Python",
	},
	explain: {
		more: "Point at a setting to read what it means.",
		window: "How many layers are patched together.",
		squares: "squares of # × # tokens",
		empty: "not computed: click to patch it",
		waiting: "waiting to be computed",
		old: "value for earlier settings",
		constructed: "1 by construction",
		negligible: "not distinguishable from 0",
		margin: "± 95 % interval",
		nan: "the score is not a number",
		lacking: "not computed in both grids",
		apart: "not so under the other damage",
	},
	captions: {
		"recovery restore": "How much each state brings back",
		"low recovery restore": "hurts",
		"high recovery restore": "restores",
		"low difference": "less",
		"high difference": "more",
		"unit recovery": "recovery of ",
		"unit indirect_effect": "change of ",
		"hint restore": "Click a cell to restore that hidden state",
		"hint disrupt": "Click a cell to damage that hidden state",
	},
	palettes: { light: PALETTE, dark: PALETTE },
};

export const BARS: Bars = {
	words: ["red", "blue"],
	clean: [0.93, 0.03],
	corrupted: [0.12, 0.41],
	patched: [],
	pinned: [],
};

export const RUNS: Runs = {
	generation: 3,
	cause: "noise",
	damage: "noise 5.0",
	line: "multiplicative · 10 samples · seed 0",
	given: false,
	metric: "probability",
	clean: { answer: "red", score: 0.93, stderr: null, share: 0.93 },
	corrupted: { answer: "blue", score: 0.12, stderr: 0.02, share: 0.12 },
	total_effect: 0.81,
	total_effect_margin: 0.02,
	error: "",
	gate: { open: true, text: "the noise took 81 points: enough to trace" },
	bars: BARS,
};

/** The patched run of one cell. */
export const DETAIL: Detail = {
	generation: 3,
	block: "question_encoder",
	site: "block_output",
	head: null,
	tokens: TOKENS,
	layers: LAYERS,
	cause: "noise",
	damage: "noise 5.0",
	metric: "probability",
	direction: "restore",
	window: 1,
	patch: 1,
	hold: [],
	receivers: null,
	through: [],
	cells: [[2, 1]],
	patches: [],
	held: null,
	free: null,
	into: "",
	dead: false,
	negligible: false,
	error: "",
	score: 0.59,
	margin: 0.03,
	indirect_effect: 0.47,
	recovery: 0.58,
	recovery_margin: 0.04,
	bars: { ...BARS, patched: [0.59, 0.18] },
};

/** All traits of a figure that is partly computed. */
export function fullTraits(): Record<string, unknown> {
	return {
		question: "what color ?",
		noise: 5,
		block: "question_encoder",
		site: "block_output",
		head: null,
		metric: "probability",
		foil: "",
		direction: "restore",
		window: 1,
		patch: 1,
		hold: [],
		receivers: null,
		through: [],
		path: [],
		arrow: false,
		corruption: "GaussianNoise",
		kind: "multiplicative",
		at: "image_embeddings",
		other_question: "",
		to: "mean",
		scale: 0.7691,
		positions: null,
		strength: 1,
		samples: 10,
		seed: 0,
		show: "recovery",
		axes: "tokens",
		limit: 0,
		selection: [],
		region: null,
		patches: [],
		overlay: "none",
		square: 1,
		opacity: 0.8,
		error: "",
		example: -1,
		look: LOOK,
		setup: SETUP,
		picture: new DataView(new ArrayBuffer(8)),
		other_picture: new DataView(new ArrayBuffer(0)),
		picture_map: {},
		runs: RUNS,
		grid: gridOf(3, (layer, position) =>
			position === 3 ? Number.NaN : 0.2 * layer,
		),
		grids: [],
		detail: {},
		pinned: {},
		ablation: {},
		found: {},
		flow: {},
		compared: {},
		difference: false,
		truth: false,
		steps: { undo: false, redo: false },
		doing: "",
		curve: {
			generation: 3,
			factors: [0, 5, 10],
			scores: [0.9, 0.1, 0.1],
			clean: 0.93,
			low: 2,
			high: 4.5,
			lost_at: 6,
			lost: "From ν = 6 on all is lost",
		},
		generation: 3,
	};
}
