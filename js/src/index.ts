// The widget's entry: draws one view of a model into an element, and hands back how to take it away again.

import { effect } from "@preact/signals-core";
import { render as draw, h } from "preact";
import { App } from "./components/App";
import type { RenderProps } from "./host";
import { createModel } from "./model";
import { createSession } from "./session";
import { watchTheme } from "./theme";
import "./theme.css";

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

function render({ model: host, el }: RenderProps): () => void {
	const model = createModel(host);
	const session = createSession(host, model, el);
	const { theme, dispose } = watchTheme(el);
	const stop = follow(() => draw(h(App, { model, session, theme }), el));
	session.hello();
	return () => {
		stop();
		draw(null, el);
		dispose();
		session.dispose();
		model.dispose();
	};
}

export default { render };
