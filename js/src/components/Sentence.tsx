// What the selected states say, in one sentence; also announced to screen readers when it changes.

import type { Model } from "../model";
import {
	type Outcome,
	outcomeOf,
	outcomeSentence,
	type Piece,
	pendingSentence,
	toText,
} from "../sentence";

/** One cell that the grid already knows says the same as a patch of it would. */
function outcomeFromGrid(model: Model): (Outcome & { old: boolean }) | null {
	const [cell, ...rest] = model.selected.value;
	const view = model.view.value;
	if (cell === undefined || rest.length > 0 || view === null) return null;
	const [layer, position] = cell;
	const known = view.rows[position]?.[layer];
	if (known === undefined || Number.isNaN(known.values.score)) return null;
	const { indirectEffect, stderr, recovery, recoveryStderr } = known.values;
	const orNull = (value: number) => (Number.isNaN(value) ? null : value);
	return {
		cells: [cell],
		direction: model.direction.value,
		window: model.window.value,
		site: view.site,
		indirectEffect: orNull(indirectEffect),
		stderr: orNull(stderr),
		recovery: orNull(recovery),
		recoveryStderr: orNull(recoveryStderr),
		old: known.state === "old",
	};
}

function content(model: Model): { pieces: Piece[]; old: boolean } {
	const view = model.view.value;
	const cells = model.selected.value;
	const restoring = model.direction.value === "restore";
	if (view === null || cells.length === 0) {
		const text = restoring
			? "Click a cell to restore that hidden state and see how much of the answer comes back."
			: "Click a cell to damage that hidden state and see how much of the answer is lost.";
		return { pieces: [{ text }], old: true };
	}
	const runs = model.runs.value;
	const detail = model.shownDetail.value;
	const current =
		detail !== null && detail.generation >= model.generation.value;
	const read = current ? null : outcomeFromGrid(model);
	if (read !== null && !(read.old && detail !== null))
		return { pieces: outcomeSentence(read, view, runs), old: read.old };
	if (detail !== null)
		return {
			pieces: outcomeSentence(outcomeOf(detail), view, runs),
			old: !current,
		};
	const { direction, window } = model;
	return {
		pieces: pendingSentence(cells, direction.value, window.value, view),
		old: true,
	};
}

export function Sentence({ model }: { model: Model }) {
	const { pieces, old } = content(model);
	return (
		<>
			<p
				class={old ? "bt-sentence bt-old" : "bt-sentence"}
				data-testid="sentence"
			>
				{pieces.map(({ text, bold }, index) =>
					bold ? <b key={index}>{text}</b> : text,
				)}
			</p>
			<span class="bt-hidden" role="status" aria-live="polite">
				{old ? "" : toText(pieces)}
			</span>
		</>
	);
}
