// Draws the widget into a page for a test, and finds its parts. It is the bundle that is drawn, as it is shipped: a
// minifier that assumes too much breaks what the sources do rightly.

// @ts-expect-error: a bundle has no types
import shipped from "../../blip_trace_widget/static/widget.js";
import type { HostModel } from "../src/host";
import { createHost, type FakeHost, fullTraits } from "./host";

export const widget: typeof import("../src/index").default = shipped;

export interface View {
	readonly host: FakeHost;
	readonly el: HTMLElement;
	readonly dispose: () => void;
	find<T extends HTMLElement = HTMLElement>(testid: string): T | null;
	get<T extends HTMLElement = HTMLElement>(testid: string): T;
	cell(layer: number, position: number): HTMLElement;
	/** A cell or header by its place on screen; −1 is the headers' row or column. */
	place(row: number, column: number): HTMLElement;
}

/** As anywidget and marimo hand a model out: another object at each call. */
export function proxyOf(host: HostModel): HostModel {
	const { get, set, save_changes, on, off, send } = host;
	return { get, set, save_changes, on, off, send };
}

/** The widgets that are initialized, by their model. */
const initialized = new Map<
	HostModel,
	{ made: ReturnType<typeof widget>; end: () => void; views: number }
>();

function initialize(host: HostModel, drawn: typeof widget) {
	const made = drawn();
	const end = made.initialize({ model: proxyOf(host) });
	const begun = { made, end, views: 0 };
	initialized.set(host, begun);
	return begun;
}

/** Long enough for effects that wait for a frame. */
export const settle = () => new Promise((resolve) => setTimeout(resolve, 60));

/** Draws a view of a model, which is initialized before its first view and ends with its last. */
export async function open(
	traits: Record<string, unknown> = {},
	host = createHost({ ...fullTraits(), ...traits }),
	drawn = widget,
): Promise<View> {
	const el = document.createElement("div");
	document.body.append(el);
	const begun = initialized.get(host) ?? initialize(host, drawn);
	begun.views += 1;
	const takeAway = begun.made.render({ model: proxyOf(host), el });
	const dispose = () => {
		takeAway();
		begun.views -= 1;
		if (begun.views > 0) return;
		begun.end();
		initialized.delete(host);
	};
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
		cell: (layer, position) =>
			only(el, `[data-layer="${layer}"][data-position="${position}"]`),
		place: (row, column) =>
			only(el, `[data-row="${row}"][data-column="${column}"]`),
	};
}

function only(el: HTMLElement, selector: string): HTMLElement {
	const found = el.querySelectorAll<HTMLElement>(selector);
	if (found[0] === undefined || found.length > 1)
		throw new Error(`${found.length} of ${selector}`);
	return found[0];
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

/** A part of a click or a drag; by mouse unless told. */
export function point(
	target: EventTarget,
	name: string,
	more: PointerEventInit = {},
): void {
	const init = { bubbles: true, button: 0, pointerType: "mouse", ...more };
	target.dispatchEvent(new PointerEvent(name, init));
}
