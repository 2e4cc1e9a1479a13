// The question: looks like text until it is touched; Enter asks, Escape takes back what was typed.

import { useEffect, useState } from "preact/hooks";

interface Props {
	value: string;
	onAsk: (question: string) => void;
}

export function Question({ value, onAsk }: Props) {
	const [draft, setDraft] = useState<string | null>(null);
	// A new question from elsewhere (an example, the kernel) replaces one that was typed but never asked.
	useEffect(() => setDraft(null), [value]);

	const changed = draft !== null && draft.trim() !== value;
	return (
		<div class="bt-question">
			<input
				type="text"
				data-testid="question"
				aria-label="question"
				placeholder="Ask about the picture"
				autocomplete="off"
				spellcheck={false}
				value={draft ?? value}
				onInput={(event) => setDraft(event.currentTarget.value)}
				onKeyDown={(event) => {
					if (event.key === "Escape") setDraft(null);
					if (event.key !== "Enter" || event.isComposing) return;
					const asked = event.currentTarget.value.trim();
					setDraft(null);
					if (asked !== value) onAsk(asked);
				}}
			/>
			{changed && <kbd>Enter ↵</kbd>}
		</div>
	);
}
