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
} from "@preact/signals";
import {
	carryOver,
	type Fresh,
	type GridFrame,
	type GridView,
	key,
	reuseRows,
	sameCells,
	sameView,
	type ViewOf,
	viewCells,
} from "./cells";
import type { HostModel } from "./host";
import type { BlockInfo, Detail } from "./protocol";
import {
	type CellIndex,
	type Inputs,
	type Outputs,
	PARSERS,
	traitOf,
} from "./traits";
import { type Words, wordsOf } from "./words";

type Traits = Inputs & Outputs;
type Signals<T> = { readonly [K in keyof T]: ReadonlySignal<T[K]> };

/** A grid that is being filled. */
export interface Running {
	readonly id: number;
	readonly done: number;
	/** 0 until the kernel has said how many. */
	readonly total: number;
	readonly secondsLeft: number | null;
}

export interface Model extends Signals<Traits> {
	set<K extends keyof Inputs>(name: K, value: Inputs[K]): void;

	readonly fresh: Signal<Fresh>;
	readonly running: Signal<Running | null>;
	/** Cells asked for one by one, by the id of the request. */
	readonly waiting: Signal<ReadonlyMap<number, readonly CellIndex[]>>;
	/** A selection that is still being drawn out, before it becomes the trait. */
	readonly drawing: Signal<readonly CellIndex[] | null>;

	/** What was just done, for a moment. */
	readonly said: Signal<string>;
	/** The last request found no kernel, or has had no answer for long. */
	readonly offline: Signal<boolean>;

	readonly words: ReadonlySignal<Words>;
	readonly blockInfo: ReadonlySignal<BlockInfo | null>;
	readonly view: ReadonlySignal<GridView | null>;
	readonly selected: ReadonlySignal<readonly CellIndex[]>;
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
		const next = viewCells(
			frame.value,
			traits.grid.value,
			fresh.value,
			traits.generation.value,
			(layer, position) => filling || awaited.has(key(layer, position)),
		);
		previous = reuseRows(next, previous);
		return previous;
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
		const belongs =
			detail !== null &&
			selected.value.length > 0 &&
			frame.value !== null &&
			sameView(detail, frame.value) &&
			sameCells(detail.cells, selected.value);
		return belongs ? detail : null;
	});

	// What was under way for other inputs will not be answered any more.
	disposers.push(
		effect(() => {
			traits.generation.value;
			asked.value;
			batch(() => {
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
		said,
		words,
		blockInfo,
		view,
		selected,
		shownDetail,
		dispose() {
			for (const dispose of disposers) dispose();
		},
	};
}
