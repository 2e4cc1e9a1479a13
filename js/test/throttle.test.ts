import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { throttle } from "../src/throttle";

beforeEach(() => vi.useFakeTimers());
afterEach(() => vi.useRealTimers());

it("passes on the first value at once, then at most one an interval, and always the last", () => {
	const act = vi.fn();
	const { push } = throttle<number>(act, 40);
	for (let ms = 0; ms < 100; ms += 10) {
		push(ms);
		vi.advanceTimersByTime(10);
	}
	vi.advanceTimersByTime(200);
	expect(act.mock.calls.flat()).toEqual([0, 30, 70, 90]);
});

it("is ready again after a pause", () => {
	const act = vi.fn();
	const { push } = throttle<number>(act, 40);
	push(1);
	vi.advanceTimersByTime(500);
	push(2);
	expect(act.mock.calls.flat()).toEqual([1, 2]);
});

it("passes on what is held back when flushed, and nothing once cancelled", () => {
	const act = vi.fn();
	const { push, flush, cancel } = throttle<number>(act, 40);
	push(1);
	push(2);
	flush();
	expect(act).toHaveBeenLastCalledWith(2);
	push(3);
	cancel();
	vi.advanceTimersByTime(500);
	expect(act).toHaveBeenCalledTimes(2);
});
