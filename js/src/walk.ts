// The walk back along paths: from the answer to what reaches it directly, from that to what reaches that, and so on. Pure
// functions; a walk is the receivers now, and those that were walked back from. A receiver was a cell of a grid once,
// whose block, site and head are its own: so a step back needs no more than the receiver.

import type { ViewOf } from "./cells";
import { statesOf } from "./holds";
import { columnOf } from "./patches";
import type { StateInfo, WalkRequest } from "./protocol";
import type { CellIndex } from "./traits";

export type Receivers = string | StateInfo[];
export type Walk = Omit<WalkRequest, "type" | "id">;
type Size = readonly [rows: number, columns: number];

export const ANSWER = "answer";

/** What is walked: the receivers that were left behind, and those now. */
interface Walked {
	readonly receivers: Receivers | null;
	readonly path: readonly Receivers[];
}

/** All receivers in the order in which they were walked back to. */
export function walkedBy({ receivers, path }: Walked): Receivers[] {
	return receivers === null ? [] : [...path, receivers];
}

/** Paths into the answer, which the decoder's states reach directly. */
export function intoAnswer(): Walk {
	return {
		block: "answer_decoder",
		site: "block_output",
		head: null,
		receivers: ANSWER,
		path: [],
		cells: [],
	};
}

/** Paths into cells of the grid in view; what an attention to another block receives, that block sends. */
export function intoCells(
	view: ViewOf,
	now: Walked,
	cells: readonly CellIndex[],
	size: Size,
): Walk {
	const { block, site, head } = view;
	const crosses =
		head === null
			? site === "cross_attention_out"
			: site.startsWith("cross_attention");
	const looks = block === "answer_decoder" && crosses;
	return {
		block: looks ? "question_encoder" : block,
		site: "block_output",
		head: null,
		receivers: cells.flatMap((cell) => statesOf(view, cell, size)),
		path: walkedBy(now),
		cells: [],
	};
}

/** Back to the `count` first receivers of a walk, in the grid in which the one after them was chosen. */
export function backTo(
	view: ViewOf,
	now: Walked,
	count: number,
	size: Size,
): Walk {
	const all = walkedBy(now);
	const left = all[count];
	const states = typeof left === "string" || left === undefined ? [] : left;
	const { block, site, head } = states[0] ?? view;
	const patch = block === view.block ? view.patch : 1;
	// How many image tokens a column will stand for there, only the kernel knows.
	const known = block === view.block || block !== "image_encoder";
	const cells = (known ? states : []).map(
		({ layer, position }): [number, number] => [
			layer,
			patch > 1 && position > 0
				? columnOf(
						[Math.floor((position - 1) / size[1]), (position - 1) % size[1]],
						patch,
						size,
					)
				: position,
		],
	);
	return {
		block,
		site,
		head,
		receivers: all[count - 1] ?? null,
		path: all.slice(0, Math.max(count - 1, 0)),
		cells: [...new Map(cells.map((cell) => [`${cell}`, cell])).values()],
	};
}

/** Whether patches of the picture can reach receivers: states of the question encoder. */
export function lookedAt(receivers: Receivers | null): boolean {
	return (
		receivers !== null &&
		typeof receivers !== "string" &&
		receivers.every(({ block }) => block === "question_encoder")
	);
}

/** Whether nothing but the picture is before some receivers: they are in the first layer, or look at it. */
export function atPicture(receivers: Receivers | null): boolean {
	return (
		lookedAt(receivers) &&
		(receivers as StateInfo[]).every(
			({ layer, site }) => layer === 0 || site.startsWith("cross_attention"),
		)
	);
}
