// The one state container of a view: each trait as a signal, what passes by (single cells, progress, what is awaited),
// and everything else derived from these. Nothing is kept twice: setting a trait goes to the host, and comes back as its
// change event.

import {
	batch,
	computed,
	effect,
	type ReadonlySignal,
	type Signal,
	signal,
} from "@preact/signals-core";
import { toFloats } from "./binary";
import {
	carryOver,
	differenceOf,
	type Fresh,
	fits,
	type GridFrame,
	type GridView,
	key,
	reuseRows,
	sameCells,
	sameView,
	type ViewOf,
	viewCells,
} from "./cells";
import { percent } from "./format";
import type { HostModel } from "./host";
import type { PatchMap } from "./patches";
import type {
	AttentionEvent,
	BlockInfo,
	Detail,
	GridDifference,
} from "./protocol";
import {
	type CellIndex,
	type Inputs,
	type Outputs,
	PARSERS,
	traitOf,
} from "./traits";
import { type Words, wordsOf } from "./words";

/** Milliseconds that nothing is said of what is done within them. */
const SOON = 300;

type Traits = Inputs & Outputs;
type Signals<T> = { readonly [K in keyof T]: ReadonlySignal<T[K]> };

/** A grid that is being filled. */
export interface Running {
	readonly id: number;
	readonly done: number;
	/** 0 until the kernel has said how many. */
	readonly total: number;
	readonly left: string;
}

/** Where the question's tokens look in a layer, as the kernel told it to a hand that points. */
export interface Heard extends AttentionEvent {
	/** (tokens, rows, columns). */
	readonly floats: Float32Array;
}

export interface Model extends Signals<Traits> {
	set<K extends keyof Inputs>(name: K, value: Inputs[K]): void;

	readonly fresh: Signal<Fresh>;
	readonly running: Signal<Running | null>;
	/** Cells asked for one by one, by the id of the request. */
	readonly waiting: Signal<ReadonlyMap<number, readonly CellIndex[]>>;
	/** A selection that is still being drawn out, before it becomes the trait. */
	readonly drawing: Signal<readonly CellIndex[] | null>;

	/** What the hand points at: a cell of the grid, a patch of the picture. */
	readonly pointedCell: Signal<CellIndex | null>;
	readonly pointedPatch: Signal<CellIndex | null>;
	readonly heard: Signal<Heard | null>;

	/** What was just done, for a moment. */
	readonly said: Signal<string>;
	/** The last request found no kernel, or has had no answer for long. */
	readonly offline: Signal<boolean>;
	/** What is being done until the two runs are there, and for how long; "" for nothing that takes long. */
	readonly working: ReadonlySignal<string>;
	/** Why nothing can be asked now, "" where it can. */
	readonly closed: ReadonlySignal<string>;

	readonly words: ReadonlySignal<Words>;
	readonly blockInfo: ReadonlySignal<BlockInfo | null>;
	readonly view: ReadonlySignal<GridView | null>;
	/** What the kernel says of the grid in view beside the one that is kept, if it does. */
	readonly told: ReadonlySignal<GridDifference | null>;
	/** The same grid with differences in place of its values, where they are wanted and there are any. */
	readonly differing: ReadonlySignal<GridView | null>;
	readonly selected: ReadonlySignal<readonly CellIndex[]>;
	/** The patches that are selected: of the picture, or of the image encoder's grid. */
	readonly marked: ReadonlySignal<readonly CellIndex[]>;
	/** What lies over the picture: where the token that is pointed at looks, or the overlay. */
	readonly shownMap: ReadonlySignal<PatchMap | null>;
	/** The layer in which the hand asks where tokens look; null where it does not. */
	readonly looking: ReadonlySignal<number | null>;
	/** How much each token looks at the patch that is pointed at, of the most that any does; empty for none. */
	readonly lookers: ReadonlySignal<readonly number[]>;
	/** The detail, where it belongs to the selection in the grid in view. */
	readonly shownDetail: ReadonlySignal<Detail | null>;

	dispose(): void;
}

