// The noise slider with the noise curve behind it.

import { type Curve, MAX_NOISE } from "../protocol";
import { NoiseCurve } from "./NoiseCurve";
import { Slider } from "./Slider";

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

export function Noise(props: Props) {
	const { lost_at: lostAt = null, lost = "" } = props.curve ?? {};
	return (
		<div class="bt-damage">
			<span class="bt-label" title={props.explain}>
				Noise ν
			</span>
			<Slider
				label="noise factor ν"
				name="noise"
				value={props.value}
				explain={props.explain}
				max={MAX_NOISE}
				step={0.1}
				decimals={1}
				answered={props.answered}
				behind={(noise) => (
					<NoiseCurve curve={props.curve} noise={noise} metric={props.metric} />
				)}
				below={(noise) => (
					<>
						<span class="bt-muted">{props.line}</span>
						<span
							class="bt-lost bt-muted"
							data-testid="lost"
							aria-live="polite"
						>
							{lostAt !== null && noise >= lostAt ? lost : ""}
						</span>
					</>
				)}
				onChange={props.onChange}
			/>
		</div>
	);
}
