// A chooser of the built-in examples.

import type { ExampleInfo } from "../protocol";

interface Props {
	examples: readonly ExampleInfo[];
	/** Index of the example on show, -1 = none of them. */
	chosen: number;
	onChoose: (index: number) => void;
}

export function Examples({ examples, chosen, onChoose }: Props) {
	return (
		<span class="bt-select bt-wide">
			<select
				data-testid="example"
				aria-label="example"
				value={String(chosen)}
				onChange={(event) => onChoose(Number(event.currentTarget.value))}
			>
				<option value="-1" disabled hidden selected={chosen === -1}>
					Choose an example
				</option>
				{examples.map(({ name, question }, index) => (
					<option
						key={name}
						value={String(index)}
						selected={index === chosen}
						title={question}
					>
						{name}
					</option>
				))}
			</select>
		</span>
	);
}
