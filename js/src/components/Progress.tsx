// The button Trace all, replaced by Stop while the grid is being filled.

import type { GridView } from "../cells";
import type { Running } from "../model";

interface Props {
	running: Running | null;
	view: GridView | null;
	/** What the kernel is doing before the grid can be filled. */
	working: string | null;
	/** Why nothing can be asked, else "". */
	closed: string;
	enabled: boolean;
	onTrace: () => void;
	onStop: () => void;
}

/** How many cells have a value for the present settings, and how many there are. */
function count(view: GridView | null): [done: number, all: number] {
	const cells = view?.rows.flat() ?? [];
	return [cells.filter(({ state }) => state === "value").length, cells.length];
}

export function Progress(props: Props) {
	const { running, view, closed, onTrace, onStop } = props;
	const enabled = props.enabled && !closed;
	const [computed, all] = count(view);
	const done = running?.total ? running.done : computed;
	const total = running?.total || all;
	let text = all === 0 ? "" : `${computed} of ${all} computed`;
	if (running !== null) {
		text = `${done} of ${total}`;
		if (running.left) text += ` · ${running.left}`;
	}
	text = closed || text;
	return (
		<div class="bt-progress">
			<button
				type="button"
				class="bt-button"
				data-testid={running === null ? "trace-all" : "stop"}
				aria-disabled={!enabled}
				onClick={(event) => {
					// The second half of a double click must not undo the first.
					if (!enabled || event.detail > 1) return;
					if (running === null) onTrace();
					else onStop();
				}}
			>
				{running === null ? "Trace all" : "Stop"}
			</button>
			{running === null ? (
				<span class="bt-track bt-working" data-testid="working">
					{props.working}
				</span>
			) : (
				<span
					class="bt-track bt-running"
					role="progressbar"
					data-testid="progress"
					aria-label="filling the grid"
					aria-valuemin={0}
					aria-valuemax={total}
					aria-valuenow={done}
					aria-valuetext={text}
				>
					<span style={{ width: `${total ? (100 * done) / total : 0}%` }} />
				</span>
			)}
			<span class="bt-muted bt-value">{text}</span>
		</div>
	);
}
