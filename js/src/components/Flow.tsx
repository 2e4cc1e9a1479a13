// The flow between groups of tokens: an arrow for each pair, as wide as what is lost without it.

import type { FlowPicture } from "../protocol";

const WIDE = 180;
const HIGH = 160;
/** Width of the widest arrow; those of less than this share of it are faint. */
const WIDEST = 10;
const FAINT = 0.05;

export function Flow({ flow }: { flow: FlowPicture }) {
	const places = new Map<string, readonly [number, number]>();
	flow.columns.forEach((names, column) => {
		names.forEach((name, row) => {
			places.set(name, [
				WIDE * (column + 0.5),
				(HIGH * (row + 0.5)) / names.length,
			]);
		});
	});
	const most = Math.max(
		...flow.arrows.map(({ value }) => Math.abs(value ?? 0)),
	);
	return (
		<figure class="bt-flow" data-testid="flow">
			<svg
				viewBox={`0 0 ${WIDE * flow.columns.length} ${HIGH}`}
				role="img"
				aria-label={flow.text}
			>
				{flow.arrows.map(({ ends, value, text }) => {
					const [from, to] = ends.map((name) => places.get(name));
					if (!from || !to || value === null) return null;
					const share = value / (most || 1);
					// Within a column it is bent, or it would lie on others.
					const bend = from[0] === to[0] ? 0.4 * (to[1] - from[1]) : 0;
					const middle = [(from[0] + to[0]) / 2 + bend, (from[1] + to[1]) / 2];
					return (
						<path
							key={text}
							d={`M${from} Q${middle} ${to}`}
							data-sign={Math.abs(share) < FAINT ? "" : share < 0 ? "-" : "+"}
							stroke-width={Math.max(0.5, WIDEST * Math.abs(share))}
						>
							<title>{text}</title>
						</path>
					);
				})}
				{[...places].map(([name, [x, y]]) => (
					<text key={name} x={x} y={y + 4}>
						{name}
					</text>
				))}
			</svg>
			<figcaption class="bt-muted">{flow.text}</figcaption>
			<ul class="bt-hidden">
				{flow.arrows.map(({ text }) => (
					<li key={text}>{text}</li>
				))}
			</ul>
		</figure>
	);
}
