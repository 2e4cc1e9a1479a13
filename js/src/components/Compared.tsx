// What the grid in view is compared with: how the two differ, whether the difference is shown, and a button to drop the
// kept one. Empty until a grid is kept (under More).

import type { Model } from "../model";
import type { Session } from "../session";
import { Asking } from "./Asking";

export function Compared({
	model,
	session,
}: {
	model: Model;
	session: Session;
}) {
	const compared = model.compared.value;
	const { text, undefined: why, agreement } = model.gridDifference.value ?? {};
	const apart = model.difference.value || !agreement;
	if (compared === null) return null;
	return (
		<div class="bt-compared bt-muted" data-testid="compared">
			<p aria-live="polite">
				{apart && (text ?? `Kept to compare with: ${compared.kept}`)}
				{apart && why && ` · ${why}`}
				{apart && agreement && " · "}
				<span data-testid="agreement">{agreement}</span>
			</p>
			<button
				type="button"
				class="bt-chip"
				data-testid="difference"
				aria-pressed={model.difference.value}
				title={model.words.value.explain("difference")}
				onClick={() => model.set("difference", !model.difference.peek())}
			>
				difference
			</button>
			<Asking closed={model.offline.value ? model.closed.value : ""}>
				<button
					type="button"
					class="bt-chip"
					data-testid="let-go"
					aria-label="let the kept grid go"
					onClick={() => session.send({ type: "compare", on: false })}
				>
					×
				</button>
			</Asking>
		</div>
	);
}
