// The front end's formatting of numbers, colours and sentences against the file that pytest holds Python's against
// (tests/helpers/golden.py writes it).
import { expect, it } from "vitest";
import {
	type CellValues,
	columnNames,
	type GridView,
	viewCells,
} from "../src/cells";
import {
	answerText,
	limit,
	percent,
	plain,
	points,
	score as scoreText,
} from "../src/format";
import { cellColor, fitScale, roundUp } from "../src/scale";
import {
	layersName,
	type Outcome,
	outcomeSentence,
	tokenName,
} from "../src/sentence";
import type { Show } from "../src/traits";
import { wordsOf } from "../src/words";
import golden from "./golden.json";
import { FRAME, LOOK } from "./host";

/** What JSON has not is written as text. */
const number = (value: number | string) => Number(value);
const or = (value: number | string | null) =>
	value === null ? null : number(value);

/** A view of one row that shows these values. */
function viewOf(values: readonly number[], show: Show): GridView {
	const view = viewCells(FRAME, null, new Map(), 1, () => false);
	const [cell] = view.rows[0] ?? [];
	if (cell === undefined) throw new Error("a view has cells");
	const row = values.map((value) => ({
		...cell,
		values: { ...cell.values, [show]: value },
	}));
	return { ...view, rows: [row] };
}

it.each(golden.numbers)(
	"$value ± $margin",
	({ value, margin, percent: share, plain: bare, score, points: distance }) => {
		const known = [or(value), or(margin)] as const;
		expect(percent(...known)).toBe(share);
		expect(plain(...known)).toBe(bare);
		for (const [metric, text] of Object.entries(score))
			expect(scoreText(metric, ...known)).toBe(text);
		for (const [metric, text] of Object.entries(distance))
			expect(points(metric, ...known)).toBe(text);
	},
);

it.each(golden.limits)("the limit $value", ({ value, text }) => {
	expect(limit(value)).toBe(text);
});

it.each(golden.rounded_up)("$value rounded up", ({ value, up }) => {
	expect(roundUp(number(value))).toBe(up);
});

it.each(golden.scales)(
	"the scale of $values as $show",
	({ values, show, falling, limit: fixed, left, right, diverging }) => {
		const view = viewOf(values.map(number), show as Show);
		const scale = fitScale(view, show as Show, falling, fixed);
		// 0 has a sign that no one sees.
		expect([scale.left + 0, scale.right + 0]).toEqual([left + 0, right + 0]);
		expect(scale.diverging).toBe(diverging);
	},
);

it.each(golden.colors)(
	"colours from $left to $right in the $theme theme",
	({ theme, shades, ...scale }) => {
		const palette = golden.palettes.find((p) => p.theme === theme) as never;
		for (const [value, shade] of Object.entries(shades)) {
			const values = { score: 1, recovery: Number(value) } as CellValues;
			expect(cellColor(values, "recovery", scale, palette)).toEqual(shade);
		}
	},
);

// The names that the kernel sends.
const labels = Object.fromEntries(
	golden.labels.map(({ name, text }) => [name, text]),
);
const captions = Object.fromEntries(
	golden.captions.map(({ show, direction, text }) => [
		`${show} ${direction}`,
		text,
	]),
);
const words = wordsOf({ ...LOOK, labels, captions });

it.each(golden.sentences)("$text", ({ detail, gate, text }) => {
	const pieces = outcomeSentence(
		detail as unknown as Outcome,
		gate ?? undefined,
		words,
	);
	const marked = pieces.map((p) => (p.bold ? `**${p.text}**` : p.text));
	expect(marked.join("")).toBe(text);
});

it.each(golden.columns)(
	"names the columns of squares of $side in $patches",
	({ patches, side, names }) => {
		const size = [patches[0] ?? 0, patches[1] ?? 0] as const;
		const tokens = golden.columns[0]?.names.slice(0, 1) ?? [];
		const single = Array.from({ length: size[0] * size[1] }, (_, at) =>
			[Math.floor(at / size[1]), at % size[1]].join(),
		);
		expect(columnNames([...tokens, ...single], side, size)).toEqual(names);
	},
);

it("names tokens, layers, answers and captions", () => {
	const tokens = golden.sentences[0]?.detail.tokens ?? [];
	for (const { position, name } of golden.tokens)
		expect(tokenName(tokens, position)).toBe(name);
	for (const { layer, window, name } of golden.windows)
		expect(layersName(layer, window, 12)).toBe(name);
	for (const { answer, text } of golden.answers)
		expect(answerText(answer, "“", "”")).toBe(text);
	for (const { show, direction, text } of golden.captions)
		expect(words.caption(show, direction)).toBe(text);
	// Those that are just their own words need not be sent.
	for (const { name, text } of golden.labels)
		if (text === name.replaceAll("_", " "))
			expect(wordsOf(null).label(name)).toBe(text);
});
