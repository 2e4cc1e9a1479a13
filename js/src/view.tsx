// One view of a model: draws a root component into an element, and hands back how to take it away again.

import { effect, type ReadonlySignal } from "@preact/signals-core";
import { type ComponentType, render as draw } from "preact";
import type { RenderProps } from "./host";
import { claimKeys } from "./keys";
import { createModel, type Model } from "./model";
import type { Theme } from "./palette";
import { createSession, type Session } from "./session";
import { watchTheme } from "./theme";

/** What every root component is given. */
export interface Shown {
	model: Model;
	session: Session;
	theme: ReadonlySignal<Theme>;
}

/**
 * Do something, and do it again when a signal changes that was read meanwhile: once, whatever changes together. What is
 * shown or not is therefore decided by signals alone: a component that draws itself again, for a state of its own, must
 * not read new ones.
 */
function follow(act: () => void): () => void {
	let stop = () => {};
	let stopped = false;
	function again(): void {
		stop();
		let done = false;
		stop = effect(() => {
			// The second time nothing is read, so that there is no third.
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

/** How to draw views of which this component is the root. */
export const viewOf =
	(Root: ComponentType<Shown>) =>
	({ model: host, el }: RenderProps): (() => void) => {
		el.classList.add("blip-trace-view");
		const model = createModel(host);
		const session = createSession(host, model, el);
		const { theme, dispose } = watchTheme(el);
		const stop = follow(() =>
			draw(<Root model={model} session={session} theme={theme} />, el),
		);
		const release = claimKeys(el);
		session.hello();
		return () => {
			stop();
			release();
			draw(null, el);
			dispose();
			session.dispose();
			model.dispose();
		};
	};
