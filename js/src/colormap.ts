// The grid's colours, built in OKLab: equal steps of the value are equal steps of lightness. Both arms of the diverging
// scale have the same lightness at the same distance from 0 and meet in the theme's background; purple and orange stay
// apart in the common colour-vision deficiencies.

export type Theme = "light" | "dark";
export type Rgb = readonly [red: number, green: number, blue: number];
type Lab = readonly [lightness: number, a: number, b: number];

interface Scale {
	readonly neutral: string;
	/** Lightness at the far end of every arm. */
	readonly end: number;
	readonly chroma: readonly [
		hurts: number,
		restores: number,
		sequential: number,
	];
}

const SCALES: Record<Theme, Scale> = {
	light: { neutral: "#f7f7fa", end: 0.44, chroma: [0.108, 0.18, 0.075] },
	dark: { neutral: "#26262b", end: 0.8, chroma: [0.12, 0.112, 0.1] },
};

/** Hues in OKLab's plane, in degrees. */
const HURTS = 57;
const RESTORES = 296;
const SEQUENTIAL = 205;

export function parseHex(hex: string): Rgb {
	const part = (start: number) =>
		Number.parseInt(hex.slice(start, start + 2), 16) / 255;
	return [part(1), part(3), part(5)];
}

export function toHex(rgb: Rgb): string {
	return `#${rgb
		.map((part) =>
			Math.round(Math.min(1, Math.max(0, part)) * 255)
				.toString(16)
				.padStart(2, "0"),
		)
		.join("")}`;
}

export function toLinear(part: number): number {
	return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
}

function fromLinear(part: number): number {
	return part <= 0.0031308 ? part * 12.92 : 1.055 * part ** (1 / 2.4) - 0.055;
}

// Björn Ottosson, "A perceptual color space for image processing" (2020).
export function toOklab(rgb: Rgb): Lab {
	const [r, g, b] = rgb.map(toLinear) as unknown as Rgb;
	const l = Math.cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b);
	const m = Math.cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b);
	const s = Math.cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b);
	return [
		0.2104542553 * l + 0.793617785 * m - 0.0040720468 * s,
		1.9779984951 * l - 2.428592205 * m + 0.4505937099 * s,
		0.0259040371 * l + 0.7827717662 * m - 0.808675766 * s,
	];
}

export function fromOklab([lightness, a, b]: Lab): Rgb {
	const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
	const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
	const s = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
	return [
		fromLinear(4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s),
		fromLinear(-1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s),
		fromLinear(-0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s),
	];
}

function arm(theme: Theme, hue: number, chroma: number, t: number): string {
	const { neutral, end } = SCALES[theme];
	const from = toOklab(parseHex(neutral));
	const angle = (hue * Math.PI) / 180;
	// Lightness falls evenly; colour comes in early, so that which side of 0 a small value lies on can be seen.
	const tint = t * (2 - t);
	return toHex(
		fromOklab([
			from[0] + t * (end - from[0]),
			from[1] * (1 - tint) + tint * chroma * Math.cos(angle),
			from[2] * (1 - tint) + tint * chroma * Math.sin(angle),
		]),
	);
}

/** The colour of 0: the background of the grid. */
export function neutral(theme: Theme): string {
	return SCALES[theme].neutral;
}

/** t from −1 (hurts) over 0 to 1 (restores); what lies outside takes the end's colour. */
export function diverging(theme: Theme, t: number): string {
	const [hurts, restores] = SCALES[theme].chroma;
	const clipped = Math.min(1, Math.max(-1, t));
	return clipped < 0
		? arm(theme, HURTS, hurts, -clipped)
		: arm(theme, RESTORES, restores, clipped);
}

/** t from 0 to 1. */
export function sequential(theme: Theme, t: number): string {
	const chroma = SCALES[theme].chroma[2];
	return arm(theme, SEQUENTIAL, chroma, Math.min(1, Math.max(0, t)));
}

export function luminance(hex: string): number {
	const [r, g, b] = parseHex(hex).map(toLinear) as unknown as Rgb;
	return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

export function contrast(a: string, b: string): number {
	const [dark, light] = [luminance(a), luminance(b)].sort((x, y) => x - y) as [
		number,
		number,
	];
	return (light + 0.05) / (dark + 0.05);
}

/** The calmest colour for a mark on this ground that can still be seen well. */
export function markOn(ground: string): string {
	const marks = ["#6f6f7c", "#8f8f9c", "#1b1b1f", "#ffffff"];
	return (
		marks.find((mark) => contrast(mark, ground) >= 3.2) ??
		(luminance(ground) > 0.18 ? "#000000" : "#ffffff")
	);
}
