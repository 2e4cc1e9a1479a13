// Numbers as a person reads them: rounded to what the interval allows, with a true minus sign.

const MINUS = "−";

/** Decimals that show the margin with one significant digit. */
function decimalsFor(margin: number, most: number): number {
	// Rounding may carry 0.096 to 0.1: the digit shown decides.
	const rounded = Number(margin.toPrecision(1));
	return Math.min(most, Math.max(0, -Math.floor(Math.log10(rounded))));
}

export function fixed(value: number, decimals: number): string {
	const digits = Math.abs(value).toFixed(decimals);
	return value < 0 && Number(digits) !== 0 ? MINUS + digits : digits;
}

function withError(
	value: number | null,
	margin: number | null,
	scale: number,
	fallback: number,
	maxDecimals: number,
	unit: string,
): string {
	if (value === null || !Number.isFinite(value)) return "–";
	const error = (margin ?? 0) * scale;
	const known = error > 0 && Number.isFinite(error);
	const decimals = known ? decimalsFor(error, maxDecimals) : fallback;
	const shown = fixed(value * scale, decimals) + unit;
	const errorShown = known ? fixed(error, decimals) : "0";
	// An error too small for the decimals on show would read "± 0".
	return Number(errorShown) === 0 ? shown : `${shown} ± ${errorShown}${unit}`;
}

/** A share: "58 % ± 4 %". */
export function percent(value: number | null, margin: number | null = null) {
	const small = value !== null && value !== 0 && Math.abs(value) < 0.01;
	return withError(value, margin, 100, small ? 1 : 0, 2, " %");
}

/** A plain number: "0.47 ± 0.03". */
export function plain(value: number | null, margin: number | null = null) {
	return withError(value, margin, 1, 2, 4, "");
}

function isShare(metric: string): boolean {
	return metric === "probability";
}

/** A score: a probability as a percentage, any other metric as it is. */
export function score(
	metric: string,
	value: number | null,
	margin: number | null = null,
): string {
	return isShare(metric) ? percent(value, margin) : plain(value, margin);
}

/** A difference of two scores; of two percentages it is in points. */
export function points(
	metric: string,
	value: number | null,
	margin: number | null = null,
): string {
	if (!isShare(metric)) return plain(value, margin);
	const small = value !== null && value !== 0 && Math.abs(value) < 0.01;
	return `${withError(value, margin, 100, small ? 1 : 0, 2, "")} points`;
}

/** A limit of a scale, with all its decimals. */
export function limit(value: number): string {
	const [digits = "", power = 0] = String(value).split("e");
	const decimals = (digits.split(".")[1]?.length ?? 0) - Number(power);
	return fixed(value, Math.max(0, decimals));
}

/** An answer, in quotation marks if given; a model may give an empty answer. */
export function answerText(answer = "", open = "", close = ""): string {
	return answer === "" ? "none: it says nothing" : open + answer + close;
}
