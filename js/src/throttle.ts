// A slider speaks often: pass on at most one value an interval, and the last one always.

export interface Throttle<T> {
	push(value: T): void;
	/** Pass on what is held back now. */
	flush(): void;
	cancel(): void;
}

export function throttle<T>(
	act: (value: T) => void,
	interval: number,
): Throttle<T> {
	let timer: ReturnType<typeof setTimeout> | undefined;
	let held: { value: T } | undefined;

	function release(): void {
		timer = undefined;
		if (held === undefined) return;
		const { value } = held;
		held = undefined;
		timer = setTimeout(release, interval);
		act(value);
	}

	return {
		push(value) {
			held = { value };
			if (timer === undefined) release();
		},
		flush() {
			clearTimeout(timer);
			release();
		},
		cancel() {
			clearTimeout(timer);
			timer = undefined;
			held = undefined;
		},
	};
}
