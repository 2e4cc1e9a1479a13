// The grid: rows are tokens, columns layers. One cell at a time can be tabbed to; keys move between them; Enter, Space or
// a click patches; Shift draws out a set, which is patched when Shift or the pointer is let go.

import { useEffect, useRef, useState } from "preact/hooks";
import type { Cell, GridView } from "../cells";
import { between, clamp, move } from "../navigate";
import type { CellIndex, Show } from "../traits";
import { GridRow } from "./GridRow";

interface Props {
	view: GridView;
	show: Show;
	metric: string;
	selected: readonly CellIndex[];
	color: (cell: Cell) => string | null;
	onSelect: (cells: readonly CellIndex[]) => void;
	onDraw: (cells: readonly CellIndex[] | null) => void;
	onPoint: (cell: CellIndex | null, element: HTMLElement | null) => void;
}

function cellAt(target: EventTarget | null): HTMLElement | null {
	return target instanceof Element
		? target.closest<HTMLElement>("[role=gridcell]")
		: null;
}

function indexOf(element: HTMLElement): CellIndex {
	return [
		Number(element.dataset["layer"]),
		Number(element.dataset["position"]),
	];
}

export function Grid(props: Props) {
	const { view, show, metric, selected, color } = props;
	const extent = { layers: view.layers, positions: view.tokens.length };
	const grid = useRef<HTMLDivElement>(null);
	const [place, setPlace] = useState<CellIndex>([0, 0]);
	const focus = clamp(place, extent);
	// The corner from which a set is drawn out; a plain move or click starts a new one.
	const anchor = useRef<CellIndex | null>(null);
	const drawn = useRef<readonly CellIndex[] | null>(null);
	const letGo = useRef<AbortController | null>(null);
	useEffect(() => () => letGo.current?.abort(), []);

	function draw(to: CellIndex): void {
		anchor.current ??= selected[0] ?? focus;
		drawn.current = between(clamp(anchor.current, extent), to);
		props.onDraw(drawn.current);
	}

	function finish(): void {
		const cells = drawn.current;
		drawn.current = null;
		if (cells !== null) props.onSelect(cells);
	}

	function choose(cell: CellIndex): void {
		anchor.current = cell;
		drawn.current = null;
		props.onSelect([cell]);
	}

	function keyDown(event: KeyboardEvent): void {
		if (event.altKey || event.metaKey) return;
		if (event.key === "Enter" || event.key === " ") {
			event.preventDefault();
			if (!event.repeat) choose(focus);
			return;
		}
		if (event.key === "Escape") {
			props.onPoint(null, null);
			if (drawn.current !== null || selected.length > 1) choose(focus);
			return;
		}
		const next = move(focus, event.key, event.ctrlKey, extent);
		if (next === null) return;
		event.preventDefault();
		if (event.shiftKey) {
			anchor.current ??= focus;
			draw(next);
		} else anchor.current = next;
		const [layer, position] = next;
		grid.current
			?.querySelector<HTMLElement>(
				`[data-layer="${layer}"][data-position="${position}"]`,
			)
			?.focus();
	}

	function pointerDown(event: PointerEvent): void {
		const element = cellAt(event.target);
		if (element === null || !event.shiftKey || event.button !== 0) return;
		draw(indexOf(element));
		const controller = new AbortController();
		letGo.current = controller;
		// The pointer may be let go anywhere in the page.
		for (const name of ["pointerup", "pointercancel"])
			window.addEventListener(
				name,
				() => {
					controller.abort();
					letGo.current = null;
					finish();
				},
				{ signal: controller.signal, capture: true },
			);
	}

	function pointerOver(event: PointerEvent): void {
		const element = cellAt(event.target);
		props.onPoint(element && indexOf(element), element);
		if (element !== null && letGo.current !== null) draw(indexOf(element));
	}

	const chosen = new Map<number, number[]>();
	for (const [layer, position] of selected)
		chosen.set(position, [...(chosen.get(position) ?? []), layer]);
	return (
		<div
			ref={grid}
			class="bt-grid"
			role="grid"
			aria-label="hidden states: tokens by layers"
			aria-multiselectable="true"
			onKeyDown={keyDown}
			onKeyUp={(event) => {
				if (event.key === "Shift" && letGo.current === null) finish();
			}}
			onClick={(event) => {
				const element = cellAt(event.target);
				if (element !== null && !event.shiftKey) choose(indexOf(element));
			}}
			onPointerDown={pointerDown}
			onPointerOver={pointerOver}
			onPointerLeave={() => props.onPoint(null, null)}
			onFocusIn={(event) => {
				const element = cellAt(event.target);
				if (element === null) return;
				setPlace(indexOf(element));
				if (element.matches(":focus-visible"))
					props.onPoint(indexOf(element), element);
			}}
			onFocusOut={(event) => {
				props.onPoint(null, null);
				const inside = grid.current?.contains(event.relatedTarget as Node);
				if (!inside && letGo.current === null) finish();
			}}
		>
			<div class="bt-row bt-layers" role="row">
				<div class="bt-corner" role="columnheader">
					layer
				</div>
				{Array.from({ length: view.layers }, (_, layer) => (
					<div key={layer} role="columnheader">
						{layer}
					</div>
				))}
			</div>
			{view.rows.map((cells, position) => (
				<GridRow
					key={position}
					cells={cells}
					tokens={view.tokens}
					position={position}
					show={show}
					metric={metric}
					color={color}
					selected={chosen.get(position)?.join() ?? ""}
					focused={focus[1] === position ? focus[0] : -1}
				/>
			))}
		</div>
	);
}
