// What is held while others are patched: a line near the sentence, with a way to let each of it go; and the words for
// it under More.

import { useEffect, useRef, useState } from "preact/hooks";
import {
	EVERYWHERE,
	type Held as Group,
	groupsOf,
	statesIn,
	WORDS,
	without,
	withWord,
	wordsIn,
} from "../holds";
import type { Model } from "../model";
import { siteName, tokenName } from "../sentence";
import type { Session } from "../session";

/** States that are named one by one. */
const NAMED = 4;

interface Props {
	model: Model;
	session: Session;
}

const infoOf = (model: Model, block: string) =>
	model.setup.value?.blocks.find(({ name }) => name === block);

/** "layer 2 at “color”", "layer 2, all tokens", "“color”, all layers". */
export function groupName(model: Model, { states, all }: Group): string {
	const [state] = states;
	if (state === undefined) return "";
	const { block, layer, position, site, head } = state;
	const { label } = model.words.value;
	const token = tokenName(infoOf(model, block)?.tokens ?? [], position);
	const part =
		site === "block_output" ? "" : ` (${siteName(site, head, label)})`;
	const here =
		all === "layers"
			? `${token}${part}, all layers`
			: `layer ${layer}${part}${all ? ", all tokens" : ` at ${token}`}`;
	const elsewhere = block !== model.block.value;
	return elsewhere ? `${label(block).toLowerCase()} ${here}` : here;
}

export function Held({ model, session }: Props) {
	const hold = model.hold.value;
	const { label } = model.words.value;
	const groups = groupsOf(hold, (name) => {
		const info = infoOf(model, name);
		return [info?.layers ?? 0, info?.tokens.length ?? 0];
	});
	const words = wordsIn(hold);
	const some = hold.length > 0;
	const noisy =
		model.corruption.value === "GaussianNoise" ? "noisy" : "damaged";
	const kept = model.direction.value === "disrupt" ? "clean" : noisy;
	const where = words.includes(EVERYWHERE) ? "" : " there";
	const items = [
		...words
			.filter((word) => word !== EVERYWHERE)
			.map((word) => ({
				name: `${label(`hold ${word}`)}${where}`,
				rest: withWord(hold, word),
			})),
		...groups.slice(0, NAMED).map((group) => ({
			name: groupName(model, group),
			rest: without(hold, group.states),
		})),
	];
	// Whoever does not see the locks hears what was locked, and that nothing is any more.
	const before = useRef(some);
	const [heard, setHeard] = useState("");
	const names = items.map(({ name }) => name).join(", ");
	// A state may be of a row and of a column.
	const named = groups.slice(0, NAMED).flatMap(({ states }) => states);
	const more = statesIn(without(hold, named)).length;
	const text = some
		? `held ${kept}: ${names}${more > 0 ? ` and ${more} more` : ""}`
		: "nothing is held";
	useEffect(() => {
		if (some || before.current) setHeard(text);
		before.current = some;
	}, [text, some]);
	return (
		<>
			<span class="bt-hidden" role="status">
				{heard}
			</span>
			{some && model.receivers.value === null && (
				<div class="bt-held bt-line" data-testid="held">
					<span class="bt-muted">{`Held ${kept}:`}</span>
					{items.map(({ name, rest }) => (
						<button
							key={name}
							type="button"
							class="bt-chip"
							aria-label={`let go: ${name}`}
							onClick={() => session.hold(rest)}
						>
							{name} ×
						</button>
					))}
					{more > 0 && <span class="bt-muted">{`and ${more} more`}</span>}
					<button
						type="button"
						class="bt-chip"
						data-testid="unlock-all"
						onClick={() => session.hold([])}
					>
						Unlock all
					</button>
				</div>
			)}
		</>
	);
}

export function HoldWords({ model, session }: Props) {
	const hold = model.hold.value;
	const { label } = model.words.value;
	const on = new Set(wordsIn(hold));
	const sites = model.blockInfo.value?.sites ?? [];
	const chosen = WORDS.filter((word) => sites.includes(word));
	return (
		<span class="bt-words" data-testid="hold">
			{[...chosen, EVERYWHERE].map((word) => (
				<button
					key={word}
					type="button"
					class="bt-chip"
					data-testid={`hold-${word}`}
					aria-pressed={on.has(word)}
					aria-disabled={word === EVERYWHERE && on.size === 0}
					onClick={() => session.hold(withWord(hold, word))}
				>
					{label(`hold ${word}`)}
				</button>
			))}
		</span>
	);
}
