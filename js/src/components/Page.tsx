// A page of the list, always as high as a full one. Mouse and keys move through its rows; a skipped sample can be read,
// but not chosen.

import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { isHeld } from "../keys";
import type { ListedSample } from "../protocol";
import { Sample } from "./Sample";

interface Props {
	rows: readonly ListedSample[];
	/** Rows of a full page. */
	size: number;
	/** Shown instead of rows if there are none. */
	empty: string;
	/** Number of the sample that the figure shows. */
	chosen: number;
	/** Why nothing can be chosen, else "". */
	closed: string;
	onChoose: (number: number) => void;
	/** Whether there is a page to turn to. */
	onTurn: (back: boolean) => boolean;
}

export function Page(props: Props) {
	const { rows, size, chosen, closed, onChoose, onTurn } = props;
	const box = useRef<HTMLDivElement>(null);
	/** The row that has the focus. */
	const [at, setAt] = useState<number | null>(null);
	/** The row that had it when a page was turned. */
	const turned = useRef<number | null>(null);

	const options = () => [
		...(box.current?.querySelectorAll<HTMLElement>("[role=option]") ?? []),
	];
	const focus = (row: number) =>
		options()
			.at(Math.max(0, Math.min(row, rows.length - 1)))
			?.focus();

	// A shorter page has lost the row that had the focus: continue from the nearest.
	useLayoutEffect(() => {
		const row = turned.current;
		turned.current = null;
		const root = box.current?.getRootNode() as Document | ShadowRoot;
		const focused = root?.activeElement ?? document.body;
		if (row !== null && focused === document.body) focus(row);
	}, [rows]);

	function choose({ number, note }: ListedSample): void {
		if (closed === "" && note === "" && number !== chosen) onChoose(number);
	}

	function step(event: KeyboardEvent): void {
		if (isHeld(event)) return;
		const row = options().indexOf(event.target as HTMLElement);
		const to = {
			ArrowUp: row - 1,
			ArrowDown: row + 1,
			Home: 0,
			End: size,
		}[event.key];
		if (to !== undefined) focus(to);
		else if (!event.key.startsWith("Page")) return;
		else if (onTurn(event.key === "PageUp")) turned.current = row;
		event.preventDefault();
	}

	// Tab leads to what is chosen.
	const shown = rows.findIndex(({ number }) => number === chosen);
	const stop = Math.min(at ?? Math.max(0, shown), rows.length - 1);
	return (
		<div
			class="bt-page"
			style={{ "--bt-size": size, "--bt-half": Math.ceil(size / 2) }}
		>
			{rows.length > 0 ? (
				<div
					class="bt-list"
					role="listbox"
					aria-label="samples"
					aria-disabled={closed !== ""}
					ref={box}
					onKeyDown={step}
					onFocusOut={({ currentTarget, relatedTarget }) => {
						if (!currentTarget.contains(relatedTarget as Node | null))
							setAt(null);
					}}
				>
					{/* By its place, so that the focus stays where it is when a page is turned. */}
					{rows.map((sample, row) => (
						<Sample
							key={row}
							sample={sample}
							chosen={sample.number === chosen}
							closed={closed}
							stop={row === stop}
							onFocus={() => setAt(row)}
							onChoose={() => choose(sample)}
						/>
					))}
				</div>
			) : (
				<p class="bt-muted" data-testid="nothing">
					{props.empty}
				</p>
			)}
		</div>
	);
}
