// The left column: what was asked, and what the noise did to the answer.

import type { Model } from "../model";
import { Answer } from "./Answer";
import { Damage } from "./Damage";
import { Picture } from "./Picture";
import { Select } from "./Select";
import { TextField } from "./TextField";

interface Props {
	model: Model;
	onPicture: (file: File) => void;
	onOtherPicture: (file: File) => void;
	onExample: (index: number) => void;
}

export function Asked(props: Props) {
	const { model, onPicture, onOtherPicture, onExample } = props;
	const examples = model.setup.value?.examples ?? [];
	const runs = model.runs.value;
	return (
		<section class="bt-asked" aria-label="question and answer">
			<Picture
				bytes={model.picture.value}
				what="What is asked about"
				testid="choose-picture"
				onPicture={onPicture}
			/>
			<div class="bt-controls">
				{examples.length > 0 && (
					<Select
						label="example"
						testid="example"
						wide
						value={String(model.example.value)}
						options={Object.keys(examples)}
						name={(index) =>
							examples[Number(index)]?.name ?? "Choose an example"
						}
						onChoose={(index) => onExample(Number(index))}
					/>
				)}
				<div class="bt-question">
					<TextField
						label="question"
						testid="question"
						value={model.question.value}
						placeholder="Ask about the picture"
						hint="Enter ↵"
						onCommit={(asked) => model.set("question", asked)}
					/>
				</div>
				<Answer
					runs={runs}
					words={model.words.value}
					old={runs !== null && runs.generation < model.generation.value}
				/>
				<Damage model={model} onOtherPicture={onOtherPicture} />
			</div>
		</section>
	);
}
