// The result for the selected states in one sentence, and the one for the pinned states; the first is also announced to
// screen readers when it changes.

import { toFloats } from "../binary";
import { cellOf, fits, readCell } from "../cells";
import {
	type Asked,
	type Outcome,
	outcomeSentence,
	type Piece,
	pendingSentence,
	toText,
} from "../sentence";
import type { Session } from "../session";
import type { CellIndex } from "../traits";
import type { ViewModel } from "../viewModel";

/** A single cell already computed in the grid gives the same result as patching it again. */
function outcomeFromGrid(
	model: ViewModel,
	asked: Asked,
): (Outcome & { old: boolean }) | null {
	const [cell, ...rest] = asked.cells;
	const view = model.view.value;
	if (cell === undefined || rest.length > 0 || view === null) return null;
	const known = cellOf(view, cell);
	if (!known || known.state === "empty" || known.state === "waiting")
		return null;
	return {
		...asked,
		...known.values,
		negligible: known.negligible,
		held: view.phrase
			? {
					phrase: view.phrase,
					kept: view.kept,
					itself: known.held,
					dead: known.dead,
				}
			: null,
		free: view.phrase ? freeFromGrid(model, cell) : null,
		into: view.into,
		dead: known.dead,
		error: model.runs.value?.error ?? "",
		old: known.state === "old",
	};
}

/** The same cell in the grid in which nothing is held, if that is there too. */
function freeFromGrid(model: ViewModel, [layer, position]: CellIndex) {
	const view = model.view.value;
	const grid = model.grids.value.find(
		(each) => view && fits(each, { ...view, hold: [] }),
	);
	const floats = grid && toFloats(grid.values);
	if (!view || !floats || grid.generation < model.due.value) return null;
	const count = view.layers * view.tokens.length;
	const index = layer * view.tokens.length + position;
	const values = readCell(floats, count, index);
	if (Number.isNaN(values.score)) return null;
	return { ...values, negligible: values.significant === 0 };
}

function content(model: ViewModel): { pieces: Piece[]; old: boolean } {
	const view = model.view.value;
	const cells = model.selected.value;
	const patches = model.patches.value;
	const direction = model.direction.value;
	if (view === null || cells.length + patches.length === 0) {
		const text = model.words.value.caption("hint", direction);
		return { pieces: [{ text }], old: true };
	}
	const { site, head, tokens, layers } = view;
	const window = model.window.value;
	const runs = model.runs.value;
	const metric = runs?.metric ?? model.metric.value;
	const cause = runs?.cause ?? "noise";
	const asked = {
		cells,
		patches,
		direction,
		window,
		site,
		head,
		tokens,
		layers,
		metric,
		cause,
	};
	const gate = runs?.gate;
	const words = model.words.value;
	const detail = model.shownDetail.value;
	const current = detail !== null && detail.generation >= model.due.value;
	const read = outcomeFromGrid(model, asked);
	// With something held the kernel's own run tells both numbers.
	const full = detail !== null && (read?.old || (current && view.phrase));
	if (read !== null && !full)
		return { pieces: outcomeSentence(read, gate, words), old: read.old };
	if (detail !== null)
		return {
			pieces: outcomeSentence(detail, gate, words),
			old: !current,
		};
	const text = model.closed.value;
	return {
		pieces: text ? [{ text }] : pendingSentence(asked, words),
		old: true,
	};
}

const drawn = (pieces: readonly Piece[]) =>
	pieces.map(({ text, bold }, index) =>
		bold ? <b key={index}>{text}</b> : text,
	);

export function Sentence({
	model,
	session,
}: {
	model: ViewModel;
	session: Session;
}) {
	const { pieces, old } = content(model);
	const pinned = model.pinned.value;
	return (
		<>
			<div class="bt-said">
				<p
					class={old ? "bt-sentence bt-old" : "bt-sentence"}
					data-testid="sentence"
				>
					{drawn(pieces)}
				</p>
				{model.shownDetail.value !== null && (
					<button
						type="button"
						class="bt-chip"
						data-testid="pin"
						disabled={model.offline.value}
						title={model.words.value.explain("pin")}
						onClick={() => session.send({ type: "pin", on: true })}
					>
						Pin
					</button>
				)}
			</div>
			{pinned !== null && (
				<div class="bt-said bt-muted" data-testid="pinned">
					<p>
						{`Pinned (${pinned.damage}): `}
						{drawn(outcomeSentence(pinned, undefined, model.words.value))}
					</p>
					<button
						type="button"
						class="bt-chip"
						data-testid="unpin"
						disabled={model.offline.value}
						aria-label="let the pinned result go"
						onClick={() => session.send({ type: "pin", on: false })}
					>
						×
					</button>
				</div>
			)}
			<span class="bt-hidden" role="status" aria-live="polite">
				{old ? "" : toText(pieces)}
			</span>
		</>
	);
}
