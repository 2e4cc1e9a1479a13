// What all views of a widget share: each trait as a signal, transient state (single cells, progress, pending
// requests), and what is derived from these. Nothing is stored twice: setting a trait goes to the host, and comes back as
// its change event. The state of a single view is in viewModel.ts.

import {
	batch,
	computed,
	effect,
	type ReadonlySignal,
	type Signal,
	signal,
} from "@preact/signals-core";
import {
	carryOver,
	columnNames,
	differenceOf,
	type Fresh,
	fits,
	type GridFrame,
	type GridView,
	key,
	reuseRows,
	sameView,
	type ViewOf,
	viewCells,
	viewOf,
} from "./cells";
import { heldCells } from "./holds";
import type { HostModel } from "./host";
import type { BlockInfo, GridDifference } from "./protocol";
import {
	type CellIndex,
	type Inputs,
	type Outputs,
	PARSERS,
	traitOf,
} from "./traits";
import { type Words, wordsOf } from "./words";

/** Milliseconds of work before it is reported on screen. */
const SOON = 300;
/** Milliseconds for which values of the inputs before are shown as they were: what is replaced at once does not flicker. */
const FADE = 250;

type Traits = Inputs & Outputs;
type Signals<T> = { readonly [K in keyof T]: ReadonlySignal<T[K]> };

/** A grid that is being filled. */
export interface Running {
	readonly id: number;
	readonly done: number;
	/** 0 until the kernel states how many. */
	readonly total: number;
	readonly left: string;
}

/** What is patched together: cells of the grid, or patches of the picture. */
export interface Selection {
	readonly selection: readonly CellIndex[];
	readonly patches: readonly CellIndex[];
}

export interface Model extends Signals<Traits> {
	set<K extends keyof Inputs>(name: K, value: Inputs[K]): void;

	readonly fresh: Signal<Fresh>;
	readonly running: Signal<Running | null>;
	/** Cells asked for one by one, by the id of the request. */
	readonly waiting: Signal<ReadonlyMap<number, readonly CellIndex[]>>;
	/** Selected here and not yet confirmed by the kernel: shown instead of the traits until then. */
	readonly unconfirmed: Signal<Selection | null>;
	/** The selection according to the traits. */
	readonly saved: Signals<Selection>;
	/** The last request found no kernel, or has been unanswered for too long. */
	readonly offline: Signal<boolean>;
	/** What the kernel is doing until the two runs are available, and for how long; "" if it does not take long. */
	readonly working: ReadonlySignal<string>;
	/** Values of an older generation than this are shown as old ones: the generation of a moment ago. */
	readonly due: ReadonlySignal<number>;
	/** Why nothing can be requested now, else "". */
	readonly closed: ReadonlySignal<string>;

	readonly words: ReadonlySignal<Words>;
	readonly blockInfo: ReadonlySignal<BlockInfo | null>;
	readonly view: ReadonlySignal<GridView | null>;
	/** The kernel's difference of the grid in view from the kept one, if there is one. */
	readonly gridDifference: ReadonlySignal<GridDifference | null>;
	/** The same grid with differences instead of its values, if they are to be shown and available. */
	readonly differing: ReadonlySignal<GridView | null>;
	/** Which grid of which inputs is requested: pending requests for another are no longer answered. */
	readonly asked: ReadonlySignal<unknown>;

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
	const offline = signal(false);
	const saved = { selection: traits.selection, patches: traits.patches };
	const unconfirmed = signal<Selection | null>(null);
	const shown = (name: keyof Selection) =>
		computed(() => unconfirmed.value?.[name] ?? saved[name].value);
	const closed = computed(
		() =>
			traits.setup.value?.closed ||
			(offline.value
				? "no answer from the kernel: after a restart, run the cell again"
				: ""),
	);

	const due = signal(traits.generation.peek());
	disposers.push(
		effect(() => {
			const { value: next } = traits.generation;
			const follow = () => {
				due.value = Math.min(next, traits.generation.peek());
			};
			if (next > due.peek()) setTimeout(follow, FADE);
			else follow(); // another kernel counts anew
		}),
	);

