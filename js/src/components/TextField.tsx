// A line of text: Enter commits, Escape discards what was typed. A field without a hint that Enter is needed commits when
// it is left, too. What the kernel rejects stays in the field for correction.

import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { isHeld } from "../keys";

interface Props {
	label: string;
	value: string;
	/** Where it is not the label. */
	testid?: string;
	placeholder?: string;
	explain?: string;
	/** Shown while something is typed that is not committed yet. */
	hint?: string;
	/** What was wrong with the last committed text, else "". */
	error: string;
	onCommit: (value: string) => void;
}

export function TextField(props: Props) {
	const { label, value, testid, placeholder, explain, hint } = props;
	const [draft, setDraft] = useState<string | null>(null);
	/** What was committed, the value that it replaced, and the one before: the kernel may have rejected it first. */
	const asked = useRef<string[]>([]);
	// A new value from elsewhere (an example, the kernel) replaces one that was typed but never committed; at once, so that
	// what is typed next stays.
	useLayoutEffect(() => {
		const [typed = "", ...before] = asked.current;
		setDraft(props.error && before.includes(value) ? typed : null);
	}, [value]);

	const changed = draft !== null && draft.trim() !== value;
	function commit(): void {
		const typed = draft?.trim() ?? value;
		if (typed === value) setDraft(null);
		else {
			asked.current = [typed, value, asked.current[1] ?? value];
			props.onCommit(typed);
		}
	}

	return (
		<>
			<input
				class="bt-text"
				type="text"
				data-testid={testid ?? label}
				aria-label={label}
				aria-description={explain}
				placeholder={placeholder}
				autocomplete="off"
				spellcheck={false}
				value={draft ?? value}
				onInput={(event) => setDraft(event.currentTarget.value)}
				onKeyDown={(event) => {
					if (event.key === "Escape") setDraft(null);
					const enters = event.key === "Enter" && !isHeld(event);
					if (enters && !event.isComposing) commit();
				}}
				onBlur={() => {
					// Leaving the field does not commit a rejected text again.
					const refused = props.error && draft?.trim() === asked.current[0];
					if (!hint && !refused) commit();
				}}
			/>
			{changed && hint && <kbd>{hint}</kbd>}
		</>
	);
}
