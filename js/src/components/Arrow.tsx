// The arrow from the selected sender to what receives it, with its share, over a grid that has both.

import { useLayoutEffect, useRef, useState } from "preact/hooks";
import type { GridView } from "../cells";
import type { CellIndex } from "../traits";

interface Props {
	view: GridView;
	from: CellIndex;
	to: readonly CellIndex[];
	share: string;
}

interface Line {
	readonly x1: number;
	readonly y1: number;
	readonly x2: number;
	readonly y2: number;
}

/** How far from a cell's middle the arrow begins and ends. */
const GAP = 12;

/** The middle of a cell, in the pixels of the frame that scrolls it. */
function middleOf(frame: HTMLElement, [layer, position]: CellIndex) {
	const cell = frame.querySelector<HTMLElement>(
		`[data-layer="${layer}"][data-position="${position}"]`,
	);
	if (cell === null) return null;
	let [x, y] = [cell.offsetWidth / 2, cell.offsetHeight / 2];
	for (
		let at: Element | null = cell;
		at instanceof HTMLElement && at !== frame;
		at = at.offsetParent
	) {
		x += at.offsetLeft;
		y += at.offsetTop;
	}
	return { x, y };
}

function lineOf(
	frame: HTMLElement,
	from: CellIndex,
	to: CellIndex,
): Line | null {
	const [start, end] = [middleOf(frame, from), middleOf(frame, to)];
	if (start === null || end === null) return null;
	const [dx, dy] = [end.x - start.x, end.y - start.y];
	const length = Math.hypot(dx, dy);
	if (length < 2 * GAP) return null;
	const [ux, uy] = [(GAP * dx) / length, (GAP * dy) / length];
	return {
		x1: start.x + ux,
		y1: start.y + uy,
		x2: end.x - ux,
		y2: end.y - uy,
	};
}

export function Arrow({ view, from, to, share }: Props) {
	const layer = useRef<SVGSVGElement>(null);
	const [lines, setLines] = useState<readonly Line[]>([]);
	useLayoutEffect(() => {
		const frame = layer.current?.parentElement;
		if (!frame) return;
		const measure = () =>
			setLines(
				to
					.map((cell) => lineOf(frame, from, cell))
					.filter((line) => line !== null),
			);
		measure();
		const observer = new ResizeObserver(measure);
		observer.observe(frame);
		return () => observer.disconnect();
	}, [view.axes, view.layers, view.tokens, `${from}`, `${to}`]);
	const [first] = lines;
	return (
		<svg
			ref={layer}
			class="bt-arrow"
			aria-hidden="true"
			data-testid="arrow"
			data-lines={lines.length}
		>
			<defs>
				<marker
					id="bt-head"
					viewBox="0 0 8 8"
					refX="7"
					refY="4"
					markerWidth="7"
					markerHeight="7"
					orient="auto"
				>
					<path d="M0 0 8 4 0 8z" />
				</marker>
			</defs>
			{lines.map((line, index) => (
				<line key={index} {...line} marker-end="url(#bt-head)" />
			))}
			{first && (
				<text x={(first.x1 + first.x2) / 2} y={(first.y1 + first.y2) / 2 - 8}>
					{share}
				</text>
			)}
		</svg>
	);
}
