// The mean of the shown quantity for each layer, under its column. The line of 0 stays where it is, whatever arrives.

import { type GridView, layerMeans } from "../cells";
import type { Theme } from "../colormap";
import { plain } from "../format";
import { showLabel } from "../labels";
import { colorOf, roundUp, type Scale } from "../scale";
import type { Show } from "../traits";

interface Props {
	view: GridView;
	show: Show;
	scale: Scale;
	theme: Theme;
}

/** The share of the height above the line of 0. */
const ABOVE = 0.7;

export function Profile({ view, show, scale, theme }: Props) {
	const means = layerMeans(view, show);
	const sign = scale.right < scale.left ? -1 : 1;
	const heights = means.map((mean) =>
		Number.isFinite(mean) ? sign * mean : 0,
	);
	const unit =
		Math.max(
			roundUp(Math.max(0, ...heights)) / ABOVE,
			roundUp(Math.max(0, ...heights.map((h) => -h))) / (1 - ABOVE),
		) || 1;
	const said = means
		.map((mean, layer) =>
			Number.isFinite(mean) ? `layer ${layer} ${plain(mean)}` : "",
		)
		.filter((part) => part !== "")
		.join(", ");
	return (
		<div
			class="bt-row bt-profile"
			role="img"
			aria-label={`mean ${showLabel(show)}: ${said || "not computed"}`}
		>
			<div class="bt-token">mean</div>
			{means.map((mean, layer) => {
				const height = heights[layer] ?? 0;
				const size = (100 * Math.abs(height)) / unit;
				return (
					<div
						key={layer}
						title={
							Number.isFinite(mean)
								? `mean of layer ${layer}: ${plain(mean)}`
								: `layer ${layer}: not computed`
						}
					>
						{Number.isFinite(mean) && (
							<span
								style={{
									height: `${size}%`,
									backgroundColor: colorOf(scale, theme, middling(mean, scale)),
									[height < 0 ? "top" : "bottom"]:
										`${100 * (height < 0 ? ABOVE : 1 - ABOVE)}%`,
								}}
							/>
						)}
					</div>
				);
			})}
		</div>
	);
}

/** A bar's length says how much; its colour, of middling depth so that it can be seen, only on which side of 0. */
function middling(mean: number, scale: Scale): number {
	if (!scale.diverging) return scale.left + 0.6 * (scale.right - scale.left);
	return 0.6 * Math.abs(scale.right) * Math.sign(mean);
}
