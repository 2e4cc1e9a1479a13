// Draws the widget into a page for a test, and finds its parts.

import widget from "../src/index";
import { createHost, type FakeHost, fullTraits } from "./host";

export interface View {
	readonly host: FakeHost;
	readonly el: HTMLElement;
	readonly dispose: () => void;
	find<T extends HTMLElement = HTMLElement>(testid: string): T | null;
	get<T extends HTMLElement = HTMLElement>(testid: string): T;
	cell(layer: number, position: number): HTMLElement;
}

/** Long enough for effects that wait for a frame. */
export const settle = () => new Promise((resolve) => setTimeout(resolve, 60));

export async function open(
	traits: Record<string, unknown> = {},
	host = createHost({ ...fullTraits(), ...traits }),
): Promise<View> {
	const el = document.createElement("div");
	document.body.append(el);
	const dispose = widget.render({ model: host, el });
	await settle();
	const find = <T extends HTMLElement>(testid: string) =>
		el.querySelector<T>(`[data-testid="${testid}"]`);
	return {
		host,
		el,
		dispose,
		find,
		get: <T extends HTMLElement>(testid: string) => {
			const found = find<T>(testid);
			if (found === null) throw new Error(`there is no ${testid}`);
			return found;
		},
		cell(layer, position) {
			const found = el.querySelector<HTMLElement>(
				`[data-layer="${layer}"][data-position="${position}"]`,
			);
			if (found === null) throw new Error(`no cell ${layer}, ${position}`);
			return found;
		},
	};
}

export async function key(
	target: HTMLElement,
	name: string,
	more: KeyboardEventInit = {},
): Promise<void> {
	const init = { key: name, bubbles: true, cancelable: true, ...more };
	target.dispatchEvent(new KeyboardEvent("keydown", init));
	await settle();
}

export async function type(
	target: HTMLInputElement | HTMLSelectElement,
	value: string,
	event: "input" | "change" = "input",
): Promise<void> {
	target.value = value;
	target.dispatchEvent(new Event(event, { bubbles: true }));
	await settle();
}
