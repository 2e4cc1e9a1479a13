// The noise slider with the noise curve behind it. While it is dragged or moved by keys, the thumb follows the user:
// what the kernel echoes back must not make it jump.

import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { pacer } from "../pacer";
import { type Curve, MAX_NOISE } from "../protocol";
import { NoiseCurve } from "./NoiseCurve";
import { NumberField } from "./NumberField";

interface Props {
	value: number;
	explain: string;
	/** Changes when the kernel has answered a value. */
	answered: number;
	curve: Curve | null;
	/** The noise settings with all their fields. */
	line: string;
	/** What the curve's scores are of. */
	metric: string;
	onChange: (noise: number) => void;
}

/** Milliseconds between two values while dragging, and how long an answer to the last one is waited for. */
const INTERVAL = 40;
const PATIENCE = 250;
/** Milliseconds after the last change until the thumb follows the model again. */
const SETTLE = 400;
export function Noise(props: Props) {
	const { value, curve, line } = props;
	const [draft, setDraft] = useState<number | null>(null);
	const onChange = useRef(props.onChange);
	onChange.current = props.onChange;
	const [sender] = useState(() =>
		pacer((noise: number) => onChange.current(noise), INTERVAL, PATIENCE),
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

	function change(noise: number): void {
		const rounded =
			Math.round(Math.min(MAX_NOISE, Math.max(0, noise)) * 10) / 10;
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
		<div class="bt-damage">
			<span class="bt-label" title={props.explain}>
				Noise ν
			</span>
			<div class="bt-noise-row">
				<div class="bt-slider">
					<NoiseCurve curve={curve} noise={shown} metric={props.metric} />
					<input
						type="range"
						class="bt-range"
						data-testid="noise-slider"
						aria-label="noise factor ν"
						aria-description={props.explain}
						aria-valuetext={shown.toFixed(1)}
						min={0}
						max={MAX_NOISE}
						step={0.1}
						value={shown}
						style={{ "--bt-at": `${(100 * shown) / MAX_NOISE}%` }}
						onPointerDown={() => {
							held.current = true;
						}}
						onPointerUp={release}
						onPointerCancel={release}
						onInput={(event) => change(Number(event.currentTarget.value))}
					/>
				</div>
				<NumberField
					label="noise factor ν"
					testid="noise-number"
					value={shown}
					min={0}
					max={MAX_NOISE}
					step={0.1}
					decimals={1}
					onCommit={(noise) => {
						change(noise);
						sender.flush();
					}}
				/>
			</div>
			<span class="bt-muted">{line}</span>
		</div>
	);
}
