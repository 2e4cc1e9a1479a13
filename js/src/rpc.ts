// Messages: requests go out with their own id, events come in validated. Malformed events, and those of an older
// generation of the inputs, are silently dropped here.

import { toBytes, toFloats } from "./binary";
import type { HostModel } from "./host";
import type {
	AttentionEvent,
	CellsEvent,
	DoneEvent,
	ExportedEvent,
	ProgressEvent,
	Request,
	TakenEvent,
	TraceEvent,
} from "./protocol";
import { CELL_FIELDS } from "./protocol";
import { isCell } from "./traits";

/** A request as the caller writes it: the id is added here. */
export type Draft<R = Request> = R extends Request ? Omit<R, "id"> : never;

export interface Rpc {
	/** Sends a request; returns its id, or null if no kernel listens. */
	send(request: Draft, buffer?: ArrayBuffer): number | null;
	dispose(): void;
}

export interface Listener {
	cells(event: CellsEvent, floats: Float32Array): void;
	attention(event: AttentionEvent, floats: Float32Array): void;
	progress(event: ProgressEvent): void;
	done(event: DoneEvent): void;
	taken(event: TakenEvent): void;
	call(): void;
	exported(event: ExportedEvent, bytes: Uint8Array<ArrayBuffer>): void;
}

type Fields = Record<string, unknown>;

/** The fields of each kind of event beside its id and generation: an example value of each field's type. */
const SHAPES: Record<TraceEvent["type"], Fields> = {
	cells: { block: "", site: "", cells: [] },
	progress: { done: 0, total: 0, left: "" },
	attention: { layer: 0, rows: 0, columns: 0 },
	taken: {},
	call: {},
	done: { stopped: true },
	exported: { format: "", name: "", media: "" },
};

/** The event in a message, or null if it is not one of this protocol. */
export function parseEvent(content: unknown): TraceEvent | null {
	const fields = Object(content) as Fields;
	const type = String(fields["type"]) as TraceEvent["type"];
	if (!Object.hasOwn(SHAPES, type)) return null;
	const shape = { id: 0, generation: 0, ...SHAPES[type] };
	return Object.entries(shape).every(
		([name, like]) =>
			fields[name] !== null && typeof fields[name] === typeof like,
	)
		? (content as TraceEvent)
		: null;
}

export function createRpc(
	host: HostModel,
	generation: () => number,
	listener: Listener,
): Rpc {
	// Several views share one kernel, and every view hears every event: ids start far apart so that they stay distinct.
	let id = Math.floor(Math.random() * 2 ** 20) * 1024;

	function receive(content: unknown, buffers: unknown): void {
		const event = parseEvent(content);
		if (event === null) return;
		if (event.type === "taken") listener.taken(event);
		// An export and the answer to a call stay valid, whatever has been requested since.
		if (event.type === "call") listener.call();
		else if (event.type !== "exported" && event.generation < generation())
			return;
		const buffer = Array.isArray(buffers) ? buffers[0] : undefined;
		if (event.type === "progress") listener.progress(event);
		else if (event.type === "done") listener.done(event);
		else if (event.type === "exported") {
			const bytes = toBytes(buffer);
			if (bytes !== null) listener.exported(event, bytes);
		} else if (event.type !== "taken" && event.type !== "call") {
			const floats = toFloats(buffer);
			if (event.type === "attention") {
				if (floats !== null) listener.attention(event, floats);
			} else if (
				event.cells.every?.(isCell) &&
				floats?.length === event.cells.length * CELL_FIELDS.length
			)
				listener.cells(event, floats);
		}
	}

	host.on("msg:custom", receive);
	return {
		send(request, buffer) {
			id += 1;
			try {
				host.send(
					{ ...request, id },
					undefined,
					buffer === undefined ? [] : [buffer],
				);
			} catch {
				// A saved notebook has no kernel: the figure stays readable.
				return null;
			}
			return id;
		},
		dispose() {
			host.off("msg:custom", receive);
		},
	};
}
