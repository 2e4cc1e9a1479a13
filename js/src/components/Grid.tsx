// The grid. One place at a time can be tabbed to; keys move between cells and headers; Enter, Space or a click patches a
// cell, or a whole row or column by its header. A drag, or Shift with arrows, draws out a set, which is patched on
// release; with Ctrl a click adds a cell to the set or takes it out. Alt-click or L holds a cell, row or column while
// others are patched, or lets it go. P shows the paths into what is selected; on paths a second click or Enter points out
// what a cell sends, and Escape goes one step back.

import { useEffect, useRef, useState } from "preact/hooks";
import { type Cell, cellOf, type GridView, key } from "../cells";
import { between, clamp, joined, move, type Place } from "../navigate";
import type { Shade } from "../palette";
import type { CellIndex, Show } from "../traits";
import type { Words } from "../words";
import { GridRow, glow } from "./GridRow";
import type { Marginals } from "./Profile";

interface Props {
	view: GridView;
	show: Show;
	metric: string;
	words: Words;
	selected: readonly CellIndex[];
	marginals: Marginals;
	color: (cell: Cell) => Shade | null;
	/** How much each token attends to the patch that is pointed at. */
	attention: readonly number[];
	onSelect: (cells: readonly CellIndex[]) => void;
	onDraw: (cells: readonly CellIndex[] | null) => void;
	onPoint: (cell: CellIndex | null, element: HTMLElement | null) => void;
	onCopy: () => void;
	onHold: (cells: readonly CellIndex[]) => void;
	/** Show the paths into these cells, into the answer if there are none. */
	onWalk: (cells: readonly CellIndex[]) => void;
	/** One step back on the paths that are shown; null if none are. */
	onBack: (() => void) | null;
	/** Point out, or no longer, what the selected cell sends; null if no paths are shown. */
	onArrow: (() => void) | null;
}

function placeAt(target: EventTarget | null): HTMLElement | null {
	return target instanceof Element
		? target.closest<HTMLElement>("[data-row]")
		: null;
}

function placeOf(element: HTMLElement): Place {
	return [Number(element.dataset["row"]), Number(element.dataset["column"])];
}

