// A line of text: Enter commits, Escape takes back what was typed. A field without a hint that Enter is needed commits when
// it is left, too.

import { useEffect, useState } from "preact/hooks";

interface Props {
	label: string;
	value: string;
	testid: string;
	placeholder?: string;
	explain?: string;
	/** Shown while something is typed that is not committed yet. */
	hint?: string;
	onCommit: (value: string) => void;
}

export function TextField(props: Props) {
	const { label, value, testid, placeholder, explain, hint } = props;
	const [draft, setDraft] = useState<string | null>(null);
	// A new value from elsewhere (an example, the kernel) replaces one that was typed but never committed.
	useEffect(() => setDraft(null), [value]);

	const changed = draft !== null && draft.trim() !== value;
	function commit(): void {
		const typed = draft?.trim() ?? value;
		setDraft(null);
		if (typed !== value) props.onCommit(typed);
	}

	return (
		<>
			<input
				class="bt-text"
				type="text"
				data-testid={testid}
				aria-label={label}
				aria-description={explain}
				placeholder={placeholder}
				autocomplete="off"
				spellcheck={false}
				value={draft ?? value}
				onInput={(event) => setDraft(event.currentTarget.value)}
				onKeyDown={(event) => {
					if (event.key === "Escape") setDraft(null);
					if (event.key !== "Enter" || event.isComposing) return;
					commit();
				}}
				onBlur={() => {
					if (!hint) commit();
				}}
			/>
			{changed && hint && <kbd>{hint}</kbd>}
		</>
	);
}
