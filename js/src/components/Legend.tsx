// What the colours mean, and between which limits.

import type { Theme } from "../colormap";
import { limit } from "../format";
import { colorAt, type Scale } from "../scale";
import type { Show } from "../traits";

interface Props {
	scale: Scale;
	show: Show;
	direction: string;
	theme: Theme;
	/** The shown quantity has no value at present, whatever is computed. */
	isUndefined: boolean;
}

const STOPS = 16;

export function Legend(props: Props) {
	const { scale, show, direction, theme, isUndefined } = props;
	const stops = Array.from({ length: STOPS + 1 }, (_, index) =>
		colorAt(scale, theme, index / STOPS),
	).join(",");
	const words =
		show === "score"
			? ["low", "high"]
			: direction === "disrupt"
				? ["helps", "costs"]
				: ["hurts", "restores"];
	return (
		<div class="bt-legend bt-muted">
			<span>{words[0]}</span>
			<span
				class="bt-gradient"
				style={{ backgroundImage: `linear-gradient(90deg,${stops})` }}
			/>
			<span>{words[1]}</span>
			<span class="bt-limits">
				{`${limit(scale.left)} … ${limit(scale.right)}`}
			</span>
			<span>• not different from 0</span>
			{isUndefined && <span>– not defined</span>}
		</div>
	);
}
