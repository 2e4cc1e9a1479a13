// The widget's entry.

import { App } from "./components/App";
import { widgetOf } from "./lifecycle";
import { createSession } from "./session";
import { drawView } from "./view";
import "./theme.css";

export default widgetOf(createSession, (session, el) =>
	drawView(App, session, el),
);
