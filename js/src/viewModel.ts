// The state of one view of a widget, beside what it shares with the others: the selection being dragged, what is under
// the pointer, and what is derived from these. None of it is saved.

import {
	batch,
	computed,
	effect,
	type ReadonlySignal,
	type Signal,
	signal,
} from "@preact/signals-core";
import { toFloats } from "./binary";
import { sameCells, sameView } from "./cells";
import { percent } from "./format";
import type { Model } from "./model";
import { pacer } from "./pacer";
import { type PatchMap, patchesOf } from "./patches";
import type { AttentionEvent, Detail } from "./protocol";
import { INTERVAL, type Session } from "./session";
import type { CellIndex } from "./traits";

/** Where the question's tokens attend to in a layer, as requested when the pointer moves. */
interface Attention extends AttentionEvent {
	/** (tokens, rows, columns). */
	readonly floats: Float32Array;
}

export interface ViewModel extends Model {
	/** A selection that is still being dragged, before anything is requested for it. */
	readonly drawing: Signal<readonly CellIndex[] | null>;

	/** What is under the pointer: a cell of the grid, a patch of the picture. */
	readonly pointedCell: Signal<CellIndex | null>;
	readonly pointedPatch: Signal<CellIndex | null>;

	/** The cells that are selected, of those that the grid has. */
	readonly selected: ReadonlySignal<readonly CellIndex[]>;
	/** The patches that are selected: of the picture, or of the image encoder's grid. */
	readonly marked: ReadonlySignal<readonly CellIndex[]>;
	/** The map over the picture: where the token under the pointer attends to, or the overlay. */
	readonly shownMap: ReadonlySignal<PatchMap | null>;
	/** How much each token attends to the patch under the pointer, relative to the largest; empty for none. */
	readonly attentionToPatch: ReadonlySignal<readonly number[]>;
	/** The detail, if it belongs to the selection in the grid in view. */
	readonly shownDetail: ReadonlySignal<Detail | null>;
}

export function createViewModel(session: Session): ViewModel {
	const { model } = session;
	const drawing = signal<readonly CellIndex[] | null>(null);
	const pointedCell = signal<CellIndex | null>(null);
	const pointedPatch = signal<CellIndex | null>(null);
	const attention = signal<Attention | null>(null);

	const selected = computed(() => {
		const { layers = 0, tokens = [] } = model.view.value ?? {};
		return (drawing.value ?? model.selection.value).filter(
			([layer, position]) => layer < layers && position < tokens.length,
		);
	});
	const marked = computed(() => {
		const size = model.setup.value?.patches ?? [1, 1];
		const patches = model.patches.value;
		const view = model.view.value;
		if (view?.block !== "image_encoder" || patches.length > 0) return patches;
		const columns = new Set(selected.value.map(([, column]) => column));
		return [...columns].flatMap((at) => patchesOf(at, view.patch, size));
	});
	const shownDetail = computed(() => {
		const detail = model.detail.value;
		const patches = model.patches.value;
		if (detail === null || model.view.value === null) return null;
		const belongs =
			patches.length > 0
				? detail.direction === model.direction.value &&
					sameCells(detail.patches, patches)
				: selected.value.length > 0 &&
					sameView(detail, model.view.value) &&
					sameCells(detail.cells, selected.value);
		return belongs ? detail : null;
	});

	/** The layer whose attention the pointer requests; null for none. */
	const attentionLayer = computed(() => {
		const { block = "", site, layers = 1 } = model.view.value ?? {};
		const attends =
			site?.startsWith("cross_attention") ||
			model.overlay.value.startsWith("att");
		if (block !== "question_encoder" || !attends) return null;
		if (pointedCell.value !== null) return pointedCell.value[0];
		if (pointedPatch.value === null) return null;
		return selected.value[0]?.[0] ?? attention.peek()?.layer ?? layers - 1;
	});
	const attentionNow = computed(() =>
		attention.value?.layer === attentionLayer.value ? attention.value : null,
	);
	const attentionToPatch = computed(() => {
		const patch = pointedPatch.value;
		const known = attentionNow.value;
		if (patch === null || known === null) return [];
		const { rows, columns, floats } = known;
		const at = patch[0] * columns + patch[1];
		const weights = Array.from(
			{ length: floats.length / (rows * columns) },
			(_, token) => Math.abs(floats[token * rows * columns + at] ?? 0),
		);
		const largest = Math.max(...weights) || 1;
		return weights.map((weight) => weight / largest);
	});
	const shownMap = computed<PatchMap | null>(() => {
		const known = attentionNow.value;
		if (known !== null && pointedCell.value !== null) {
			const [layer, position] = pointedCell.value;
			const size = known.rows * known.columns;
			const floats = known.floats.slice(position * size, (position + 1) * size);
			const limit = Math.max(...floats.map(Math.abs));
			const text = `Where “${model.view.value?.tokens[position]}” looks in layer ${layer}`;
			return {
				...known,
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
		const map = model.pictureMap.value;
		const floats = map && toFloats(map.values);
		if (map === null || floats === null || map.rows === 0) return null;
		if (map.overlay !== model.overlay.value) return null;
		return floats.length === 3 * map.rows * map.columns
			? { ...map, floats }
			: null;
	});

	let asked: number | null = null;
	const ask = pacer((layer: number) => {
		asked = session.send({ type: "attention", layer });
	}, INTERVAL);
	const disposers = [
		session.listen({
			attention(event, floats) {
				if (event.id === asked) attention.value = { ...event, floats };
			},
		}),
		effect(() => {
			const layer = attentionLayer.value;
			model.runs.value; // what is asked before they are there is not answered
			if (layer !== null && attention.value?.layer !== layer) ask.push(layer);
		}),
		effect(() => {
			model.asked.value;
			batch(() => {
				attention.value = null;
				pointedCell.value = null;
			});
		}),
		ask.cancel,
	];

	return {
		...model,
		drawing,
		pointedCell,
		pointedPatch,
		selected,
		marked,
		shownMap,
		attentionToPatch,
		shownDetail,
		dispose() {
			for (const dispose of disposers) dispose();
		},
	};
}
