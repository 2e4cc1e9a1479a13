// What is done to the input: the noise slider, or the one input that each of the other corruptions needs.

import type { ComponentChildren } from "preact";
import type { Model } from "../model";
import { MAX_SCALE } from "../protocol";
import { Noise } from "./Noise";
import { Picture } from "./Picture";
import { Select } from "./Select";
import { Slider } from "./Slider";
import { TextField } from "./TextField";

interface Props {
	model: Model;
	onOtherPicture: (file: File | null) => void;
}

export function Damage({ model, onOtherPicture }: Props) {
	const { otherQuestion, to } = model;
	const { explain, label } = model.words.value;
	const own: Record<string, string> = {
		ImageSwap: " bt-swap",
		scale: " bt-scale",
	};
	const asking = (name: string, control: ComponentChildren) => (
		<div class={`bt-damage${own[name] ?? ""}`}>
			<span
				class="bt-label"
				title={explain(name === "ImageSwap" ? "corruption" : name)}
			>
				{label(name)}
			</span>
			{control}
		</div>
	);
	switch (model.corruption.value) {
		case "ImageSwap":
			return asking(
				"ImageSwap",
				<Picture
					bytes={model.otherPicture.value}
					what={label("other_picture")}
					testid="choose-other-picture"
					explain={explain("choose")}
					onPicture={onOtherPicture}
				/>,
			);
		case "QuestionSwap":
			return asking(
				"other_question",
				<TextField
					label={label("other_question")}
					testid="other-question"
					value={otherQuestion.value}
					error={model.error.value}
					explain={explain("other_question")}
					onCommit={(asked) => model.set("otherQuestion", asked)}
				/>,
			);
		case "Scale":
			return asking(
				"scale",
				<>
					<Slider
						label={label("scale")}
						name="scale"
						value={model.scale.value}
						explain={explain("scale")}
						max={MAX_SCALE}
						step={0.01}
						decimals={4}
						beyond
						answered={model.runs.value?.generation ?? 0}
						onChange={(factor) => model.set("scale", factor)}
					/>
					<span class="bt-muted">{model.runs.value?.line ?? "\u00a0"}</span>
				</>,
			);
		case "MeanAblation":
			return asking(
				"to",
				<Select
					label={label("to")}
					testid="to"
					value={to.value}
					options={model.setup.value?.choices["to"] ?? []}
					name={label}
					explain={explain("to")}
					onChoose={(goal) => model.set("to", goal)}
				/>,
			);
		default:
			return (
				<Noise
					value={model.noise.value}
					explain={explain("noise")}
					answered={model.runs.value?.generation ?? 0}
					curve={model.curve.value}
					line={model.runs.value?.line ?? "\u00a0"}
					metric={model.runs.value?.metric ?? ""}
					onChange={(noise) => model.set("noise", noise)}
				/>
			);
	}
}
