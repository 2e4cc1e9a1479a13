// A native select with the figure's look.

interface Props {
	label: string;
	value: string;
	options: readonly string[];
	name: (option: string) => string;
	/** Where it is not the label. */
	testid?: string;
	explain?: string;
	/** Takes the full width available. */
	wide?: boolean;
	onChoose: (option: string) => void;
}

export function Select(props: Props) {
	const { label, value, options, name, testid, explain, onChoose } = props;
	// The kernel may hold a value that it has not listed yet.
	const all = options.includes(value) ? options : [value, ...options];
	return (
		<span class={props.wide ? "bt-select bt-wide" : "bt-select"}>
			<select
				data-testid={testid ?? label}
				aria-label={label}
				aria-description={explain}
				value={value}
				onChange={({ currentTarget }) => {
					const chosen = currentTarget.value;
					// It shows the kernel's value, even if that does not change.
					currentTarget.value = value;
					onChoose(chosen);
				}}
			>
				{all.map((option) => (
					<option key={option} value={option} selected={option === value}>
						{name(option)}
					</option>
				))}
			</select>
		</span>
	);
}
