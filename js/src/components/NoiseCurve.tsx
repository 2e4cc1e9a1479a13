// The noise curve Γ(ν): the score of the corrupted run as the noise grows, with the present noise marked on it, and the
// factor from which nearly all of the score is lost, as far as the noise samples tell.

import { score } from "../format";
import { type Curve, MAX_NOISE } from "../protocol";

interface Props {
	curve: Curve | null;
	noise: number;
	/** What its scores are of. */
	metric: string;
}

type Point = readonly [x: number, y: number];

const HEIGHT = 100;

/** The curve's known points. */
function knownPoints(curve: Curve): Point[] {
	return curve.factors.flatMap((factor, index): Point[] => {
		const score = curve.scores[index] ?? null;
		return score === null ? [] : [[factor, score]];
	});
}

/** The scores at the lower and the upper edge of the box: 0 and the clean score are always in it. */
export function curveEnds(curve: Curve): Point {
	const scores = knownPoints(curve).map(([, score]) => score);
	scores.push(0, curve.clean ?? 0);
	return [Math.min(...scores), Math.max(...scores)];
}

/** The curve's known points in a box of MAX_NOISE by HEIGHT. */
export function curvePoints(curve: Curve): Point[] {
	const [low, high] = curveEnds(curve);
	return knownPoints(curve)
		.filter(([factor]) => factor <= MAX_NOISE)
		.map(([factor, score]) => [
			factor,
			HEIGHT * (1 - (score - low) / (high - low || 1)),
		]);
}

/** The height of the curve at a factor between its points; null beyond the last. */
export function heightAt(points: readonly Point[], noise: number) {
	const after = points.findIndex(([x]) => x >= noise);
	const right = points[after];
	if (right === undefined) return null;
	const left = points[after - 1] ?? right;
	const t = (noise - left[0]) / (right[0] - left[0] || 1);
	return left[1] + t * (right[1] - left[1]);
}

/** Where the noise takes nearly all of the score; up to the right edge where there is no upper end. */
export function curveBand({ low, high }: Curve): Point | null {
	if (typeof low !== "number" || low > MAX_NOISE) return null;
	return [low, Math.min(high ?? MAX_NOISE, MAX_NOISE)];
}

export function NoiseCurve({ curve, noise, metric }: Props) {
	const points = curve === null ? [] : curvePoints(curve);
	const height = heightAt(points, noise);
	const ends = curve === null ? [] : curveEnds(curve);
	const band = curve && curveBand(curve);
	const line = points.map(([x, y]) => `${x},${y}`).join(" ");
	return (
		<div class="bt-curve" aria-hidden="true">
			<svg viewBox={`0 0 ${MAX_NOISE} ${HEIGHT}`} preserveAspectRatio="none">
				<title>noise curve</title>
				{band && (
					<rect
						data-testid="curve-band"
						x={band[0]}
						width={band[1] - band[0]}
						height={HEIGHT}
					/>
				)}
				{points.length > 1 && (
					<>
						<polygon
							points={`${points[0]?.[0]},${HEIGHT} ${line} ${points.at(-1)?.[0]},${HEIGHT}`}
						/>
						<polyline points={line} />
					</>
				)}
			</svg>
			{[0, MAX_NOISE, ...ends.map((end) => score(metric, end))].map(
				(end, place) => (
					<small key={place}>{end}</small>
				),
			)}
			{height !== null && (
				<span
					style={{
						left: `${(100 * noise) / MAX_NOISE}%`,
						top: `${(100 * height) / HEIGHT}%`,
					}}
				/>
			)}
		</div>
	);
}
