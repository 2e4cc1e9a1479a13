// A page without a kernel: takes the place of the host's model and replays what was written into the page.
// Built separately, as page.js; the widget is the same as in notebooks.

import type { ChangeListener, HostModel, MessageListener } from "./host";

type Traits = Record<string, unknown>;

export interface Saved {
	/** The widget's script. */
	readonly script: string;
	/** All traits. */
	readonly state: Traits;
	/** By noise factor: the traits that differ. */
	readonly scenes: readonly (Traits & { readonly noise: number })[];
}

/** Bytes are written as base64. */
function revive(_name: string, value: unknown): unknown {
	const written = (value as { base64?: unknown } | null)?.base64;
	if (typeof written !== "string") return value;
	const bytes = Uint8Array.from(atob(written), (letter) =>
		letter.charCodeAt(0),
	);
	return new DataView(bytes.buffer);
}

export function read(text: string): Saved {
	return JSON.parse(text, revive) as Saved;
}

export function createHost({ state, scenes }: Saved): HostModel {
	const traits = { ...state };
	const heard = new Map<string, Set<() => void>>();
	const put = (changed: Traits) => {
		Object.assign(traits, changed);
		for (const name of Object.keys(changed))
			for (const listener of heard.get(`change:${name}`) ?? []) listener();
	};
	return {
		get: (name) => traits[name],
		set(name, value) {
			put({ [name]: value });
			if (name !== "noise") return;
			const off = (scene: { noise: number }) =>
				Math.abs(scene.noise - (value as number));
			const [nearest] = [...scenes].sort((a, b) => off(a) - off(b));
			// The patched run was of the factor that was saved with it.
			if (nearest !== undefined)
				put({
					detail: nearest.noise === state["noise"] ? state["detail"] : {},
					...nearest,
				});
		},
		save_changes() {},
		on(event, listener: ChangeListener | MessageListener) {
			const listeners = heard.get(event) ?? new Set();
			heard.set(event, listeners.add(listener as ChangeListener));
		},
		off(event, listener) {
			heard.get(event)?.delete(listener as ChangeListener);
		},
		send() {
			throw new Error("a page has no kernel");
		},
	};
}

export async function show(text: string, el: HTMLElement): Promise<void> {
	const saved = read(text);
	const url = URL.createObjectURL(
		new Blob([saved.script], { type: "text/javascript" }),
	);
	const { default: widget }: typeof import("./index") = await import(url);
	widget().render({ model: createHost(saved), el });
}
