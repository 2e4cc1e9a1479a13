// One view of a session: renders a root component into an element, and returns a function that removes it.

import { effect, type ReadonlySignal } from "@preact/signals-core";
import { type ComponentType, render as draw } from "preact";
import { createExports, type Exports } from "./exports";
import { claimKeys } from "./keys";
import type { Theme } from "./palette";
import type { Session } from "./session";
import { watchTheme } from "./theme";
import { createViewModel, type ViewModel } from "./viewModel";

/** The props of every root component. */
export interface Shown {
	model: ViewModel;
	session: Session;
	exports: Exports;
	theme: ReadonlySignal<Theme>;
}

/**
 * Run `act`, and run it again when a signal that it read changes: once per batch of changes. Only signals read during
 * `act` are tracked: a component that renders again because of its own state must not read new ones.
 */
function follow(act: () => void): () => void {
	let stop = () => {};
	let stopped = false;
	function again(): void {
		stop();
		let done = false;
		stop = effect(() => {
			// The second run reads nothing, so that there is no third.
			if (done) queueMicrotask(() => stopped || again());
			else
				try {
					act();
				} catch (error) {
					console.error(error); // what comes next may be drawn again
				}
			done = true;
		});
	}
	again();
	return () => {
		stopped = true;
		stop();
	};
}

/** Draw a view of a session. */
export function drawView(
	Root: ComponentType<Shown>,
	session: Session,
	el: HTMLElement,
): () => void {
	el.classList.add("blip-trace-view");
	const model = createViewModel(session);
	const exports = createExports(session, el);
	const { theme, dispose } = watchTheme(el);
	const shown = { model, session, exports, theme };
	const stop = follow(() => draw(<Root {...shown} />, el));
	const release = claimKeys(el);
	session.hello();
	return () => {
		stop();
		release();
		draw(null, el);
		dispose();
		exports.dispose();
		model.dispose();
	};
}
