// A search field: searches shortly after typing stops, at once with Enter; Escape empties it.

import { useEffect, useRef, useState } from "preact/hooks";

interface Props {
	label: string;
	value: string;
	testid: string;
	placeholder: string;
	onFind: (value: string) => void;
}

/** Milliseconds without a key press after which the search starts. */
const PAUSE = 250;

export function Search(props: Props) {
	const { label, value, testid, placeholder, onFind } = props;
	const [draft, setDraft] = useState<string | null>(null);
	const sent = useRef(value);
	const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);

	// A value set elsewhere replaces what was typed; the echo of a search does not, as more may have been typed since.
	useEffect(() => {
		if (value === sent.current) return;
		clearTimeout(timer.current);
		sent.current = value;
		setDraft(null);
	}, [value]);
	useEffect(() => () => clearTimeout(timer.current), []);

	function find(typed: string): void {
		clearTimeout(timer.current);
		sent.current = typed.trim();
		if (sent.current !== value) onFind(sent.current);
	}

	function write(typed: string): void {
		setDraft(typed);
		clearTimeout(timer.current);
		timer.current = setTimeout(() => find(typed), PAUSE);
	}

	return (
		<input
			class="bt-text"
			type="search"
			data-testid={testid}
			aria-label={label}
			placeholder={placeholder}
			autocomplete="off"
			spellcheck={false}
			value={draft ?? value}
			onInput={(event) => write(event.currentTarget.value)}
			onKeyDown={(event) => {
				if (event.isComposing) return;
				if (event.key === "Enter") find(event.currentTarget.value);
				if (event.key !== "Escape") return;
				event.preventDefault();
				setDraft("");
				find("");
			}}
		/>
	);
}
