// The synced state of the list of samples, beside the figure's own: each trait as a signal, read through a parser like
// the others.

import { type ReadonlySignal, signal } from "@preact/signals-core";
import type { HostModel } from "./host";
import type { Listing, Maps } from "./protocol";
import { isCell, number, shaped, text } from "./traits";

/** Used in place of a sample's number. */
export const AVERAGE = -1;

/** What the user changes. */
interface Choices {
	/** "" = all groups. */
	group: string;
	/** Number of the sample that the figure shows; `AVERAGE` for none of them. */
	chosen: number;
	find: string;
	order: string;
	/** How many of the samples found precede the visible ones. */
	first: number;
	/** Which small maps are shown; "" = none. */
	maps: string;
	/** The group that is subtracted from each; "" = none. */
	minus: string;
	/** Layer and head of the chosen head, or nothing. */
	picked: readonly number[];
}

interface Traits extends Choices {
	/** Null = not there yet. */
	listing: Listing | null;
	/** Result for the selected cell, in words. */
	interval: string;
	mapped: Maps | null;
}

export interface List
	extends Readonly<{ [K in keyof Traits]: ReadonlySignal<Traits[K]> }> {
	set<K extends keyof Choices>(name: K, value: Choices[K]): void;
	dispose(): void;
}

const PARSERS: { [K in keyof Traits]: (value: unknown) => Traits[K] } = {
	group: text,
	chosen: (value) => (Number.isInteger(value) ? (value as number) : AVERAGE),
	find: text,
	order: text,
	first: number,
	maps: text,
	minus: text,
	picked: (value) => (isCell(value) ? value : []),
	listing: shaped<Listing>("rows", "groups", "orders"),
	interval: text,
	mapped: shaped<Maps>("choices", "groups", "across", "panels"),
};

export function createList(host: HostModel): List {
	const disposers: (() => void)[] = [];

	function trait<K extends keyof Traits>(name: K): ReadonlySignal<Traits[K]> {
		const read = () => PARSERS[name](host.get(name));
		const value = signal(read());
		const update = () => {
			value.value = read();
		};
		host.on(`change:${name}`, update);
		disposers.push(() => host.off(`change:${name}`, update));
		return value;
	}

	return {
		group: trait("group"),
		chosen: trait("chosen"),
		find: trait("find"),
		order: trait("order"),
		first: trait("first"),
		maps: trait("maps"),
		minus: trait("minus"),
		picked: trait("picked"),
		listing: trait("listing"),
		interval: trait("interval"),
		mapped: trait("mapped"),
		set(name, value) {
			try {
				host.set(name, value);
				host.save_changes();
			} catch {
				// Without a kernel there is no other list to show.
			}
		},
		dispose() {
			for (const dispose of disposers) dispose();
		},
	};
}
