// Paths: where they lead, as a line that leads back; the way to go on from what is selected; and the share of the sender
// that is pointed out, in words.

import { useEffect, useRef, useState } from "preact/hooks";
import { cellOf } from "../cells";
import { percent, points } from "../format";
import { tokenName } from "../sentence";
import type { Session } from "../session";
import type { ViewModel } from "../viewModel";
import { lookedAt, type Receivers, walkedBy } from "../walk";
import { groupName } from "./Held";

interface Props {
	model: ViewModel;
	session: Session;
}

function receiversName(model: ViewModel, receivers: Receivers): string {
	if (typeof receivers === "string") return receivers;
	const [first] = receivers;
	return first === undefined || receivers.length > 1
		? `${receivers.length} states`
		: groupName(model, { states: receivers, all: null });
}

/** The share of the selected sender, to be read beside the arrow. */
export function shareOf(model: ViewModel): string {
	const [cell] = model.selected.value;
	const view = model.view.value;
	const known = view && cell && cellOf(view, cell);
	if (!known || model.selected.value.length !== 1) return "";
	const { recovery, recovery_margin, indirect_effect, margin } = known.values;
	if (!Number.isNaN(recovery)) return percent(recovery, recovery_margin);
	if (Number.isNaN(indirect_effect)) return "";
	return points(model.runs.value?.metric ?? "", indirect_effect, margin);
}

export function Walk({ model, session }: Props) {
	const receivers = model.receivers.value;
	const path = model.path.value;
	const view = model.view.value;
	const { explain } = model.words.value;
	const cells = model.selected.value;
	const walked = walkedBy({ receivers, path });
	const names = walked.map((each) => receiversName(model, each));
	const last = names.at(-1) ?? "";
	// Whoever does not see the line hears where the paths lead now.
	const before = useRef(last);
	const [heard, setHeard] = useState("");
	useEffect(() => {
		if (last || before.current)
			setHeard(last ? `paths into ${last}` : "no paths are shown");
		before.current = last;
	}, [last]);
	const share = model.arrow.value ? shareOf(model) : "";
	const [cell] = cells;
	const sender =
		view && cell
			? `layer ${cell[0]} at ${tokenName(view.tokens, cell[1])}`
			: "";
	const chip = (
		label: string,
		testid: string,
		tip: string,
		act: () => void,
	) => (
		<button
			type="button"
			class="bt-chip"
			data-testid={testid}
			title={tip}
			onClick={act}
		>
			{label}
		</button>
	);
	return (
		<>
			<span class="bt-hidden" role="status">
				{heard}
			</span>
			<nav
				class="bt-held bt-line bt-walk"
				aria-label="paths"
				data-testid="walk"
			>
				{walked.map((_, index) => (
					<span key={index} class="bt-line">
						{index > 0 && <span aria-hidden="true">←</span>}
						{index < walked.length - 1 ? (
							<button
								type="button"
								class="bt-chip"
								data-testid="receiver"
								aria-label={`back to paths into ${names[index]}`}
								onClick={() => session.back(index + 1)}
							>
								{names[index]}
							</button>
						) : (
							<b data-testid="receiver" aria-current="step">
								{names[index]}
							</b>
						)}
					</span>
				))}
				{lookedAt(receivers) && (
					<span class="bt-line">
						<span aria-hidden="true">←</span>
						<button
							type="button"
							class="bt-chip"
							data-testid="from-picture"
							aria-pressed={model.overlay.value === "map_paths"}
							title={explain("paths picture")}
							onClick={() =>
								model.set(
									"overlay",
									model.overlay.value === "map_paths" ? "none" : "map_paths",
								)
							}
						>
							patches
						</button>
					</span>
				)}
				{receivers !== null && (
					<button
						type="button"
						class="bt-chip"
						data-testid="leave-paths"
						aria-label="show single states, no paths"
						onClick={() => session.back(0)}
					>
						×
					</button>
				)}
				{cells.length > 0 &&
					chip("Paths into this", "paths", explain("paths"), () =>
						session.walk(cells),
					)}
				{receivers === null &&
					chip(
						"Paths into the answer",
						"paths-answer",
						explain("paths answer"),
						() => session.walk([]),
					)}
			</nav>
			{share && (
				<p class="bt-muted" role="status" data-testid="share">
					{`${sender} → ${last}: ${share}`}
				</p>
			)}
		</>
	);
}
