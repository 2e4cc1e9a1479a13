// A hand on a slider speaks often: pass on at most one value an interval, none while the last one waits to be answered
// (with some patience), and the last one always.

export interface Pacer<T> {
	push(value: T): void;
	/** What was passed on last has been answered. */
	answered(): void;
	/** Pass on what is held back now. */
	flush(): void;
	cancel(): void;
}

/** `patience`: milliseconds after which no answer is awaited any more; not more than the interval: none ever is. */
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
