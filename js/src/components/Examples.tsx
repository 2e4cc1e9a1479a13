// A chooser of the built-in examples.

import { useState } from "preact/hooks";
import type { ExampleInfo } from "../protocol";

interface Props {
	examples: readonly ExampleInfo[];
	question: string;
	onChoose: (index: number) => void;
}

export function Examples({ examples, question, onChoose }: Props) {
	const [chosen, setChosen] = useState(-1);
	// Once another question is asked, the figure is no longer that example.
	const value = examples[chosen]?.question === question ? chosen : -1;
	return (
		<span class="bt-select bt-wide">
			<select
				data-testid="example"
				aria-label="example"
				value={String(value)}
				onChange={(event) => {
					const index = Number(event.currentTarget.value);
					setChosen(index);
					onChoose(index);
				}}
			>
				<option value="-1" disabled hidden selected={value === -1}>
					Choose an example
				</option>
				{examples.map(({ name, question: asked }, index) => (
					<option
						key={name}
						value={String(index)}
						selected={index === value}
						title={asked}
					>
						{name}
					</option>
				))}
			</select>
		</span>
	);
}
