// All that is known about the cell under the pointer or with the focus. It lies inside the figure, so that it never makes
// the page scroll.

import type { ReadonlySignal } from "@preact/signals-core";
import { cellOf, type GridView } from "../cells";
import { cellNotes, cellValues, tokenName } from "../sentence";
import type { CellIndex } from "../traits";
import type { Words } from "../words";

export interface Pointed {
	readonly cell: CellIndex;
	/** Where the cell lies in the frame, and how large the frame is. */
	readonly place: {
		readonly x: number;
		readonly y: number;
		readonly width: number;
		readonly height: number;
		readonly room: { readonly width: number; readonly height: number };
	};
}

interface Props {
	pointed: ReadonlySignal<Pointed | null>;
	view: GridView | null;
	metric: string;
	words: Words;
}

const WIDEST = 248;
const GAP = 8;

export function Tooltip({ pointed, view, metric, words }: Props) {
	if (pointed.value === null || view === null) return null;
	const [layer, position] = pointed.value.cell;
	const cell = cellOf(view, pointed.value.cell);
	if (cell === undefined) return null;
	const { x, y, width, height, room } = pointed.value.place;
	const wide = Math.min(WIDEST, room.width - 2 * GAP);
	const left = Math.max(
		GAP,
		Math.min(x + (width - wide) / 2, room.width - wide - GAP),
	);
	const upper = y + height / 2 < room.height / 2;
	const edge = upper
		? { top: `${y + height + GAP}px` }
		: { bottom: `${room.height - y + GAP}px` };
	return (
		<div
			class="bt-tooltip"
			aria-hidden="true"
			style={{ left: `${left}px`, width: `${wide}px`, ...edge }}
		>
			<b>{`layer ${layer} · ${tokenName(view.tokens, position)}`}</b>
			{cellValues(cell, metric, view.between).map(([name, value]) => (
				<span key={name} class="bt-pair">
					<span>{name}</span>
					<span class="bt-value">{value}</span>
				</span>
			))}
			{cellNotes(cell, words, view.between).map((note) => (
				<span key={note} class="bt-muted">
					{note}
				</span>
			))}
		</div>
	);
}
