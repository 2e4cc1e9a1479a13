// The left column: what was asked, and what the noise did to the answer.

import type { Theme } from "../palette";
import type { Session } from "../session";
import type { ViewModel } from "../viewModel";
import { Answer } from "./Answer";
import { Asking } from "./Asking";
import { Damage } from "./Damage";
import { Pane } from "./Pane";
import { Select } from "./Select";
import { TextField } from "./TextField";

interface Props {
	model: ViewModel;
	session: Session;
	theme: Theme;
	onPicture: (file: File | null) => void;
	onOtherPicture: (file: File | null) => void;
	onExample: (index: number) => void;
}

export function Asked(props: Props) {
	const { model, session, theme, onPicture, onOtherPicture, onExample } = props;
	const setup = model.setup.value;
	const examples = setup?.examples ?? [];
	const closed = model.closed.value;
	const runs = model.runs.value;
	return (
		<section class="bt-asked" aria-label="question and answer">
			<Asking closed={closed}>
				<Pane
					model={model}
					session={session}
					theme={theme}
					foot={
						examples.length > 0 && (
							<Select
								label="example"
								wide
								value={String(model.example.value)}
								options={Object.keys(examples)}
								name={(index) => examples[Number(index)]?.name ?? "Example…"}
								onChoose={(index) => onExample(Number(index))}
							/>
						)
					}
					onPicture={onPicture}
				/>
			</Asking>
			<div class="bt-controls">
				<Asking closed={closed}>
					<div class="bt-question">
						<TextField
							label="question"
							value={model.question.value}
							placeholder="Ask about the picture"
							hint="Enter ↵"
							error={model.error.value}
							onCommit={(asked) => model.set("question", asked)}
						/>
					</div>
				</Asking>
				<Answer
					runs={runs}
					words={model.words.value}
					working={model.working.value}
					old={runs !== null && runs.generation < model.due.value}
				/>
				<Asking closed={setup?.choices["noise"]?.[1] ? "" : closed}>
					<Damage model={model} onOtherPicture={onOtherPicture} />
				</Asking>
			</div>
		</section>
	);
}
