// What a view asks of the kernel, and what it makes of the answers that pass by.

import { batch } from "@preact/signals";
import { key, readCell } from "./cells";
import type { HostModel } from "./host";
import type { Model } from "./model";
import { PROTOCOL_VERSION } from "./protocol";
import { createRpc, type Draft } from "./rpc";
import type { CellIndex } from "./traits";

/** The most cells the kernel takes in one patch. */
const MAX_CELLS = 4096;
/** Milliseconds without an answer after which it is said that there is none. */
const PATIENCE = 10_000;

export interface Session {
	hello(): void;
	select(cells: readonly CellIndex[]): void;
	traceAll(): void;
	stop(): void;
	setPicture(bytes: ArrayBuffer): void;
	dispose(): void;
}

export function createSession(host: HostModel, model: Model): Session {
	const { fresh, running, waiting } = model;
	// Progress may still be on its way when its trace has been stopped.
	const stopped = new Set<number>();

	let patience: ReturnType<typeof setTimeout> | undefined;
	const answered = () => {
		clearTimeout(patience);
		model.offline.value = false;
	};
	// What is dropped for newer inputs is never answered.
	const stopWatching = model.generation.subscribe(answered);

	const rpc = createRpc(host, () => model.generation.value, {
		cells(event, floats) {
			answered();
			const { generation, block, site } = event;
			const next = new Map(fresh.value);
			event.cells.forEach(([layer, position], index) => {
				const values = readCell(floats, event.cells.length, index);
				next.set(key(layer, position), { generation, block, site, values });
			});
			fresh.value = next;
		},
		progress({ id, done, total, seconds_left }) {
			answered();
			if (stopped.has(id)) return;
			running.value = { id, done, total, secondsLeft: seconds_left };
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
	});

	function send(request: Draft, buffer?: ArrayBuffer): number | null {
		const id = rpc.send(request, buffer);
		model.offline.value = id === null;
		return id;
	}

	/** A request that is answered with events. Some hosts without a kernel take it and say nothing. */
	function ask(request: Draft): number | null {
		const id = send(request);
		clearTimeout(patience);
		patience = setTimeout(() => {
			model.offline.value = true;
			waiting.value = new Map();
		}, PATIENCE);
		return id;
	}

	return {
		hello: () => {
			send({ type: "hello", version: PROTOCOL_VERSION });
		},
		select(cells) {
			const chosen = cells.slice(0, MAX_CELLS);
			batch(() => {
				model.drawing.value = null;
				model.set("selection", chosen);
				if (chosen.length === 0) return;
				const id = ask({
					type: "patch",
					cells: chosen.map(([layer, position]) => [layer, position]),
				});
				// A set is patched as a whole and fills no single cell.
				if (id !== null && chosen.length === 1)
					waiting.value = new Map(waiting.value).set(id, chosen);
			});
		},
		traceAll() {
			const id = ask({ type: "trace" });
			if (id !== null)
				running.value = { id, done: 0, total: 0, secondsLeft: null };
		},
		stop() {
			if (running.value !== null) stopped.add(running.value.id);
			running.value = null;
			send({ type: "stop" });
		},
		setPicture: (bytes) => {
			send({ type: "image" }, bytes);
		},
		dispose() {
			clearTimeout(patience);
			stopWatching();
			rpc.dispose();
		},
	};
}

function without<K, V>(map: ReadonlyMap<K, V>, gone: K): ReadonlyMap<K, V> {
	if (!map.has(gone)) return map;
	return new Map([...map].filter(([name]) => name !== gone));
}
