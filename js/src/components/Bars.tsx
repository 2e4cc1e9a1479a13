// The same words in the clean, the corrupted and the patched run, side by side.

import { fixed } from "../format";
import type { Bars as Columns } from "../protocol";

interface Props {
	runs: Columns | null;
	/** With a patched column if something is selected. */
	detail: Columns | null;
	/** How to get a patched column. */
	hint: string;
	/** What caused the loss of the answer, in a word. */
	cause: string;
	/** Computed for earlier settings. */
	old: boolean;
}

/** Empty rows while nothing is known, so that little moves when it is. */
const AWAITED = ["", "", "", ""];

export function Bars({ runs, detail, hint, cause, old }: Props) {
	const bars = detail ?? runs;
	const pinned = bars !== null && bars.pinned.length > 0;
	const heads = [
		["clean", "clean"] as const,
		["corrupted", `with ${cause}`] as const,
		...(pinned ? [["pinned", "pinned"] as const] : []),
		["patched", "patched"] as const,
	];
	const words = bars?.words ?? AWAITED;
	return (
		<table class={old ? "bt-bars bt-old" : "bt-bars"} data-testid="bars">
			<caption class="bt-hidden">
				Probabilities of the first word of the answer
			</caption>
			<thead>
				<tr>
					<td />
					{heads.map(([name, label]) => (
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
						{heads.map(([name]) => {
							const share = bars?.[name][row] ?? null;
							return (
								<td key={name}>
									<span class={`bt-bar bt-${name}`}>
										<span style={{ width: `${100 * (share ?? 0)}%` }} />
									</span>
									<span class="bt-value">
										{share === null ? "" : `${fixed(100 * share, 0)} %`}
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
