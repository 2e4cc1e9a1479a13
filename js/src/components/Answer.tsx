// The answer, how sure the model is of it with and without noise, and whether the noise did enough to be traced.

import { answerText, score } from "../format";
import type { Runs } from "../protocol";
import type { Words } from "../words";

interface Props {
	runs: Runs | null;
	words: Words;
	/** Computed for earlier settings. */
	old: boolean;
	/** What the kernel is doing until they are available. */
	working: string;
}

export function Answer({ runs, words, old, working }: Props) {
	const metric = runs?.metric ?? "probability";
	const bar = (name: "clean" | "corrupted", label: string) => (
		<div class="bt-run" title={words.explain(name)}>
			<span>{label}</span>
			<span class={`bt-bar bt-${name}`}>
				<span
					style={{
						width: `${100 * (runs?.[name].share ?? 0)}%`,
					}}
				/>
			</span>
			<span class="bt-value" data-testid={`${name}-score`}>
				{runs ? score(metric, runs[name].score) : ""}
			</span>
		</div>
	);
	const noisy = runs?.corrupted.answer;
	const noun = (runs?.cause ?? "noise") === "noise" ? "noisy" : "damaged";
	return (
		<div class={old ? "bt-answers bt-old" : "bt-answers"}>
			{bar("clean", "clean")}
			{bar("corrupted", noun)}
			<p class="bt-answer">
				<b data-testid="answer">{runs ? answerText(runs.clean.answer) : ""}</b>
				{runs?.given && " (given)"}
				{runs === null ? (
					<span class="bt-muted">{working}</span>
				) : (
					<span class="bt-muted">
						{" · "}
						<span data-testid="gate">{runs.gate.text}</span>
						{noisy !== runs.clean.answer && !runs.given && (
							<span>
								{` · ${noun} answer `}
								<b data-testid="noisy-answer">{answerText(noisy, "“", "”")}</b>
							</span>
						)}
					</span>
				)}
			</p>
		</div>
	);
}
