// Whether the page is dark: the host's theme, or the system's preference if the host states none.

import { type ReadonlySignal, signal } from "@preact/signals-core";
import type { Theme } from "./palette";

const HOSTS =
	"[data-jp-theme-light], .vscode-dark, .vscode-high-contrast, .vscode-light, html[theme], .light-theme, .dark-theme";
const DARK =
	"[data-jp-theme-light=false], .vscode-dark, .vscode-high-contrast:not(.vscode-light), [theme=dark], .dark-theme";

function readTheme(root: Element, prefersDark: boolean): Theme {
	// A view may be drawn before it is attached to the page, or inside a shadow root.
	const host = root.closest(HOSTS) ?? document.body.closest(HOSTS);
	if (host === null) return prefersDark ? "dark" : "light";
	return host.matches(DARK) ? "dark" : "light";
}

export function watchTheme(root: Element): {
	theme: ReadonlySignal<Theme>;
	dispose: () => void;
} {
	const media = globalThis.matchMedia?.("(prefers-color-scheme: dark)");
	const theme = signal(readTheme(root, media?.matches ?? false));
	const update = () => {
		theme.value = readTheme(root, media?.matches ?? false);
	};
	const observer = new MutationObserver(update);
	const options = {
		attributes: true,
		attributeFilter: ["data-jp-theme-light", "class", "theme"],
	};
	observer.observe(document.documentElement, options);
	observer.observe(document.body, options);
	media?.addEventListener("change", update);
	return {
		theme,
		dispose() {
			observer.disconnect();
			media?.removeEventListener("change", update);
		},
	};
}