	const words = computed(() => wordsOf(traits.look.value));
	const blockInfo = computed(
		() =>
			traits.setup.value?.blocks.find(
				({ name }) => name === traits.block.value,
			) ?? null,
	);
	// As the kernel's `Inputs.spec`: on paths nothing else is held, and each sender is of one layer.
	const inView = computed<ViewOf>(() => {
		const receivers = traits.receivers.value;
		const direct = receivers !== null;
		return {
			block: traits.block.value,
			site: traits.site.value,
			head: traits.head.value,
			direction: traits.direction.value,
			window: direct ? 1 : traits.window.value,
			patch: traits.patch.value,
			hold: direct ? [] : [...traits.hold.value],
			receivers,
			through: direct ? [...traits.through.value] : [],
		};
	});
	const asked = computed(() => ({
		generation: traits.generation.value,
		...inView.value,
	}));
	const frame = computed<GridFrame | null>(() => {
		const axes = traits.axes.value;
		const grid = traits.grid.value;
		const info = blockInfo.value;
		// A saved figure without a setup shows the grid that it has.
		const of =
			info === null && traits.setup.value === null ? grid : inView.value;
		const known = info ?? (of === grid ? grid : null);
		if (of === null || known === null || known.tokens.length === 0) return null;
		const { patch } = of;
		const { layers } = known;
		const patches = traits.setup.value?.patches;
		const tokens =
			known === grid || !patches
				? known.tokens
				: columnNames(known.tokens, patch, patches);
		return { ...viewOf(of), layers, tokens, axes };
	});
	// While this stays the same, values of two generations may be shown side by side.
	const meaning = computed(() =>
		JSON.stringify([{ ...frame.value, axes: "" }, traits.metric.value]),
	);
	let lastMeaning = meaning.peek();
	let lastGrid = traits.grid.peek();
	const gridDifference = computed(
		() =>
			traits.compared.value?.differences.find(
				(each) => frame.value !== null && sameView(each, frame.value),
			) ?? null,
	);
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
			due.value,
			(layer, position) => filling || awaited.has(key(layer, position)),
			gridDifference.value?.apart,
			traits.truth.value,
			heldCells(shown, traits.setup.value?.patches ?? [1, 1]),
		);
		previous = reuseRows(next, previous);
		return previous;
	});

	let differed: GridView | null = null;
	const differing = computed(() => {
		if (!traits.difference.value || !gridDifference.value || !view.value)
			return null;
		const { value: show } = traits.show;
		const next = differenceOf(
			view.value,
			gridDifference.value,
			show,
			due.value,
		);
		differed = next && reuseRows(next, differed);
		return differed;
	});

	const working = signal("");
	disposers.push(
		effect(() => {
			const late =
				(traits.runs.value?.generation ?? -1) < traits.generation.value;
			const what = traits.doing.value || "computing";
			const started = Date.now();
			let timer: ReturnType<typeof setTimeout>;
			const report = () => {
				const seconds = Math.round((Date.now() - started) / 1000);
				working.value = `${what} …${seconds ? ` ${seconds} s` : ""}`;
				timer = setTimeout(report, 1000);
			};
			if (!late || closed.value || traits.error.value) working.value = "";
			// The next step is reported at once if one is already shown.
			else if (working.peek()) report();
			else timer = setTimeout(report, SOON);
			return () => clearTimeout(timer);
		}),
	);

	// Pending requests for other inputs are no longer answered.
	disposers.push(
		effect(() => {
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
		selection: shown("selection"),
		patches: shown("patches"),
		saved,
		unconfirmed,
		fresh,
		running,
		waiting,
		offline,
		working,
		due,
		closed,
		words,
		blockInfo,
		view,
		gridDifference,
		differing,
		asked,
		dispose() {
			for (const dispose of disposers) dispose();
		},
	};
}
