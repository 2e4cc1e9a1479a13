// The widget's entry: draws one view of a model into an element, and hands back how to take it away again.

import { App } from "./components/App";
import { viewOf } from "./view";
import "./theme.css";

export default { render: viewOf(App) };
