// The entry of a data set's widget: the figure, and beside it the list of the samples.

import { datasetOf } from "./components/Dataset";
import { widgetOf } from "./lifecycle";
import { createList } from "./list";
import { createSession } from "./session";
import { drawView } from "./view";
import "./dataset.css";

export default widgetOf(
	(host) => {
		const session = createSession(host);
		const list = createList(host);
		const Root = datasetOf(list);
		return {
			session,
			Root,
			dispose() {
				session.dispose();
				list.dispose();
			},
		};
	},
	({ session, Root }, el) => drawView(Root, session, el),
);
