// The advanced settings, in three groups. One line, always present, explains the setting under the pointer or with the
// focus.

import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import type { Model } from "../model";
import { MAX_SAMPLES } from "../protocol";
import type { Session } from "../session";
import type { Inputs } from "../traits";
import { Asking } from "./Asking";
import { HoldWords } from "./Held";
import { NumberField } from "./NumberField";
import { Select } from "./Select";
import { Strength } from "./Strength";
import { TextField } from "./TextField";
import { WordChips } from "./WordChips";

/** The names of the traits whose values are of a kind. */
type Of<T> = {
	[K in keyof Inputs]: Inputs[K] extends T ? K : never;
}[keyof Inputs];

export function More({ model, session }: { model: Model; session: Session }) {
	const [explained, setExplained] = useState<string | null>(null);
	const setup = model.setup.value;
	const closed = model.closed.value !== "";
	const block = model.blockInfo.value;
	const { explain, label: called } = model.words.value;
	const noisy = model.corruption.value === "GaussianNoise";
	const places = setup?.places[model.corruption.value] ?? [];

	const field = (name: string, label: string, control: ComponentChildren) => (
		<span
			class="bt-field"
			onPointerEnter={() => setExplained(name)}
			onPointerLeave={() => setExplained(null)}
			onFocusIn={() => setExplained(name)}
			onFocusOut={() => setExplained(null)}
		>
			{label && <span class="bt-label">{label}</span>}
			{control}
		</span>
	);
	const choice = (
		name: Of<string>,
		label: string = name,
		options = setup?.choices[name] ?? [],
	) =>
		field(
			name,
			label,
			<Select
				label={label}
				testid={name}
				value={model[name].value}
				options={options}
				name={called}
				explain={explain(name)}
				onChoose={(option) => model.set(name, option as never)}
			/>,
		);
	const count = (
		name: Of<number>,
		min: number,
		max?: number,
		label: string = name,
	) =>
		field(
			name,
			label,
			<NumberField
				label={label}
				testid={name}
				value={model[name].value}
				min={min}
				{...(max === undefined ? {} : { max })}
				step={1}
				decimals={0}
				explain={explain(name)}
				onCommit={(value) => model.set(name, value as never)}
			/>,
		);
	const ALL = "all";
	const CHOOSE = "another damage…";
	const others = setup?.choices["also"] ?? [];
	const models = setup?.models ?? [];
	const heads = setup?.head_sites.includes(model.site.value) ? block?.heads : 0;

	return (
		<div class="bt-settings">
			{models.length > 0 && (
				<fieldset aria-label="what answers">
					{field(
						"model",
						"model",
						<Asking closed={model.closed.value}>
							<Select
								label="model"
								value={setup?.model ?? ""}
								options={models}
								name={called}
								explain={explain("model")}
								onChoose={(name) => session.send({ type: "model", name })}
							/>
						</Asking>,
					)}
				</fieldset>
			)}
			<fieldset aria-label="what is patched">
				{choice("direction")}
				{count("window", 1, block?.layers)}
				{block?.name === "image_encoder" &&
					count("patch", 1, Math.max(...(setup?.patches ?? [1])), "square")}
				{field(
					"head",
					"head",
					<Select
						label="head"
						value={String(model.head.value ?? ALL)}
						options={[
							ALL,
							...Array.from({ length: heads ?? 0 }, (_, h) => `${h}`),
						]}
						name={called}
						explain={explain("head")}
						onChoose={(head) =>
							model.set("head", head === ALL ? null : Number(head))
						}
					/>,
				)}
				{choice("axes", "rows")}
				{field("hold", "hold", <HoldWords model={model} session={session} />)}
				{field(
					"compare",
					"",
					<Asking closed={model.offline.value ? model.closed.value : ""}>
						<button
							type="button"
							class="bt-button"
							data-testid="compare"
							aria-description={explain("compare")}
							onClick={() => session.send({ type: "compare", on: true })}
						>
							Compare with this grid
						</button>
					</Asking>,
				)}
				{others.length > 0 &&
					field(
						"also",
						"also under",
						<Asking closed={model.closed.value}>
							<Select
								label="also under"
								testid="also"
								value={CHOOSE}
								options={others}
								name={called}
								explain={explain("also")}
								onChoose={(under) => {
									if (under !== CHOOSE)
										session.send({ type: "also_under", under });
								}}
							/>
						</Asking>,
					)}
				{field(
					"flow",
					"",
					<button
						type="button"
						class="bt-button"
						data-testid="flow-button"
						aria-disabled={closed}
						aria-description={explain("flow")}
						onClick={() => closed || session.flow()}
					>
						Flow
					</button>,
				)}
				{field(
					"verify",
					"",
					<button
						type="button"
						class="bt-button"
						data-testid="verify"
						aria-disabled={closed}
						aria-description={explain("verify")}
						onClick={() => closed || session.verify()}
					>
						Check these numbers
					</button>,
				)}
			</fieldset>
			<fieldset aria-label="how it is scored" disabled={closed}>
				{choice("metric")}
				{field(
					"foil",
					"foil",
					<TextField
						label="foil"
						value={model.foil.value}
						error={model.error.value}
						placeholder="another answer"
						explain={explain("foil")}
						onCommit={(foil) => model.set("foil", foil)}
					/>,
				)}
			</fieldset>
			<fieldset aria-label="what is damaged" disabled={closed}>
				{choice("corruption", "damage")}
				{noisy && choice("kind")}
				{places.length > 0 && choice("at", "at", places)}
				{noisy && count("samples", 1, MAX_SAMPLES)}
				{noisy && count("seed", 0)}
				{noisy &&
					model.at.value === "question_embeddings" &&
					field(
						"positions",
						"words",
						<WordChips
							words={setup?.words ?? []}
							chosen={model.positions.value}
							onChoose={(positions) => model.set("positions", positions)}
						/>,
					)}
			</fieldset>
			<fieldset aria-label="what is ablated" disabled={closed}>
				{field("ablation", "strength", <Strength model={model} />)}
			</fieldset>
			<p class="bt-explain" aria-hidden="true">
				{explain(explained ?? "more")}
			</p>
		</div>
	);
}
