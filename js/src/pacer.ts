// Throttle for a slider that is dragged: pass on at most one value per interval, none while the last one is unanswered
// (up to a timeout), and always the last one.

export interface Pacer<T> {
	push(value: T): void;
	/** The value passed on last has been answered. */
	answered(): void;
	/** Pass on the value held back now. */
	flush(): void;
	cancel(): void;
}

/** `patience`: milliseconds to wait for an answer; if not above the interval, answers are never awaited. */
export function pacer<T>(
	act: (value: T) => void,
	interval: number,
	patience = 0,
): Pacer<T> {
	let timer: ReturnType<typeof setTimeout> | undefined;
	let held: { value: T } | undefined;
	let sent = Number.NEGATIVE_INFINITY;
	let awaiting = false;

	function release(): void {
		clearTimeout(timer);
		timer = undefined;
		if (held === undefined) return;
		const { value } = held;
		held = undefined;
		sent = performance.now();
		awaiting = true;
		act(value);
	}

	function plan(): void {
		if (held === undefined) return;
		const pause = awaiting ? Math.max(interval, patience) : interval;
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
			awaiting = false;
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
