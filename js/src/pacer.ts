// Throttle for a slider that is dragged: pass on at most one value per interval, none while the last two are unanswered
// (up to a timeout), and always the last one. Two, so that the kernel has the next value when it is done with one, and
// does not wait for the page to draw that.

export interface Pacer<T> {
	push(value: T): void;
	/** A value that was passed on has been answered. */
	answered(): void;
	/** Pass on the value held back now. */
	flush(): void;
	cancel(): void;
}

/** How many values may be unanswered. */
const AHEAD = 2;

/** `patience`: milliseconds to wait for an answer; if not above the interval, answers are never awaited. */
export function pacer<T>(
	act: (value: T) => void,
	interval: number,
	patience = 0,
): Pacer<T> {
	let timer: ReturnType<typeof setTimeout> | undefined;
	let held: { value: T } | undefined;
	let sent = Number.NEGATIVE_INFINITY;
	let unanswered = 0;

	function release(): void {
		clearTimeout(timer);
		timer = undefined;
		if (held === undefined) return;
		const { value } = held;
		held = undefined;
		const now = performance.now();
		// Of several values at once the kernel answers the last alone.
		unanswered = now - sent < patience ? Math.min(unanswered + 1, AHEAD) : 1;
		sent = now;
		act(value);
	}

	function plan(): void {
		if (held === undefined) return;
		const full = unanswered >= AHEAD;
		const pause = full ? Math.max(interval, patience) : interval;
		clearTimeout(timer);
		const left = sent + pause - performance.now();
		if (left <= 0) release();
		else timer = setTimeout(release, left);
	}

	return {
		push(value) {
			held = { value };
			plan();
		},
		answered() {
			unanswered = Math.max(unanswered - 1, 0);
			plan();
		},
		flush: release,
		cancel() {
			clearTimeout(timer);
			timer = undefined;
			held = undefined;
		},
	};
}
