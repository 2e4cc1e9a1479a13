// "Find a set…": a small form, and what a search has found: its recovery against its size, the numbers in words, and
// the members of a set that is not cells of one grid.

import { useState } from "preact/hooks";
import type { Model } from "../model";
import type { FindRequest } from "../protocol";
import type { Session } from "../session";
import { Asking } from "./Asking";
import { NumberField } from "./NumberField";
import { Select } from "./Select";

type Asked = Omit<FindRequest, "type" | "id">;

export function Find({ model, session }: { model: Model; session: Session }) {
	const [open, setOpen] = useState(false);
	const [asked, setAsked] = useState<Asked>({
		percent: 90,
		among: "states",
		direction: "restore",
	});
	const { explain, label } = model.words.value;
	const choices = model.setup.value?.choices ?? {};
	const found = model.found.value;
	const closed = model.closed.value;
	const choose = (name: "direction" | "among", of = name as string) => (
		<Select
			label={`${of} a set`}
			testid={`find-${name}`}
			value={asked[name]}
			options={choices[of] ?? []}
			name={label}
			onChoose={(value) => setAsked({ ...asked, [name]: value })}
		/>
	);
	const [before, after] = found?.text.split("#") ?? [];
	return (
		<div class="bt-find">
			<span class="bt-field">
				<button
					type="button"
					class="bt-button"
					data-testid="find-form"
					aria-expanded={open}
					title={explain("find")}
					onClick={() => setOpen(!open)}
				>
					Find a set…
				</button>
				{open && (
					<>
						{choose("direction", "find")}
						<NumberField
							label="percent of the effect"
							testid="percent"
							value={asked.percent}
							min={1}
							max={100}
							step={5}
							decimals={0}
							onCommit={(percent) => setAsked({ ...asked, percent })}
						/>
						<span class="bt-label">% among</span>
						{choose("among")}
						<Asking closed={closed}>
							<button
								type="button"
								class="bt-button"
								data-testid="find"
								onClick={() => session.find(asked)}
							>
								Find
							</button>
						</Asking>
					</>
				)}
			</span>
			{found && (
				<div data-old={found.generation < model.due.value}>
					<Way found={found} />
					<p aria-live="polite" data-testid="found">
						{before}
						<b>{found.bold}</b>
						{after}
					</p>
					<div class="bt-members">
						{found.members.map((name, index) => (
							<button
								type="button"
								key={name}
								class="bt-chip"
								title={explain("member")}
								aria-disabled={closed !== ""}
								onClick={() =>
									closed || session.send({ type: "member", index })
								}
							>
								{name}
							</button>
						))}
					</div>
				</div>
			)}
		</div>
	);
}

/** Recovery against size, from 0 to 1, with the target. */
function Way({ found }: { found: NonNullable<Model["found"]["value"]> }) {
	const { sizes, curve, target } = found;
	const most = Math.max(...sizes, 1);
	const y = (share: number) => 40 * (1 - Math.min(1, Math.max(0, share)));
	const points = sizes.map(
		(size, at) => `${(100 * size) / most},${y(curve[at] ?? 0)}`,
	);
	return (
		<svg
			viewBox="-2 -2 104 44"
			role="img"
			aria-label={`recovery of the sets of up to ${most}`}
		>
			<line x1="0" x2="100" y1={y(target)} y2={y(target)} />
			<polyline points={points.join(" ")} />
		</svg>
	);
}
