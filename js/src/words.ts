// The words of the interface: the kernel sends the on-screen label and the explanation of each of its names.

import type { Look } from "./protocol";
import type { Show } from "./traits";

export const SHOWN: readonly Show[] = ["recovery", "indirect_effect", "score"];

export interface Words {
	/** The on-screen label of one of the kernel's names. */
	label(name: string): string;
	/** What a control does, by the name of its trait. */
	explain(name: string): string;
	/** What the grid shows, in one line above it. */
	caption(show: string, direction: string): string;
	/** What the numbers beside the colours are of. */
	unit(show: string, metric: string): string;
}

export function wordsOf(look: Look | null): Words {
	const label = (name: string) =>
		look?.labels[name] ?? name.replaceAll("_", " ");
	return {
		label,
		explain: (name) => look?.explain[name] ?? "",
		caption: (show, direction) => look?.captions[`${show} ${direction}`] ?? "",
		unit: (show, metric) =>
			(look?.captions[`unit ${show}`] ?? "") + label(metric),
	};
}
