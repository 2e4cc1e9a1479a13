// The means of the shown quantity: of each column below it, and of each row beside it (drawn by the row). Each of the two
// has its own scale, stated in the corner; its zero line does not move as values arrive.

import { type GridView, meansOf } from "../cells";
import { limit, plain } from "../format";
import { roundUp, type Scale } from "../scale";
import type { Show } from "../traits";

/** A mean as a bar. */
export interface Bar {
	readonly mean: number;
	/** In percent of the available length. */
	readonly size: number;
	/** On which side of the zero line. */
	readonly below: boolean;
	readonly text: string;
}

export interface Bars {
	readonly bars: readonly Bar[];
	/** What a bar of full length stands for. */
	readonly unit: number;
}

export interface Marginals {
	readonly rows: Bars;
	readonly columns: Bars;
}

/** The share of the length above the zero line. */
const ABOVE = 0.7;
const ZERO = 100 * (1 - ABOVE);

function barsOf(means: readonly number[], sign: number): Bars {
	const heights = means.map((mean) =>
		Number.isFinite(mean) ? sign * mean : 0,
	);
	const above = roundUp(Math.max(0, ...heights));
	const below = roundUp(Math.max(0, ...heights.map((h) => -h)));
	const unit = roundUp(Math.max(above, (below * ABOVE) / (1 - ABOVE))) || 1;
	const bars = means.map((mean, index) => {
		const height = heights[index] ?? 0;
		return {
			mean,
			size: (100 * ABOVE * Math.abs(height)) / unit,
			below: height < 0,
			text: Number.isFinite(mean) ? plain(mean) : "not computed",
		};
	});
	return { bars, unit };
}

export function marginalsOf(
	view: GridView | null,
	show: Show,
	scale: Scale,
): Marginals {
	const { rows, columns } = meansOf(view, show);
	const sign = scale.right < scale.left ? -1 : 1;
	return { rows: barsOf(rows, sign), columns: barsOf(columns, sign) };
}

/** The style of a bar that grows from the zero line to either side. */
export function barStyle(
	{ size, below }: Bar,
	length: "width" | "height",
	[plus, minus]: readonly [string, string],
) {
	return {
		[length]: `${size}%`,
		[below ? minus : plus]: `${below ? 100 - ZERO : ZERO}%`,
	};
}

interface Props {
	view: GridView;
	/** The shown quantity, in a word. */
	what: string;
	/** What a bar of full length is. */
	explain: string;
	marginals: Marginals;
}

const unitOf = ({ unit }: Bars) => limit(Number(unit.toPrecision(2)));

export function Profile({ view, what, explain, marginals }: Props) {
	const { rows, columns } = marginals;
	const name = (column: number) =>
		view.axes === "tokens" ? `layer ${column}` : `“${view.tokens[column]}”`;
	const labels = columns.bars.map(
		({ text }, column) => `${name(column)} ${text}`,
	);
	return (
		<div
			class="bt-row bt-profile"
			role="img"
			aria-label={`mean ${what}: ${labels.join(", ")}`}
		>
			<div class="bt-token" title={explain}>
				mean
				<small>{unitOf(columns)}</small>
				<small>0</small>
			</div>
			{columns.bars.map((bar, column) => (
				<div key={column} title={`mean of ${name(column)}: ${bar.text}`}>
					{Number.isFinite(bar.mean) && (
						<span
							data-below={bar.below}
							style={barStyle(bar, "height", ["bottom", "top"])}
						/>
					)}
				</div>
			))}
			<div class="bt-unit" title={explain}>
				<small>0</small>
				<small>{unitOf(rows)}</small>
			</div>
		</div>
	);
}
