// The question's words as toggles; choosing none means all.

interface Props {
	words: readonly string[];
	/** Their positions; null for all. */
	chosen: readonly number[] | null;
	onChoose: (positions: readonly number[] | null) => void;
}

export function WordChips({ words, chosen, onChoose }: Props) {
	const all = [...words.keys()];
	const now = new Set(chosen ?? all);
	function toggle(at: number): void {
		const next = all.filter((each) => now.has(each) !== (each === at));
		const some = next.length > 0 && next.length < all.length;
		onChoose(some ? next : null);
	}
	return (
		<span class="bt-words" data-testid="positions">
			{words.map((word, at) => (
				<button
					key={at}
					type="button"
					class="bt-chip"
					aria-pressed={now.has(at)}
					onClick={() => toggle(at)}
				>
					{word}
				</button>
			))}
		</span>
	);
}
