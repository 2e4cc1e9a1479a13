// From a value to its colour: the limits of the scale, stated in the legend, and where a value lies between them.

import { type CellValues, type GridView, shownValue } from "./cells";
import { neutral, type Shade, shadeAt } from "./palette";
import type { Palette } from "./protocol";
import type { Show } from "./traits";

export interface Scale {
	/** The values at the left and the right end of the legend. */
	readonly left: number;
	readonly right: number;
	readonly diverging: boolean;
}

/** A recovery of a few percent must not look like a large one. */
const LEAST_RECOVERY = 0.1;
const STEPS = [1, 1.5, 2, 3, 4, 5, 6, 8, 10];

/** The next round number at or above; few of them, so that limits move seldom. */
export function roundUp(value: number): number {
	if (!(value > 0) || !Number.isFinite(value)) return 0;
	const power = 10 ** Math.floor(Math.log10(value));
	// Tolerance for float32: the last bit of 0.6 must not push the limit to 0.8.
	const step = STEPS.find((s) => s * power >= value * (1 - 1e-6)) ?? 10;
	return Number((step * power).toPrecision(3));
}

function shownValues(view: GridView | null, show: Show): number[] {
	if (view === null) return [];
	// Cells that are 1 by construction would make all others pale.
	return view.rows
		.flat()
		.filter(({ constructed }) => !constructed)
		.map(({ values }) => shownValue(values, show))
		.filter(Number.isFinite);
}

/** A difference has a scale of its own. `falling`: a score that rises with the damage, so that a negative effect restores; `fixed`: limit set by the user, 0 = automatic. */
export function fitScale(
	view: GridView | null,
	show: Show,
	falling: boolean,
	fixed: number,
): Scale {
	const values = shownValues(view, show);
	const largest =
		fixed || roundUp(values.reduce((m, v) => Math.max(m, Math.abs(v)), 0));
	if (show === "score" && !view?.between) {
		const negative = values.some((value) => value < 0);
		const positive = values.length === 0 || values.some((value) => value > 0);
		return {
			left: negative ? -largest : 0,
			right: positive ? largest || 1 : 0,
			diverging: false,
		};
	}
	if (show === "recovery") {
		const limit = fixed || Math.max(largest, LEAST_RECOVERY);
		return { left: -limit, right: limit, diverging: true };
	}
	const limit = (largest || LEAST_RECOVERY) * (falling ? -1 : 1);
	return { left: -limit, right: limit, diverging: true };
}

/** The colour at a place between the left (0) and the right (1) end. */
export function colorAt(
	scale: Scale,
	palette: Palette | undefined,
	place: number,
): Shade {
	return shadeAt(palette, scale.diverging ? "diverging" : "sequential", place);
}

export function colorOf(
	scale: Scale,
	palette: Palette | undefined,
	value: number,
): Shade {
	const span = scale.right - scale.left;
	return colorAt(scale, palette, span === 0 ? 0 : (value - scale.left) / span);
}

/** The colour of a cell, neutral where the shown quantity is not defined; null if nothing is known about it. */
export function cellColor(
	values: CellValues,
	show: Show,
	scale: Scale,
	palette: Palette | undefined,
): Shade | null {
	if (Number.isNaN(values.score)) return null;
	const value = shownValue(values, show);
	return Number.isNaN(value)
		? neutral(palette)
		: colorOf(scale, palette, value);
}
