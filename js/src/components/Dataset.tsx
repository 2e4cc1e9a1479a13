// A data set: the usual figure with the list of samples beside it, and small maps below.

import type { List } from "../list";
import type { Shown } from "../view";
import { App } from "./App";
import { Maps } from "./Maps";
import { Samples } from "./Samples";

/** The root component over these traits. */
export const datasetOf = (list: List) => (shown: Shown) => (
	<div class="blip-trace-dataset">
		<App {...shown} />
		{/* A page of another version says so in the place of the figure; there is nothing beside that. */}
		{shown.model.foreignVersion.value === null && (
			<>
				<Samples model={shown.model} theme={shown.theme.value} list={list} />
				<Maps model={shown.model} theme={shown.theme.value} list={list} />
			</>
		)}
	</div>
);
