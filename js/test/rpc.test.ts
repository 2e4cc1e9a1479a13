import { beforeEach, describe, expect, it, vi } from "vitest";
import { createRpc, type Listener, parseEvent, type Rpc } from "../src/rpc";
import { createHost, type FakeHost, unaligned } from "./host";

const CELLS = {
	type: "cells",
	id: 1,
	generation: 5,
	block: "question_encoder",
	site: "mlp",
	head: null,
	direction: "restore",
	window: 1,
	patch: 1,
	cells: [[0, 1]],
};
const PROGRESS = {
	type: "progress",
	id: 1,
	generation: 5,
	done: 1,
	total: 2,
	left: "",
};
const DONE = { type: "done", id: 1, generation: 5, stopped: false };
const EXPORTED = {
	type: "exported",
	id: 1,
	generation: 5,
	format: "csv",
	name: "trace.csv",
	media: "text/csv",
};
const SIX = unaligned([1, 2, 3, 4, 5, 6]);

let host: FakeHost;
let rpc: Rpc;
const listener = {
	cells: vi.fn(),
	progress: vi.fn(),
	done: vi.fn(),
	exported: vi.fn(),
	taken: vi.fn(),
	call: vi.fn(),
	attention: vi.fn(),
};
const heard = () =>
	Object.values(listener).reduce((sum, f) => sum + f.mock.calls.length, 0);

beforeEach(() => {
	for (const f of Object.values(listener)) f.mockReset();
	host = createHost();
	rpc = createRpc(host, () => 5, listener satisfies Listener);
});

describe("requests", () => {
	it("carry an id of their own", () => {
		const first = rpc.send({ type: "trace" });
		const second = rpc.send({ type: "patch", cells: [[1, 2]] });
		expect(second).not.toBe(first);
		expect(host.sent).toEqual([
			{ type: "trace", id: first },
			{ type: "patch", id: second, cells: [[1, 2]] },
		]);
		expect(Number.isSafeInteger(first)).toBe(true);
	});

	it("of two views do not meet", () => {
		const other = createRpc(host, () => 5, listener);
		const ids = [rpc, other].flatMap((r) =>
			Array.from({ length: 50 }, () => r.send({ type: "trace" })),
		);
		expect(new Set(ids).size).toBe(100);
	});

	it("carry a picture in the one buffer", () => {
		const bytes = new ArrayBuffer(4);
		rpc.send({ type: "image" }, bytes);
		expect(host.buffers[0]).toEqual([bytes]);
	});

	it("come back as null where no kernel listens", () => {
		host.connected = false;
		expect(rpc.send({ type: "trace" })).toBeNull();
	});
});

describe("events", () => {
	it("a call is answered whatever has been asked since", () => {
		host.message({ type: "call", id: 0, generation: 1 });
		expect(listener.call).toHaveBeenCalledOnce();
	});

	it("are handed on when they are well formed", () => {
		host.message(CELLS, [SIX]);
		host.message(PROGRESS);
		host.message(DONE);
		expect(listener.cells).toHaveBeenCalledWith(
			CELLS,
			Float32Array.of(1, 2, 3, 4, 5, 6),
		);
		expect(listener.progress).toHaveBeenCalledWith(PROGRESS);
		expect(listener.done).toHaveBeenCalledWith(DONE);
		host.message(EXPORTED, [new DataView(Uint8Array.of(9, 7, 8).buffer, 1)]);
		expect(listener.exported).toHaveBeenCalledWith(
			EXPORTED,
			Uint8Array.of(7, 8),
		);
	});

	it("of an older generation are dropped", () => {
		for (const event of [CELLS, PROGRESS, DONE])
			host.message({ ...event, generation: 4 }, [SIX]);
		expect(heard()).toBe(0);
		host.message({ ...EXPORTED, generation: 4 }, [SIX]);
		expect(heard()).toBe(1); // a file is what was asked for, whatever has been asked since
	});

	it.each([
		undefined,
		null,
		"cells",
		42,
		[],
		{},
		{ type: "toString", id: 1, generation: 5 },
		{ ...DONE, type: "else" },
		{ ...DONE, id: "1" },
		{ ...DONE, generation: null },
		{ ...DONE, stopped: 1 },
		{ ...PROGRESS, done: null },
		{ ...PROGRESS, total: "1" },
		{ ...PROGRESS, left: 1 },
		{ ...CELLS, cells: "all" },
		{ ...CELLS, block: 3 },
		{ ...EXPORTED, format: null },
		{ ...EXPORTED, name: undefined },
		{ ...EXPORTED, media: 3 },
	])("are ignored where misshapen: %j", (content) => {
		expect(parseEvent(content)).toBeNull();
		expect(() => host.message(content, [SIX])).not.toThrow();
		expect(heard()).toBe(0);
	});

	it.each([[[[0]]], [[[0, -1]]], [{}]])(
		"with cells that are none are ignored: %j",
		(cells) => {
			host.message({ ...CELLS, cells }, [SIX]);
			expect(heard()).toBe(0);
		},
	);

	it.each([
		[[]],
		[undefined],
		["bytes"],
		[[unaligned([1, 2])]],
		[[new DataView(new ArrayBuffer(19))]],
	])("with cells are ignored without fitting bytes", (buffers) => {
		expect(() => host.message(CELLS, buffers)).not.toThrow();
		expect(heard()).toBe(0);
	});

	it.each([[[]], [undefined], ["bytes"], [[null]]])(
		"with a file are ignored without the file: %j",
		(buffers) => {
			host.message(EXPORTED, buffers);
			expect(heard()).toBe(0);
		},
	);

	it("are not heard any more after the end", () => {
		rpc.dispose();
		host.message(DONE);
		expect(heard()).toBe(0);
		expect(host.listeners()).toBe(0);
	});
});
