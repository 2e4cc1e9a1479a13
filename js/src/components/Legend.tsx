// What the colours mean, and between which limits: automatic, or fixed to compare one grid with another.

import { limit as written } from "../format";
import type { Palette } from "../protocol";
import { colorAt, type Scale } from "../scale";
import { NumberField } from "./NumberField";

interface Props {
	scale: Scale;
	/** What the numbers are of. */
	unit: string;
	explain: string;
	/** What the left and the right end are called. */
	ends: readonly string[];
	palette: Palette | undefined;
	/** The shown quantity is undefined at present, whatever has been computed. */
	isUndefined: boolean;
	/** Why there are no margins, or "". */
	error: string;
	/** What a margin is, and what a dot means. */
	margin: string;
	doubt: string;
	/** 0 = automatic. */
	limit: number;
	/** Null if they cannot be fixed. */
	onLimit: ((limit: number) => void) | null;
	/** Whether the true states of the known circuit are outlined; null = none is known. */
	truth: boolean | null;
	truthExplain: string;
	onTruth: (on: boolean) => void;
}

const STOPS = 16;

export function Legend(props: Props) {
	const { scale, ends, unit, palette, limit, onLimit } = props;
	const stops = Array.from(
		{ length: STOPS + 1 },
		(_, index) => colorAt(scale, palette, index / STOPS)[0],
	).join(",");
	const fixed = limit > 0 && onLimit !== null;
	const end = Math.max(Math.abs(scale.left), Math.abs(scale.right));
	return (
		<div class="bt-legend bt-muted">
			<span>{ends[0]}</span>
			<span
				class="bt-gradient"
				style={{ backgroundImage: `linear-gradient(90deg,${stops})` }}
			/>
			<span>{ends[1]}</span>
			<span class="bt-limits" data-testid="limits">
				{fixed ? (
					<>
						{scale.diverging ? "± " : "to "}
						<NumberField
							label="limit of the scale"
							testid="limit"
							value={limit}
							min={0.001}
							step={0.1}
							decimals={3}
							onCommit={onLimit}
						/>
					</>
				) : (
					`${written(scale.left)} … ${written(scale.right)}`
				)}
			</span>
			<span>{unit}</span>
			{onLimit !== null && (
				<button
					type="button"
					class="bt-chip"
					data-testid="fix-scale"
					aria-pressed={fixed}
					title={props.explain}
					onClick={() => onLimit(fixed ? 0 : end)}
				>
					fixed
				</button>
			)}
			{props.truth !== null && (
				<button
					type="button"
					class="bt-chip bt-truth"
					data-testid="truth"
					aria-pressed={props.truth}
					aria-description={props.truthExplain}
					title={props.truthExplain}
					onClick={() => props.onTruth(!props.truth)}
				>
					show truth
				</button>
			)}
			{props.error === "" && <span>• {props.doubt}</span>}
			<span>{props.error || props.margin}</span>
			{props.isUndefined && <span>– not defined</span>}
		</div>
	);
}
