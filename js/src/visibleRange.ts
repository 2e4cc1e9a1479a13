// The visible range of a grid with so many rows or columns that it scrolls: sent to the kernel, which computes it first,
// and shown to the user; selected cells are scrolled into view. Only the grid's own box scrolls, never the page.

import { useEffect, useRef, useState } from "preact/hooks";
import type { GridView } from "./cells";
import { pacer } from "./pacer";

/** By the meaning of the rows: along which side of the box the tokens run, and what stays fixed at its two ends. */
const SIDES = {
	tokens: ["Top", "Height", ".bt-heads", ".bt-profile"],
	layers: ["Left", "Width", ".bt-corner", ".bt-unit"],
} as const;

function along(box: HTMLElement, axes: keyof typeof SIDES) {
	const [edge, extent, ...ends] = SIDES[axes];
	const [before = 0, after = 0] = ends.map(
		(part) => box.querySelector<HTMLElement>(part)?.[`offset${extent}`],
	);
	return {
		edge,
		extent,
		before,
		after,
		start: box[`scroll${edge}`],
		size: box[`client${extent}`],
		full: box[`scroll${extent}`],
	};
}

/** Scroll to the first selected cell if no selected cell is visible. */
function reveal(box: HTMLElement): void {
	const cells = [...box.querySelectorAll<HTMLElement>("[aria-selected=true]")];
	for (const axes of ["tokens", "layers"] as const) {
		const { edge, extent, before, after, start, size } = along(box, axes);
		const places = cells.map((cell): [from: number, to: number] => {
			const from = cell[`offset${edge}`] - box[`offset${edge}`] - start;
			return [from, from + cell[`offset${extent}`]];
		});
		const [first] = places;
		if (first === undefined) return;
		if (places.some(([from, to]) => to > before && from < size - after))
			continue;
		box[`scroll${edge}`] += first[0] - size / 2;
	}
}

/**
 * For the box that scrolls a grid.
 *
 * @param tell called with the first and the last visible position, approximately.
 * @returns the box, what to call when it scrolls, and how many tokens fit in it.
 */
export function useVisibleRange(
	view: GridView | null,
	selected: string,
	tell: (first: number, last: number) => void,
) {
	const box = useRef<HTMLDivElement>(null);
	const [count, setCount] = useState(Number.POSITIVE_INFINITY);
	const [teller] = useState(() => pacer((tell: () => void) => tell(), 200));
	useEffect(() => () => teller.cancel(), [teller]);

	const { axes = "tokens", tokens = [] } = view ?? {};
	const all = tokens.length;
	function measureRange(): void {
		if (box.current === null) return;
		const { start, size, full } = along(box.current, axes);
		const at = (place: number) => (all * place) / Math.max(1, full);
		tell(Math.floor(at(start)), Math.ceil(at(start + size)));
	}
	useEffect(() => {
		const scrolled = box.current;
		if (scrolled === null) return undefined;
		const measure = () => {
			const { before, after, size, full } = along(scrolled, axes);
			const share = (size - before - after) / (full - before - after);
			setCount(size < full ? Math.floor(all * share) : Infinity);
		};
		const observer = new ResizeObserver(measure);
		observer.observe(scrolled);
		return () => observer.disconnect();
	}, [axes, all]);
	useEffect(() => {
		if (box.current !== null) reveal(box.current);
	}, [selected, count, axes]);

	return { box, count, onScroll: () => teller.push(measureRange) };
}
