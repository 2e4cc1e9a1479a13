// The picture's patches, over the picture: a map of them, the marked ones, and marking by mouse and keys. A click
// marks a patch, a drag a rectangle; with Shift they are added to what is marked, or a patch is taken out again.

import { useEffect, useRef, useState } from "preact/hooks";
import { between, clamp, joined, move } from "../navigate";
import { doubtful, drawMap, outline, type PatchMap } from "../patches";
import type { CellIndex } from "../traits";

interface Props {
	/** Rows and columns. */
	shape: CellIndex;
	marked: readonly CellIndex[];
	/** The damaged region; none for everywhere. */
	region: readonly CellIndex[];
	map: PatchMap | null;
	/** Below 0, above 0, not computed. */
	colors: readonly string[];
	opacity: number;
	old: boolean;
	/** The description of a patch. */
	describe: (place: CellIndex) => string;
	onMark: (places: readonly CellIndex[]) => void;
	onPoint: (place: CellIndex | null) => void;
}

export function Patches(props: Props) {
	const { shape, marked, region, map, colors, opacity, onPoint } = props;
	const [rows, columns] = shape;
	const canvas = useRef<HTMLCanvasElement>(null);
	const [cursor, setCursor] = useState<CellIndex | null>(null);
	const [drawn, setDrawn] = useState<readonly CellIndex[] | null>(null);
	const anchor = useRef<CellIndex | null>(null);
	const dragging = useRef(false);

	useEffect(() => {
		if (canvas.current !== null && map !== null)
			drawMap(canvas.current, map, colors);
	}, [map, ...colors]);

	function placeAt(event: PointerEvent): CellIndex {
		const box = (event.currentTarget as Element).getBoundingClientRect();
		const at = (from: number, size: number, count: number) =>
			Math.floor((count * from) / (size || 1));
		return clampTo([
			at(event.clientY - box.top, box.height, rows),
			at(event.clientX - box.left, box.width, columns),
		]);
	}

	function clampTo(place: CellIndex): CellIndex {
		const [row, column] = clamp(place, rows, columns);
		return [Math.max(0, row), Math.max(0, column)];
	}

	function mark(to: CellIndex, add: boolean): void {
		const places = between(anchor.current ?? to, to);
		setDrawn(null);
		props.onMark(add ? joined(marked, places) : places);
	}

	function keyDown(event: KeyboardEvent): void {
		const add = event.ctrlKey || event.metaKey;
		const at = cursor ?? anchor.current ?? [0, 0];
		if (event.altKey) return;
		if (event.key === "Enter" || event.key === " ") {
			anchor.current = at;
			if (!event.repeat) mark(at, add || event.shiftKey);
		} else if (event.key === "Escape") {
			setDrawn(null);
			dragging.current = false;
			props.onMark([]);
		} else {
			const next = move(at, event.key, add, rows, columns);
			if (next === null) return;
			const to = clampTo(next);
			setCursor(to);
			onPoint(to);
			if (event.shiftKey) {
				anchor.current ??= at;
				props.onMark(between(anchor.current, to));
			} else anchor.current = null;
		}
		event.preventDefault();
	}

	const path = outline(drawn ?? marked);
	const [row, column] = cursor ?? [0, 0];
	return (
		<>
			{map !== null && (
				<canvas
					ref={canvas}
					data-testid="picture-map"
					class={props.old ? "bt-old" : ""}
					style={{
						opacity,
						// The squares at the right and lower edge may reach beyond it.
						width: `${(100 * map.columns * map.square) / columns}%`,
						height: `${(100 * map.rows * map.square) / rows}%`,
					}}
				/>
			)}
			<div
				class="bt-patches"
				data-testid="patches"
				role="application"
				aria-label={props.describe([row, column])}
				// biome-ignore lint/a11y/noNoninteractiveTabindex: an application takes keys.
				tabIndex={0}
				onKeyDown={keyDown}
				onFocus={(event) => {
					if (event.currentTarget.matches(":focus-visible"))
						setCursor(anchor.current ?? [0, 0]);
				}}
				onBlur={() => {
					setCursor(null);
					onPoint(null);
				}}
				onPointerDown={(event) => {
					if (event.button !== 0) return;
					event.currentTarget.setPointerCapture?.(event.pointerId);
					dragging.current = true;
					anchor.current = placeAt(event);
					setDrawn([anchor.current]);
				}}
				onPointerMove={(event) => {
					const place = placeAt(event);
					onPoint(place);
					if (dragging.current)
						setDrawn(between(anchor.current ?? place, place));
				}}
				onPointerUp={(event) => {
					if (!dragging.current) return;
					dragging.current = false;
					mark(
						placeAt(event),
						event.shiftKey || event.ctrlKey || event.metaKey,
					);
				}}
				onPointerCancel={() => {
					dragging.current = false;
					setDrawn(null);
				}}
				onPointerLeave={() => onPoint(null)}
			>
				<svg
					viewBox={`0 0 ${columns} ${rows}`}
					preserveAspectRatio="none"
					aria-hidden="true"
				>
					{region.map(([r, c]) => (
						<path key={`${r},${c}`} class="bt-hit" d={`M${c} ${r}h1v1h-1z`} />
					))}
					{doubtful(map).map(([r, c]) => (
						<circle
							key={`${r},${c}`}
							cx={c}
							cy={r}
							r={0.06 * (map?.square ?? 1)}
						/>
					))}
					<path class="bt-region" d={outline(region)} />
					<path class="bt-halo" d={path} />
					<path class="bt-marked" d={path} />
					{cursor !== null && <path class="bt-cursor" d={outline([cursor])} />}
				</svg>
			</div>
		</>
	);
}
