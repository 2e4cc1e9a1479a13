// Exports of one view: the kernel makes the file, and every view receives it; only the one that requested it uses it.

import { type ReadonlySignal, signal } from "@preact/signals-core";
import { copy, download, rasterize } from "./files";
import type { Theme } from "./palette";
import type { Session } from "./session";

/** What a view can ask to have exported; PNG is drawn here, from the kernel's SVG. */
export type Format =
	| "svg"
	| "png"
	| "csv"
	| "json"
	| "picture"
	| "other"
	| "python"
	| "cells";

export interface Exports {
	ask(format: Format, theme: Theme): void;
	/** A short notice of what was just done. */
	readonly notice: ReadonlySignal<string>;
	dispose(): void;
}

export function createExports(session: Session, el: HTMLElement): Exports {
	const asked = new Map<number, Format>();
	const notice = signal("");

	let timer: ReturnType<typeof setTimeout> | undefined;
	function show(text: string): void {
		notice.value = text;
		clearTimeout(timer);
		timer = setTimeout(() => {
			notice.value = "";
		}, 1500);
	}

	const stopListening = session.listen({
		async exported({ id, format, name, media }, bytes) {
			const wanted = asked.get(id);
			asked.delete(id);
			if (wanted === undefined) return;
			try {
				const blob = new Blob([bytes], { type: media });
				if (format === "python" || format === "cells") {
					await copy(new TextDecoder().decode(bytes), el);
					show("Copied");
				} else if (wanted === "png")
					download(name.replace("svg", "png"), await rasterize(blob));
				else download(name, blob);
			} catch (error) {
				session.model.set("error", `${name}: ${(error as Error).message}`);
			}
		},
	});

	return {
		ask(format, theme) {
			const id = session.ask({
				type: "export",
				format: format === "png" ? "svg" : format,
				theme,
			});
			if (id !== null) asked.set(id, format);
		},
		notice,
		dispose() {
			clearTimeout(timer);
			stopListening();
		},
	};
}
