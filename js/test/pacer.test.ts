import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { pacer } from "../src/pacer";

const act = vi.fn();
const acted = () => act.mock.calls.flat();
const wait = (ms: number) => vi.advanceTimersByTime(ms);

beforeEach(() => {
	act.mockReset();
	vi.useFakeTimers();
});
afterEach(() => vi.useRealTimers());

describe("without patience", () => {
	it("passes on the first value at once, then at most one an interval, and always the last", () => {
		const { push } = pacer<number>(act, 40);
		for (let ms = 0; ms < 100; ms += 10) {
			push(ms);
			wait(10);
		}
		wait(200);
		expect(acted()).toEqual([0, 30, 70, 90]);
	});

	it("is ready again after a pause", () => {
		const { push } = pacer<number>(act, 40);
		push(1);
		wait(500);
		push(2);
		expect(acted()).toEqual([1, 2]);
	});

	it("passes on what is held back when flushed, once, and nothing once cancelled", () => {
		const { push, flush, cancel } = pacer<number>(act, 40);
		push(1);
		push(2);
		flush();
		flush();
		expect(acted()).toEqual([1, 2]);
		push(3);
		cancel();
		wait(500);
		expect(acted()).toEqual([1, 2]);
	});
});

describe("with patience", () => {
	it("passes on one value ahead, and nothing more unanswered, until it runs out", () => {
		const { push } = pacer<number>(act, 40, 250);
		push(1);
		push(2);
		wait(40);
		expect(acted()).toEqual([1, 2]);
		push(3);
		wait(100);
		push(4);
		wait(149);
		expect(acted()).toEqual([1, 2]);
		wait(1);
		expect(acted()).toEqual([1, 2, 4]);
	});

	it("passes on the latest value at once when one is answered late", () => {
		const { push, answered } = pacer<number>(act, 40, 250);
		push(1);
		push(2);
		wait(40);
		push(3);
		wait(100);
		push(4);
		answered();
		expect(acted()).toEqual([1, 2, 4]);
		wait(500);
		expect(acted()).toEqual([1, 2, 4]);
	});

	it("keeps the kernel at work: each answer lets one value through, while another is computed", () => {
		const { push, answered } = pacer<number>(act, 40, 250);
		push(0);
		for (let at = 1; at <= 4; at++) {
			push(at);
			wait(60);
			expect(acted().at(-1)).toBe(at);
			answered();
		}
	});

	it("keeps the interval even where answers come faster", () => {
		const { push, answered } = pacer<number>(act, 40, 250);
		push(1);
		answered();
		push(2);
		wait(39);
		expect(acted()).toEqual([1]);
		wait(1);
		expect(acted()).toEqual([1, 2]);
	});

	it("goes ahead again after a rest, though of two values only one was answered", () => {
		const { push, answered } = pacer<number>(act, 40, 250);
		push(1);
		push(2);
		wait(40);
		answered();
		wait(500);
		push(3);
		push(4);
		wait(40);
		expect(acted()).toEqual([1, 2, 3, 4]);
	});

	it("waits for an answer after a flush, and for none that nothing was asked for", () => {
		const { push, answered, flush } = pacer<number>(act, 40, 250);
		answered();
		expect(acted()).toEqual([]);
		push(1);
		push(2);
		flush();
		push(3);
		wait(100);
		expect(acted()).toEqual([1, 2]);
		answered();
		expect(acted()).toEqual([1, 2, 3]);
	});

	it("says nothing more once cancelled, whatever is answered", () => {
		const { push, answered, cancel } = pacer<number>(act, 40, 250);
		push(1);
		push(2);
		cancel();
		answered();
		wait(500);
		expect(acted()).toEqual([1]);
	});
});
