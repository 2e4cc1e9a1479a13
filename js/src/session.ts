// What a view asks of the kernel, and what it makes of the answers that pass by.

import { batch, effect } from "@preact/signals-core";
import { key, readCell } from "./cells";
import { copy, download, rasterize } from "./files";
import type { HostModel } from "./host";
import type { Model } from "./model";
import { pacer } from "./pacer";
import type { Theme } from "./palette";
import { PROTOCOL_VERSION } from "./protocol";
import { createRpc, type Draft } from "./rpc";
import type { CellIndex } from "./traits";

/** The most cells the kernel takes in one patch. */
const MAX_CELLS = 4096;
/** Milliseconds without an answer after which it is said that there is none. */
const PATIENCE = 10_000;
/** The same for the first message: a saved figure has no kernel. */
const GREETING = 3000;
/** What ipywidgets says when a kernel restarts, dies or is lost; its widgets never get another. */
const LOST = "comm_live_update";
/** Milliseconds between two patches: no hand is faster, and a kernel keeps up with it. */
const INTERVAL = 40;

/** What a view can ask to have exported; PNG is drawn here, from the kernel's SVG. */
export type Format =
	| "svg"
	| "png"
	| "csv"
	| "json"
	| "picture"
	| "other"
	| "python"
	| "cells";

export interface Session {
	hello(): void;
	select(cells: readonly CellIndex[]): void;
	traceAll(): void;
	stop(): void;
	/** A request that traits answer: null where no kernel listens. */
	send(request: Draft, buffer?: ArrayBuffer): number | null;
	/** Patch these patches of the picture; in the image encoder's grid, their states in the layer that is selected. */
	mark(patches: readonly CellIndex[]): void;
	export(format: Format, theme: Theme): void;
	dispose(): void;
}