export function createModel(host: HostModel): Model {
	const disposers: (() => void)[] = [];

	function trait<K extends keyof Traits>(name: K): Signal<Traits[K]> {
		const from = traitOf(name);
		const read = () => PARSERS[name](host.get(from));
		const value = signal(read());
		const update = () => {
			value.value = read();
		};
		host.on(`change:${from}`, update);
		disposers.push(() => host.off(`change:${from}`, update));
		return value;
	}

	const traits = Object.fromEntries(
		Object.keys(PARSERS).map((name) => [name, trait(name as keyof Traits)]),
	) as { [K in keyof Traits]: Signal<Traits[K]> };

	const fresh = signal<Fresh>(new Map());
	const running = signal<Running | null>(null);
	const waiting = signal<ReadonlyMap<number, readonly CellIndex[]>>(new Map());
	const drawing = signal<readonly CellIndex[] | null>(null);
	const offline = signal(false);
	const said = signal("");
	const closed = computed(
		() =>
			traits.setup.value?.closed ||
			(offline.value
				? "no answer from the kernel: after a restart, run the cell again"
				: ""),
	);

	const words = computed(() => wordsOf(traits.look.value));
	const blockInfo = computed(
		() =>
			traits.setup.value?.blocks.find(
				({ name }) => name === traits.block.value,
			) ?? null,
	);
	const asked = computed<ViewOf>(() => ({
		block: traits.block.value,
		site: traits.site.value,
		head: traits.head.value,
		direction: traits.direction.value,
		window: traits.window.value,
	}));
	const frame = computed<GridFrame | null>(() => {
		const axes = traits.axes.value;
		const grid = traits.grid.value;
		const info = blockInfo.value;
		// A saved figure without a setup shows the grid that it has.
		const of =
			info === null && traits.setup.value === null ? grid : asked.value;
		const known = info ?? (of === grid ? grid : null);
		if (of === null || known === null || known.tokens.length === 0) return null;
		const { block, site, head, direction, window } = of;
		const { layers, tokens } = known;
		return { block, site, head, direction, window, layers, tokens, axes };
	});
	// While this stays the same, values of two generations may stand side by side.
	const meaning = computed(() =>
		JSON.stringify([{ ...frame.value, axes: "" }, traits.metric.value]),
	);
	let lastMeaning = meaning.peek();
	let lastGrid = traits.grid.peek();
	let previous: GridView | null = null;
	const view = computed(() => {
		if (frame.value === null) return null;
		const awaited = new Set<string>();
		for (const cells of waiting.value.values())
			for (const [layer, position] of cells) awaited.add(key(layer, position));
		const filling = running.value !== null;
		const shown = frame.value;
		const next = viewCells(
			shown,
			[traits.grid.value, ...traits.grids.value].find((g) => fits(g, shown)) ??
				null,
			fresh.value,
			traits.generation.value,
			(layer, position) => filling || awaited.has(key(layer, position)),
		);
		previous = reuseRows(next, previous);
		return previous;
	});

	const told = computed(
		() =>
			traits.compared.value?.differences.find(
				(each) => frame.value !== null && sameView(each, frame.value),
			) ?? null,
	);
	let differed: GridView | null = null;
	const differing = computed(() => {
		if (!traits.difference.value || !told.value || !view.value) return null;
		const { value: show } = traits.show;
		const { value: generation } = traits.generation;
		const next = differenceOf(view.value, told.value, show, generation);
		differed = next && reuseRows(next, differed);
		return differed;
	});

	const inFrame = ([layer, position]: CellIndex) =>
		frame.value !== null &&
		layer < frame.value.layers &&
		position < frame.value.tokens.length;
	const selected = computed(() =>
		(drawing.value ?? traits.selection.value).filter(inFrame),
	);
	const shownDetail = computed(() => {
		const detail = traits.detail.value;
		const patches = traits.patches.value;
		if (detail === null || frame.value === null) return null;
		const belongs =
			patches.length > 0
				? detail.direction === traits.direction.value &&
					sameCells(detail.patches, patches)
				: selected.value.length > 0 &&
					sameView(detail, frame.value) &&
					sameCells(detail.cells, selected.value);
		return belongs ? detail : null;
	});

	const pointedCell = signal<CellIndex | null>(null);
	const pointedPatch = signal<CellIndex | null>(null);
	const heard = signal<Heard | null>(null);
	const marked = computed(() => {
		const columns = traits.setup.value?.patches[1] ?? 1;
		const patches = traits.patches.value;
		if (frame.value?.block !== "image_encoder" || patches.length > 0)
			return patches;
		// Position 0 is the class token, which is no part of the picture.
		return [...new Set(selected.value.map(([, position]) => position - 1))]
			.filter((p) => p >= 0)
			.map((p) => [Math.floor(p / columns), p % columns] as const);
	});
	const looking = computed(() => {
		const { block = "", site, layers = 1 } = frame.value ?? {};
		const attends =
			site === "cross_attention" || traits.overlay.value.startsWith("att");
		if (block !== "question_encoder" || !attends) return null;
		if (pointedCell.value !== null) return pointedCell.value[0];
		if (pointedPatch.value === null) return null;
		return selected.value[0]?.[0] ?? heard.peek()?.layer ?? layers - 1;
	});
	const heardNow = computed(() =>
		heard.value?.layer === looking.value ? heard.value : null,
	);
	const lookers = computed(() => {
		const patch = pointedPatch.value;
		const told = heardNow.value;
		if (patch === null || told === null) return [];
		const { rows, columns, floats } = told;
		const at = patch[0] * columns + patch[1];
		const weights = Array.from(
			{ length: floats.length / (rows * columns) },
			(_, token) => Math.abs(floats[token * rows * columns + at] ?? 0),
		);
		const most = Math.max(...weights) || 1;
		return weights.map((weight) => weight / most);
	});
	const shownMap = computed<PatchMap | null>(() => {
		const told = heardNow.value;
		if (told !== null && pointedCell.value !== null) {
			const [layer, position] = pointedCell.value;
			const size = told.rows * told.columns;
			const floats = told.floats.slice(position * size, (position + 1) * size);
			const limit = Math.max(...floats.map(Math.abs));
			const text = `Where “${frame.value?.tokens[position]}” looks in layer ${layer}`;
			return {
				...told,
				square: 1,
				limit,
				low: "0",
				high: percent(limit),
				percent: true,
				unit: "of the attention",
				text,
				floats,
			};
		}
		const map = traits.pictureMap.value;
		const floats = map && toFloats(map.values);
		if (map === null || floats === null || map.rows === 0) return null;
		if (map.overlay !== traits.overlay.value) return null;
		return floats.length === 3 * map.rows * map.columns
			? { ...map, floats }
			: null;
	});

	const working = signal("");
	disposers.push(
		effect(() => {
			const late =
				(traits.runs.value?.generation ?? -1) < traits.generation.value;
			const what = traits.doing.value || "computing";
			const started = Date.now();
			let timer: ReturnType<typeof setTimeout>;
			const tell = () => {
				const seconds = Math.round((Date.now() - started) / 1000);
				working.value = `${what} …${seconds ? ` ${seconds} s` : ""}`;
				timer = setTimeout(tell, 1000);
			};
			if (!late || closed.value || traits.error.value) working.value = "";
			// The next step follows at once on one that was told.
			else if (working.peek()) tell();
			else timer = setTimeout(tell, SOON);
			return () => clearTimeout(timer);
		}),
	);

	// What was under way for other inputs will not be answered any more.
	disposers.push(
		effect(() => {
			traits.generation.value;
			asked.value;
			batch(() => {
				heard.value = null;
				pointedCell.value = null;
				running.value = null;
				waiting.value = new Map();
			});
		}),
		effect(() => {
			const grid = traits.grid.value;
			const same = meaning.value === lastMeaning;
			fresh.value = same ? carryOver(fresh.peek(), lastGrid, grid) : new Map();
			lastGrid = same ? grid : null;
			lastMeaning = meaning.value;
		}),
		effect(() => {
			if (traits.error.value !== "") waiting.value = new Map();
		}),
	);

	return {
		...traits,
		set(name, value) {
			try {
				host.set(traitOf(name), value);
				host.save_changes();
			} catch {
				// Without a kernel the value still shows here.
			}
		},
		fresh,
		running,
		waiting,
		drawing,
		offline,
		working,
		closed,
		said,
		words,
		blockInfo,
		view,
		told,
		differing,
		selected,
		pointedCell,
		pointedPatch,
		heard,
		marked,
		shownMap,
		looking,
		lookers,
		shownDetail,
		dispose() {
			for (const dispose of disposers) dispose();
		},
	};
}