export function Grid(props: Props) {
	const { view, show, metric, selected, marginals, color } = props;
	const rows = view.rows.length;
	const columns = view.rows[0]?.length ?? 0;
	const byToken = view.axes === "tokens";
	const grid = useRef<HTMLDivElement>(null);
	const [place, setPlace] = useState<Place>([0, 0]);
	const focus = clamp(place, rows, columns);
	// The corner from which a set is drawn out; a plain move or click starts a new one.
	const anchor = useRef<CellIndex | null>(null);
	const drawn = useRef<readonly CellIndex[] | null>(null);
	const letGo = useRef<AbortController | null>(null);
	useEffect(() => () => letGo.current?.abort(), []);
	const walking = useRef(false);
	useEffect(() => {
		const root = grid.current?.getRootNode() as
			| Document
			| ShadowRoot
			| undefined;
		const at = root?.activeElement;
		if (!walking.current || grid.current?.contains(at ?? null)) return;
		walking.current = false;
		if (!at || at === document.body)
			grid.current?.querySelector<HTMLElement>('[tabindex="0"]')?.focus();
	});

	/** The cells that a place stands for: its own, or all of a header's row or column. */
	function cellsAt([row, column]: Place): CellIndex[] {
		const cells = row < 0 ? view.rows.map((r) => r[column]) : view.rows[row];
		return (cells ?? [])
			.filter((cell) => cell !== undefined)
			.filter((_, index) => row < 0 || column < 0 || index === column)
			.map(({ layer, position }) => [layer, position]);
	}

	function cellAt(at: Place): CellIndex | null {
		return at[0] < 0 || at[1] < 0 ? null : (cellsAt(at)[0] ?? null);
	}

	function draw(to: CellIndex): void {
		anchor.current ??= selected[0] ?? to;
		const from = cellOf(view, anchor.current);
		drawn.current = between(from ? [from.layer, from.position] : to, to);
		props.onDraw(drawn.current);
	}

	function finish(): void {
		const cells = drawn.current;
		drawn.current = null;
		if (cells !== null) props.onSelect(cells);
	}

	function choose(at: Place, add: boolean): void {
		const cells = cellsAt(at);
		anchor.current = cells[0] ?? null;
		drawn.current = null;
		const again = !add && cells.length === 1 && `${cells}` === `${selected}`;
		if (again && props.onArrow) props.onArrow();
		else props.onSelect(add ? joined(selected, cells) : cells);
	}

	/** A step by keys: whatever grid comes, the keys stay in it. */
	function stepped(step: () => void): void {
		walking.current = true;
		step();
	}

	function keyDown(event: KeyboardEvent): void {
		const control = event.ctrlKey || event.metaKey;
		if (event.altKey) return;
		if (event.key === "Enter" || event.key === " ") {
			event.preventDefault();
			if (!event.repeat) choose(focus, control);
			return;
		}
		if (event.key.toLowerCase() === "l" && !control) {
			event.preventDefault();
			if (!event.repeat) props.onHold(cellsAt(focus));
			return;
		}
		if (event.key.toLowerCase() === "p" && !control) {
			event.preventDefault();
			if (!event.repeat) stepped(() => props.onWalk(selected));
			return;
		}
		if (event.key === "c" && control && selected.length > 0) {
			event.preventDefault();
			props.onCopy();
			return;
		}
		if (event.key === "Escape") {
			props.onPoint(null, null);
			letGo.current?.abort();
			letGo.current = null;
			const drawing = drawn.current !== null;
			drawn.current = null;
			props.onDraw(null);
			if (props.onBack !== null) {
				if (!drawing) stepped(props.onBack);
			} else if (selected.length > 0) props.onSelect([]);
			return;
		}
		const next = move(focus, event.key, control, rows, columns);
		if (next === null) return;
		event.preventDefault();
		const to = cellAt(next);
		if (event.shiftKey && to !== null) {
			anchor.current ??= cellAt(focus);
			draw(to);
		} else if (event.shiftKey) return;
		else anchor.current = to;
		const [row, column] = next;
		grid.current
			?.querySelector<HTMLElement>(
				`[data-row="${row}"][data-column="${column}"]`,
			)
			?.focus();
	}

	function pointerDown(event: PointerEvent): void {
		const element = placeAt(event.target);
		const start = element && cellAt(placeOf(element));
		const modified = event.ctrlKey || event.metaKey || event.altKey;
		const plain = event.button === 0 && !modified;
		if (start === null || !plain || event.pointerType === "touch") return;
		if (event.shiftKey) draw(start);
		else anchor.current = start;
		const controller = new AbortController();
		letGo.current = controller;
		// The pointer may be released anywhere on the page.
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
		const element = placeAt(event.target);
		const cell = element && cellAt(placeOf(element));
		props.onPoint(cell, element);
		if (cell === null || letGo.current === null) return;
		const [layer, position] = anchor.current ?? cell;
		const moved = layer !== cell[0] || position !== cell[1];
		if (moved || drawn.current !== null) draw(cell);
	}

	// A row or column of one cell is no more than that cell.
	const heldColumns = Array.from({ length: columns }, (_, column) =>
		rows > 1 && view.rows.every((row) => row[column]?.held) ? "1" : "0",
	).join("");
	const columnHeld = (column: number) => heldColumns[column] === "1";
	const chosen = new Set(selected.map(([l, p]) => key(l, p)));
	const header = (row: number, column: number, label: string | number) => (
		<div
			key={column}
			role="columnheader"
			tabIndex={focus[0] === row && focus[1] === column ? 0 : -1}
			data-row={row}
			data-column={column}
			data-lock={columnHeld(column) || undefined}
			aria-label={columnHeld(column) ? `${label}, held` : undefined}
			title={`select ${byToken ? `layer ${label}` : `“${label}”`}; Alt-click holds it`}
			style={byToken ? undefined : glow(props.attention[column])}
		>
			<span>{label}</span>
		</div>
	);
	const labels = byToken
		? view.rows[0]?.map(({ layer }) => layer)
		: view.tokens;
	return (
		<div
			ref={grid}
			class="bt-grid"
			role="grid"
			data-axes={view.axes}
			aria-label={`hidden states: ${byToken ? "tokens by layers" : "layers by tokens"}`}
			aria-multiselectable="true"
			aria-description={props.words.explain("grid")}
			onKeyDown={keyDown}
			onKeyUp={(event) => {
				if (event.key === "Shift" && letGo.current === null) finish();
			}}
			onClick={(event) => {
				const element = placeAt(event.target);
				if (element === null || event.shiftKey) return;
				if (event.altKey) return props.onHold(cellsAt(placeOf(element)));
				// A drag ends with a click only if it began and ended in the same cell.
				choose(placeOf(element), event.ctrlKey || event.metaKey);
			}}
			onPointerDown={pointerDown}
			onPointerOver={pointerOver}
			onPointerLeave={() => props.onPoint(null, null)}
			onFocusIn={(event) => {
				const element = placeAt(event.target);
				if (element === null) return;
				setPlace(placeOf(element));
				if (element.matches(":focus-visible"))
					props.onPoint(cellAt(placeOf(element)), element);
			}}
			onFocusOut={(event) => {
				props.onPoint(null, null);
				const inside = grid.current?.contains(event.relatedTarget as Node);
				if (!inside && letGo.current === null) finish();
			}}
		>
			<div class="bt-row bt-heads" role="row">
				<div class="bt-corner" role="columnheader">
					{byToken ? "layer" : "token"}
				</div>
				{labels?.map((label, column) => header(-1, column, label))}
				<div class="bt-mean bt-muted" aria-hidden="true">
					mean
				</div>
			</div>
			{view.rows.map((cells, row) => (
				<GridRow
					key={row}
					row={row}
					cells={cells}
					tokens={view.tokens}
					attention={byToken ? (props.attention[row] ?? 0) : 0}
					label={byToken ? (view.tokens[row] ?? "") : String(row)}
					byToken={byToken}
					show={show}
					metric={metric}
					words={props.words}
					between={view.between}
					heldColumns={heldColumns}
					color={color}
					selected={cells
						.map(({ layer, position }) =>
							chosen.has(key(layer, position)) ? "1" : "0",
						)
						.join("")}
					focused={focus[0] === row ? focus[1] : -2}
					mean={marginals.rows.bars[row]}
				/>
			))}
		</div>
	);
}
