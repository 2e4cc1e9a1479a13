// A number that is committed when it is finished (Enter, leaving the field, the field's own arrows), not at every key.

import { useState } from "preact/hooks";

interface Props {
	label: string;
	value: number;
	min: number;
	max?: number;
	step: number;
	decimals: number;
	/** Where it is not the label. */
	testid?: string;
	explain?: string;
	disabled?: boolean | undefined;
	onCommit: (value: number) => void;
}

export function NumberField(props: Props) {
	const { label, value, min, max, step, decimals, testid, explain } = props;
	const [draft, setDraft] = useState<string | null>(null);

	function commit(text: string): void {
		setDraft(null);
		const typed = Number.parseFloat(text);
		if (!Number.isFinite(typed)) return;
		const clipped = Math.min(max ?? typed, Math.max(min, typed));
		const rounded = Number(clipped.toFixed(decimals));
		if (rounded !== value) props.onCommit(rounded);
	}

	return (
		<input
			class="bt-number"
			type="number"
			data-testid={testid ?? label}
			aria-label={label}
			aria-description={explain}
			disabled={props.disabled}
			min={min}
			max={max}
			step={step}
			value={draft ?? value.toFixed(decimals)}
			onInput={(event) => setDraft(event.currentTarget.value)}
			onChange={(event) => commit(event.currentTarget.value)}
			onBlur={(event) => draft !== null && commit(event.currentTarget.value)}
			// With the focus, the field would capture the wheel.
			onWheel={(event) => event.currentTarget.blur()}
			onKeyDown={(event) => {
				if (event.key === "Enter" && draft !== null)
					commit(event.currentTarget.value);
				if (event.key === "Escape") setDraft(null);
			}}
		/>
	);
}