export function createSession(
	host: HostModel,
	model: Model,
	el: HTMLElement,
): Session {
	const { fresh, running, waiting } = model;
	// Progress may still be on its way when its trace has been stopped.
	const stopped = new Set<number>();
	const exports = new Map<number, Format>();

	let patience: ReturnType<typeof setTimeout> | undefined;
	// A host that cannot send never will again.
	let mute = false;
	const answered = () => {
		clearTimeout(patience);
		model.offline.value = mute;
	};
	// What is dropped for newer inputs is never answered.
	const stopWatching = effect(() => {
		model.generation.value;
		model.error.value;
		model.runs.value;
		answered();
	});

	const lost = () => {
		model.offline.value = true;
		waiting.value = new Map();
		running.value = null;
	};
	host.on(LOST, lost);

	const rpc = createRpc(host, () => model.generation.value, {
		cells(event, floats) {
			answered();
			const next = new Map(fresh.value);
			event.cells.forEach(([layer, position], index) => {
				const values = readCell(floats, event.cells.length, index);
				next.set(key(layer, position), {
					generation: event.generation,
					of: event,
					values,
				});
			});
			fresh.value = next;
		},
		attention(event, floats) {
			answered();
			model.heard.value = { ...event, floats };
		},
		progress({ id, done, total, left }) {
			answered();
			if (stopped.has(id)) return;
			running.value = { id, done, total, left };
		},
		done({ id }) {
			answered();
			batch(() => {
				if (running.value?.id === id) running.value = null;
				// The kernel may fill the grid again for the same request, when the noise changes.
				stopped.delete(id);
				waiting.value = without(waiting.value, id);
			});
		},
		taken: answered,
		call() {
			send({ type: "called" });
		},
		exported({ id, format, name, media }, bytes) {
			answered();
			// Every view hears it; only the one that asked takes it.
			const wanted = exports.get(id);
			exports.delete(id);
			if (wanted !== undefined) deliver(wanted, format, name, media, bytes);
		},
	});

	let saying: ReturnType<typeof setTimeout> | undefined;
	function say(text: string): void {
		model.said.value = text;
		clearTimeout(saying);
		if (text !== "") saying = setTimeout(() => say(""), 1500);
	}

	async function deliver(
		wanted: Format,
		format: string,
		name: string,
		media: string,
		bytes: Uint8Array<ArrayBuffer>,
	): Promise<void> {
		try {
			const blob = new Blob([bytes], { type: media });
			if (format === "python" || format === "cells") {
				await copy(new TextDecoder().decode(bytes), el);
				say("Copied");
			} else if (wanted === "png")
				download(name.replace("svg", "png"), await rasterize(blob));
			else download(name, blob);
		} catch (error) {
			model.set("error", `${name}: ${(error as Error).message}`);
		}
	}

	function send(request: Draft, buffer?: ArrayBuffer): number | null {
		const id = rpc.send(request, buffer);
		if (id === null) model.offline.value = mute = true;
		return id;
	}

	/** A request that is answered with events. Some hosts without a kernel take it and say nothing. */
	function ask(request: Draft, least = PATIENCE): number | null {
		const id = send(request);
		clearTimeout(patience);
		patience = setTimeout(() => {
			model.offline.value = true;
			waiting.value = new Map();
		}, least);
		return id;
	}

	const patch = pacer((chosen: readonly CellIndex[]) => {
		const id = ask({
			type: "patch",
			cells: chosen.map(([layer, position]) => [layer, position]),
		});
		// A set is patched as a whole and fills no single cell.
		if (!model.offline.value && chosen.length === 1 && id !== null)
			waiting.value = new Map(waiting.value).set(id, chosen);
	}, INTERVAL);
	const attend = pacer((layer: number) => {
		send({ type: "attend", layer });
	}, INTERVAL);
	const stopAttending = effect(() => {
		const layer = model.looking.value;
		model.runs.value; // what is asked before they are there is not answered
		if (layer !== null && model.heard.value?.layer !== layer)
			attend.push(layer);
	});
	// Cells are meant in the block in which they were chosen.
	const stopForgetting = model.block.subscribe(() => patch.cancel());

	function select(cells: readonly CellIndex[]): void {
		const chosen = cells.slice(0, MAX_CELLS);
		batch(() => {
			model.drawing.value = null;
			if (model.patches.value.length > 0) model.set("patches", []);
			model.set("selection", chosen);
			if (chosen.length === 0) patch.cancel();
			else patch.push(chosen);
		});
	}

	return {
		hello: () => {
			ask({ type: "hello", version: PROTOCOL_VERSION }, GREETING);
		},
		select,
		mark(patches) {
			const info = model.blockInfo.value;
			if (info?.name !== "image_encoder") {
				if (model.closed.value) return;
				batch(() => {
					if (patches.length > 0) model.set("selection", []);
					model.set("patches", patches);
				});
				return;
			}
			const layer = model.selected.value[0]?.[0] ?? info.layers - 1;
			const columns = model.setup.value?.patches[1] ?? 1;
			select(patches.map(([r, c]) => [layer, 1 + r * columns + c]));
		},
		traceAll() {
			const id = ask({ type: "trace" });
			if (id !== null) running.value = { id, done: 0, total: 0, left: "" };
		},
		stop() {
			if (running.value !== null) stopped.add(running.value.id);
			running.value = null;
			send({ type: "stop" });
		},
		send,
		export(format, theme) {
			const id = ask({
				type: "export",
				format: format === "png" ? "svg" : format,
				theme,
			});
			if (id !== null) exports.set(id, format);
		},
		dispose() {
			clearTimeout(patience);
			clearTimeout(saying);
			patch.cancel();
			attend.cancel();
			stopAttending();
			stopForgetting();
			host.off(LOST, lost);
			stopWatching();
			rpc.dispose();
		},
	};
}

function without<K, V>(map: ReadonlyMap<K, V>, gone: K): ReadonlyMap<K, V> {
	const left = new Map(map);
	return left.delete(gone) ? left : map;
}
