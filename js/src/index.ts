// The widget's entry: draws one view of a model into an element, and hands back how to take it away again.

import { effect } from "@preact/signals-core";
import { render as draw, h } from "preact";
import { App } from "./components/App";
import type { RenderProps } from "./host";
import { createModel } from "./model";
import { createSession } from "./session";
import { watchTheme } from "./theme";
import "./theme.css";

function render({ model: host, el }: RenderProps): () => void {
	const model = createModel(host);
	const session = createSession(host, model, el);
	const { theme, dispose } = watchTheme(el);
	// Whatever is read while the figure is drawn draws it again when it changes. So what is shown or not is decided by
	// signals alone: a component that draws itself again, for a state of its own, must not read new ones.
	const stop = effect(() => draw(h(App, { model, session, theme }), el));
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
