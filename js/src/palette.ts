// The grid's colours, which the kernel sends as a table of even steps (blip_trace_widget/display/colors.py makes them).

import type { Palette } from "./protocol";

export type Theme = "light" | "dark";
/** A colour, and the colour of a mark that can be seen on it. */
export type Shade = readonly [fill: string, mark: string];

const NOTHING: Shade = ["transparent", "currentColor"];

/** The colour at a place between the left (0) and the right (1) end; values outside take the end's colour. */
export function shadeAt(
	palette: Palette | undefined,
	name: keyof Palette,
	place: number,
): Shade {
	const row = palette?.[name] ?? [];
	const clipped = Math.min(1, Math.max(0, place));
	return row[Math.round(clipped * (row.length - 1))] ?? NOTHING;
}

/** The colour of 0: the background of the grid. */
export function neutral(palette: Palette | undefined): Shade {
	return shadeAt(palette, "diverging", 0.5);
}
