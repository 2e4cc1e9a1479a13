// A slider with a number field beside it. While it is dragged or moved by keys, the thumb follows the
// user: what the kernel echoes back must not make it jump.

import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { pacer } from "../pacer";
import { NumberField } from "./NumberField";

interface Props {
	label: string;
	/** The prefix of the test ids, before "-slider" and "-number". */
	name: string;
	value: number;
	explain: string;
	max: number;
	step: number;
	decimals: number;
	/** Whether the field accepts numbers beyond the slider's end. */
	beyond?: boolean;
	disabled?: boolean | undefined;
	/** Changes when the kernel has answered a value. */
	answered: unknown;
	/** What is drawn behind the track, for the shown value. */
	behind?: (shown: number) => ComponentChildren;
	/** What is said below, of the value that is shown. */
	below?: (shown: number) => ComponentChildren;
	onChange: (value: number) => void;
}

/** Milliseconds between two values while dragging, and the longest wait for an answer to the last one. */
const INTERVAL = 40;
const PATIENCE = 250;
/** Milliseconds after the last change until the thumb follows the model again. */
const SETTLE = 400;

export function Slider(props: Props) {
	const { label, name, value, max, step, decimals, disabled } = props;
	const [draft, setDraft] = useState<number | null>(null);
	const onChange = useRef(props.onChange);
	onChange.current = props.onChange;
	const [sender] = useState(() =>
		pacer((next: number) => onChange.current(next), INTERVAL, PATIENCE),
	);
	const held = useRef(false);
	const settling = useRef<ReturnType<typeof setTimeout>>(undefined);

	// Before the answer is painted, so that the kernel can continue meanwhile.
	useLayoutEffect(() => sender.answered(), [sender, props.answered]);
	useEffect(
		() => () => {
			clearTimeout(settling.current);
			sender.cancel();
		},
		[sender],
	);

	function settle(): void {
		clearTimeout(settling.current);
		settling.current = setTimeout(() => {
			if (!held.current) setDraft(null);
		}, SETTLE);
	}

	function change(next: number): void {
		const rounded = Number(Math.max(0, next).toFixed(decimals));
		setDraft(rounded);
		sender.push(rounded);
		settle();
	}

	function release(): void {
		held.current = false;
		sender.flush();
		settle();
	}

	const shown = draft ?? value;
	return (
		<>
			<div class="bt-noise-row">
				<div class="bt-slider">
					{props.behind?.(shown)}
					<input
						type="range"
						class="bt-range"
						data-testid={`${name}-slider`}
						aria-label={label}
						aria-description={props.explain}
						aria-valuetext={shown.toFixed(decimals)}
						min={0}
						max={max}
						step={step}
						value={shown}
						disabled={disabled}
						style={{ "--bt-at": `${Math.min(100, (100 * shown) / max)}%` }}
						onPointerDown={() => {
							held.current = true;
						}}
						onPointerUp={release}
						onPointerCancel={release}
						onInput={(event) => change(Number(event.currentTarget.value))}
					/>
				</div>
				<NumberField
					label={label}
					testid={`${name}-number`}
					value={shown}
					min={0}
					{...(props.beyond ? {} : { max })}
					step={step}
					decimals={decimals}
					disabled={disabled}
					onCommit={(next) => {
						change(next);
						sender.flush();
					}}
				/>
			</div>
			{props.below?.(shown)}
		</>
	);
}
