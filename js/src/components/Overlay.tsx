// What lies over the picture: which map, how strongly it covers the picture, what its colours mean, and its value at
// the patch under the pointer.

import type { Shade } from "../palette";
import { valueText } from "../patches";
import type { Session } from "../session";
import type { ViewModel } from "../viewModel";
import { NumberField } from "./NumberField";

interface Props {
	model: ViewModel;
	session: Session;
	/** The colours below and above 0. */
	ends: readonly [Shade, Shade];
}

export function Overlay({ model, session, ends }: Props) {
	const map = model.shownMap.value;
	const { explain } = model.words.value;
	const { done, left, columns, rows } = model.pictureMap.value ?? {};
	if (model.overlay.value === "none" && map === null) return null;
	const pointed = model.pointedPatch.value;
	const text = pointed === null ? "" : valueText(map, pointed);
	const all = (rows ?? 0) * (columns ?? 0);
	return (
		<div class="bt-overlay bt-muted" data-testid="overlay-legend">
			<div class="bt-line">
				{map?.high && (
					<>
						<span>{map.low}</span>
						<span
							class="bt-gradient"
							style={{
								backgroundImage: `linear-gradient(90deg,${map.low === "0" ? "" : `${ends[0][0]},`}transparent,${ends[1][0]})`,
							}}
						/>
						<span>{map.high}</span>
					</>
				)}
				<input
					type="range"
					class="bt-range"
					data-testid="opacity"
					aria-label="opacity"
					title={explain("opacity")}
					min={0}
					max={1}
					step={0.05}
					value={model.opacity.value}
					style={{ "--bt-at": `${100 * model.opacity.value}%` }}
					onInput={(event) =>
						model.set("opacity", Number(event.currentTarget.value))
					}
				/>
			</div>
			<p data-testid="overlay-text">
				{text === ""
					? (map ?? model.pictureMap.value)?.text
					: `Patch ${pointed}: ${text}`}
			</p>
			{typeof done === "number" && (
				<div class="bt-line">
					<span>side</span>
					<NumberField
						label="side"
						testid="square"
						value={model.square.value}
						min={1}
						max={model.setup.value?.patches[0] ?? 1}
						step={1}
						decimals={0}
						explain={explain("square")}
						onCommit={(side) => model.set("square", side)}
					/>
					<span data-testid="overlay-progress">
						{`${done} of ${all}${left && ` · ${left}`}`}
					</span>
					{done < all && (
						<button
							type="button"
							class="bt-chip"
							data-testid="fill-overlay"
							onClick={() => session.send({ type: "fill_overlay", on: !left })}
						>
							{left ? "Stop" : "Go on"}
						</button>
					)}
				</div>
			)}
		</div>
	);
}
