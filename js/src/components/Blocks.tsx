// The blocks of the model as one group of choices. A block that cannot be traced stays focusable, so that the reason can
// be read, but cannot be chosen.

import { useRef } from "preact/hooks";
import { isHeld } from "../keys";
import type { BlockInfo } from "../protocol";
import type { Words } from "../words";

interface Props {
	blocks: readonly BlockInfo[];
	value: string;
	words: Words;
	onChoose: (name: string) => void;
}

/** Drawn until the kernel states which blocks there are, so that nothing moves when it does. */
const EXPECTED = ["image_encoder", "question_encoder", "answer_decoder"];

export function Blocks({ blocks, value, words, onChoose }: Props) {
	const group = useRef<HTMLDivElement>(null);
	const known = blocks.length > 0;
	const entries = known
		? blocks
		: EXPECTED.map((name) => ({ name, enabled: false, reason: "" }));

	function step(event: KeyboardEvent): void {
		const by = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[
			event.key
		];
		const buttons = [
			...(group.current?.querySelectorAll<HTMLElement>("[role=radio]") ?? []),
		];
		const at = buttons.indexOf(event.target as HTMLElement);
		if (by === undefined || at < 0 || isHeld(event)) return;
		event.preventDefault();
		const next = (at + by + buttons.length) % buttons.length;
		buttons[next]?.focus();
		const entry = entries[next];
		if (known && entry?.enabled) onChoose(entry.name);
	}

	return (
		<div
			class="bt-blocks"
			role="radiogroup"
			aria-label="block"
			aria-description={words.explain("block")}
			ref={group}
			onKeyDown={step}
		>
			{entries.map(({ name, enabled, reason }) => (
				<button
					key={name}
					type="button"
					role="radio"
					class={reason ? "bt-tip" : ""}
					data-testid={`block-${name}`}
					data-tip={reason}
					aria-checked={name === value}
					aria-disabled={!enabled}
					aria-description={reason}
					tabIndex={name === value ? 0 : -1}
					onClick={() => {
						if (known && enabled && name !== value) onChoose(name);
					}}
				>
					{words.label(name)}
				</button>
			))}
		</div>
	);
}
