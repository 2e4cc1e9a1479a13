// What a widget requests from the kernel, and how it handles the answers: one session per model, whatever the number of
// its views.

import { batch, effect } from "@preact/signals-core";
import { key, readCell, sameView, viewOf } from "./cells";
import type { Hold } from "./holds";
import type { HostModel } from "./host";
import { createModel, type Model, type Selection } from "./model";
import { pacer } from "./pacer";
import { columnOf } from "./patches";
import { type FindRequest, MAX_CELLS, PROTOCOL_VERSION } from "./protocol";
import { createRpc, type Draft, type Listener } from "./rpc";
import type { CellIndex } from "./traits";
import {
	atPicture,
	backTo,
	intoAnswer,
	intoCells,
	type Receivers,
	type Walk,
} from "./walk";

/** Milliseconds without an answer after which the kernel counts as offline. */
const PATIENCE = 10_000;
/** The same for the first message: a saved figure has no kernel. */
const GREETING = 3000;
/** The statuses of a kernel that restarts, dies or is lost; its widgets never get another. */
const LOST = "comm_live_update";
/** Minimum milliseconds between two requests while the pointer moves, so that the kernel can keep up. */
export const INTERVAL = 40;

/** Events that only one view can handle: answers to its own requests, by their id. */
export type Answers = Partial<Pick<Listener, "attention" | "exported">>;

export interface Session {
	readonly model: Model;
	/** A view states its protocol version. */
	hello(): void;
	select(cells: readonly CellIndex[]): void;
	/** Patch these patches of the picture; in the image encoder's grid, their states in the layer that is selected. */
	mark(patches: readonly CellIndex[]): void;
	/** Hold this, and nothing else; a recording has only what was recorded. */
	hold(next: Hold): void;
	/** Show the paths into some cells of the grid in view; into none of them: into the answer. */
	walk(cells: readonly CellIndex[]): void;
	/** Back to the paths into the first `count` receivers; 0 = to single states. */
	back(count: number): void;
	traceAll(): void;
	verify(): void;
	flow(): void;
	find(asked: Omit<FindRequest, "type" | "id">): void;
	stop(): void;
	/** A request that is answered through traits; null if no kernel listens. */
	send(request: Draft, buffer?: ArrayBuffer): number | null;
	/** A request that is answered with events. Some hosts without a kernel accept it silently. */
	ask(request: Draft): number | null;
	/** Listen to every answer, until the returned function is called. */
	listen(answers: Answers): () => void;
	dispose(): void;
}

