// The left column: what was asked, and what the noise did to the answer.

import type { Model } from "../model";
import { Answer } from "./Answer";
import { Examples } from "./Examples";
import { Noise } from "./Noise";
import { Picture } from "./Picture";
import { Question } from "./Question";

interface Props {
	model: Model;
	onPicture: (file: File) => void;
	onExample: (index: number) => void;
}

export function Asked({ model, onPicture, onExample }: Props) {
	const examples = model.setup.value?.examples ?? [];
	const runs = model.runs.value;
	const question = model.question.value;
	return (
		<section class="bt-asked" aria-label="question and answer">
			<Picture bytes={model.picture.value} onPicture={onPicture} />
			<div class="bt-controls">
				{examples.length > 0 && (
					<Examples
						examples={examples}
						chosen={model.example.value}
						onChoose={onExample}
					/>
				)}
				<Question
					value={question}
					onAsk={(asked) => model.set("question", asked)}
				/>
				<Answer
					runs={runs}
					old={runs !== null && runs.generation < model.generation.value}
				/>
				<Noise
					value={model.noise.value}
					curve={model.curve.value}
					kind={model.kind.value}
					samples={model.samples.value}
					seed={model.seed.value}
					onChange={(noise) => model.set("noise", noise)}
				/>
			</div>
		</section>
	);
}
