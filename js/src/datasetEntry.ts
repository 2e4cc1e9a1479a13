// The entry of a data set's widget: the figure, and beside it the list of the samples.

import { datasetOf } from "./components/Dataset";
import type { RenderProps } from "./host";
import { createList } from "./list";
import { viewOf } from "./view";
import "./dataset.css";

function render(props: RenderProps): () => void {
	const list = createList(props.model);
	const takeAway = viewOf(datasetOf(list))(props);
	return () => {
		takeAway();
		list.dispose();
	};
}

export default { render };
