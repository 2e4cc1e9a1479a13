// The answer of the clean run with the selected states, or a head of them, scaled.

import type { Model } from "../model";
import { MAX_SCALE } from "../protocol";
import { Slider } from "./Slider";

export function Strength({ model }: { model: Model }) {
	const { explain } = model.words.value;
	const { value: strength } = model.strength;
	const nothing = model.selection.value.length === 0;
	const ablation = model.ablation.value;
	const old =
		ablation !== null &&
		(ablation.strength !== strength ||
			ablation.generation < model.due.value ||
			`${ablation.cells}` !== `${model.selection.value}`);
	return (
		<>
			<Slider
				label="strength of the selected states"
				name="strength"
				value={strength}
				explain={explain("ablation")}
				max={MAX_SCALE}
				step={0.05}
				decimals={2}
				beyond
				disabled={nothing}
				answered={ablation}
				onChange={(next) => model.set("strength", next)}
			/>
			<span
				class={old ? "bt-muted bt-old" : "bt-muted"}
				data-testid="ablation"
				aria-live="polite"
			>
				{nothing
					? "Select a cell first."
					: (ablation?.text ?? "1: as it is in the clean run")}
			</span>
		</>
	);
}
