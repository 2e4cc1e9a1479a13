// The same words in the clean, the corrupted and the patched run, side by side.

import { percent } from "../format";
import type { Bars as Columns } from "../protocol";

interface Props {
	runs: Columns | null;
	/** With a patched column, where something is selected. */
	detail: Columns | null;
	/** What to do for a patched column. */
	hint: string;
	/** Computed for earlier settings. */
	old: boolean;
}

const HEADS = [
	["clean", "clean"],
	["corrupted", "with noise"],
	["patched", "patched"],
] as const;

/** Empty rows while nothing is known, so that little moves when it is. */
const AWAITED = ["", "", "", ""];

export function Bars({ runs, detail, hint, old }: Props) {
	const bars = detail ?? runs;
	const words = bars?.words ?? AWAITED;
	return (
		<table class={old ? "bt-bars bt-old" : "bt-bars"} data-testid="bars">
			<caption class="bt-hidden">
				Probabilities of the first word of the answer
			</caption>
			<thead>
				<tr>
					<td />
					{HEADS.map(([name, label]) => (
						<th key={name} scope="col">
							{label}
							{name === "patched" && hint}
						</th>
					))}
				</tr>
			</thead>
			<tbody>
				{words.map((word, row) => (
					<tr key={row}>
						<th scope="row" title={word}>
							{word}
						</th>
						{HEADS.map(([name]) => {
							const share = bars?.[name][row] ?? null;
							return (
								<td key={name}>
									<span class={`bt-bar bt-${name}`}>
										<span style={{ width: `${100 * (share ?? 0)}%` }} />
									</span>
									<span class="bt-value">
										{share === null ? "" : percent(share)}
									</span>
								</td>
							);
						})}
					</tr>
				))}
			</tbody>
		</table>
	);
}