export function createSession(host: HostModel): Session {
	const model = createModel(host);
	const { fresh, running, waiting } = model;
	// Progress may still be on its way when its trace has been stopped.
	const stopped = new Set<number>();
	const listeners = new Set<Answers>();

	let patience: ReturnType<typeof setTimeout> | undefined;
	// A host that cannot send never will again.
	let mute = false;
	const answered = () => {
		clearTimeout(patience);
		model.offline.value = mute;
	};
	// Requests dropped because of newer inputs are never answered.
	const disposers: (() => void)[] = [];
	const follow = (act: () => void) => disposers.push(effect(act));
	follow(() => {
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
		attention(...event) {
			answered();
			for (const listener of listeners) listener.attention?.(...event);
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
		taken({ id }) {
			answered();
			if (id === untaken) untaken = null;
		},
		call() {
			send({ type: "called" });
		},
		exported(...event) {
			answered();
			for (const listener of listeners) listener.exported?.(...event);
		},
	});

	function send(request: Draft, buffer?: ArrayBuffer): number | null {
		const id = rpc.send(request, buffer);
		if (id === null) model.offline.value = mute = true;
		return id;
	}

	function ask(request: Draft, least = PATIENCE): number | null {
		const id = send(request);
		clearTimeout(patience);
		patience = setTimeout(() => {
			model.offline.value = true;
			waiting.value = new Map();
		}, least);
		return id;
	}

	/** A long request: its progress is shown. */
	function start(request: Draft): boolean {
		const id = ask(request);
		if (id !== null) running.value = { id, done: 0, total: 0, left: "" };
		return id !== null;
	}

	// A selection goes to the kernel only as a request, and comes back as a trait. Until then it is shown as it was
	// asked: traits that arrive before the kernel has received the request belong to an earlier selection.
	let untaken: number | "held back" | null = null;
	const expect = (selection: Selection | null) => {
		model.unconfirmed.value = selection;
		untaken = null;
	};
	follow(() => {
		model.saved.selection.value;
		model.saved.patches.value;
		if (untaken === null) model.unconfirmed.value = null;
	});
	follow(() => {
		// A rejected selection is dropped.
		if (model.error.value && !model.offline.peek()) expect(null);
	});

	const patch = pacer((chosen: readonly CellIndex[]) => {
		const id = ask({
			type: "patch",
			cells: chosen.map(([layer, position]) => [layer, position]),
		});
		untaken = id;
		// Without a kernel, the known values can still be viewed.
		if (id === null)
			batch(() => {
				model.set("patches", []);
				model.set("selection", chosen);
				expect(null);
			});
		// A set is patched as a whole and fills no single cell.
		else if (!model.offline.value && chosen.length === 1)
			waiting.value = new Map(waiting.value).set(id, chosen);
	}, INTERVAL);
	// Cells refer to the block in which they were chosen.
	follow(() => {
		model.block.value;
		patch.cancel();
		expect(null);
	});

	function select(cells: readonly CellIndex[]): void {
		const selection = cells.slice(0, MAX_CELLS);
		if (selection.length + model.selection.value.length === 0) return;
		batch(() => {
			expect({ selection, patches: [] });
			untaken = "held back";
			patch.push(selection);
		});
	}

	function mark(patches: readonly CellIndex[]): void {
		const info = model.blockInfo.value;
		const none = patches.length === 0;
		if (
			info?.name === "image_encoder" &&
			!(none && model.patches.value.length > 0)
		) {
			const [cell] = model.selection.value;
			const layer = Math.min(cell?.[0] ?? info.layers, info.layers - 1);
			const size = model.setup.value?.patches ?? [1, 1];
			const columns = patches.map((at) =>
				columnOf(at, model.patch.value, size),
			);
			select([...new Set(columns)].map((column) => [layer, column]));
		} else if (!model.closed.value) {
			model.set("patches", patches);
			// The kernel drops one of the two.
			expect(none ? null : { selection: [], patches });
		}
	}

	function hold(next: Hold): void {
		const view = model.view.value;
		const of = view && { ...viewOf(view), hold: [...next] };
		const grids = [model.grid.value, ...model.grids.value];
		const known = grids.some((grid) => grid && of && sameView(grid, of));
		const closed = known ? "" : model.closed.value;
		if (closed) model.set("error", `hold: ${closed}`);
		else model.set("hold", next);
	}

	function step(next: Walk): void {
		if (atPicture(next.receivers) && model.overlay.value === "none")
			model.set("overlay", "map_paths");
		if (next.receivers === null && model.overlay.value === "map_paths")
			model.set("overlay", "none");
		patch.cancel();
		expect(null);
		if (start({ type: "walk", ...next })) return;
		// Without a kernel, the known grids can still be viewed.
		batch(() => {
			const { cells, ...rest } = next;
			for (const [name, value] of Object.entries(rest))
				model.set(name as "path", value as typeof rest.path);
			model.set("selection", cells);
		});
	}

	const size = () => model.setup.value?.patches ?? ([1, 1] as const);
	const walked = () => ({
		receivers: model.receivers.value,
		path: model.path.value as Receivers[],
	});

	return {
		model,
		hold,
		walk(cells) {
			const view = model.view.value;
			if (view === null) return;
			if (cells.length > 0) step(intoCells(view, walked(), cells, size()));
			else if (model.receivers.value === null) step(intoAnswer());
		},
		back(count) {
			if (model.view.value !== null)
				step(backTo(model.view.value, walked(), count, size()));
		},
		hello: () => {
			ask({ type: "hello", version: PROTOCOL_VERSION }, GREETING);
		},
		select,
		mark,
		traceAll: () => start({ type: "trace" }),
		verify: () => start({ type: "verify" }),
		flow: () => start({ type: "flow" }),
		find: (asked) => start({ type: "find", ...asked }),
		stop() {
			if (running.value !== null) stopped.add(running.value.id);
			running.value = null;
			send({ type: "stop" });
		},
		send,
		ask,
		listen(answers) {
			listeners.add(answers);
			return () => listeners.delete(answers);
		},
		dispose() {
			clearTimeout(patience);
			patch.cancel();
			for (const dispose of disposers) dispose();
			host.off(LOST, lost);
			rpc.dispose();
			model.dispose();
		},
	};
}

function without<K, V>(map: ReadonlyMap<K, V>, gone: K): ReadonlyMap<K, V> {
	const left = new Map(map);
	return left.delete(gone) ? left : map;
}
