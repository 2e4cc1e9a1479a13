// The settings that a first look does not need. Each says what it means while it is pointed at or has the focus, in one
// line that is always there.

import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { DIRECTIONS, EXPLAIN, kindLabel, metricLabel } from "../labels";
import type { Model } from "../model";
import type { Direction } from "../traits";
import { NumberField } from "./NumberField";
import { Select } from "./Select";

type Name = "metric" | "direction" | "window" | "kind" | "samples" | "seed";

export function More({ model }: { model: Model }) {
	const [explained, setExplained] = useState<Name | null>(null);
	const setup = model.setup.value;

	const field = (name: Name, label: string, control: ComponentChildren) => (
		<span
			class="bt-field"
			onPointerEnter={() => setExplained(name)}
			onPointerLeave={() => setExplained(null)}
			onFocusIn={() => setExplained(name)}
			onFocusOut={() => setExplained(null)}
		>
			<span class="bt-label">{label}</span>
			{control}
		</span>
	);
	const choice = (
		name: "metric" | "kind",
		label: string,
		options: readonly string[],
		said: (option: string) => string,
	) =>
		field(
			name,
			label,
			<Select
				label={label}
				testid={name}
				value={model[name].value}
				options={options}
				name={said}
				explain={EXPLAIN[name]}
				onChoose={(option) => model.set(name, option)}
			/>,
		);
	const count = (
		name: "window" | "samples" | "seed",
		min: number,
		max?: number,
	) =>
		field(
			name,
			name,
			<NumberField
				label={name}
				testid={name}
				value={model[name].value}
				min={min}
				{...(max === undefined ? {} : { max })}
				step={1}
				decimals={0}
				explain={EXPLAIN[name]}
				onCommit={(value) => model.set(name, value)}
			/>,
		);

	return (
		<fieldset class="bt-settings" aria-label="more settings">
			{choice("metric", "metric", setup?.metrics ?? [], metricLabel)}
			{field(
				"direction",
				"direction",
				<Select
					label="direction"
					testid="direction"
					value={model.direction.value}
					options={Object.keys(DIRECTIONS)}
					name={(name) => DIRECTIONS[name] ?? name}
					explain={EXPLAIN.direction}
					onChoose={(name) => model.set("direction", name as Direction)}
				/>,
			)}
			{count("window", 1, model.blockInfo.value?.layers)}
			{choice("kind", "noise", setup?.kinds ?? [], kindLabel)}
			{count("samples", 1, 200)}
			{count("seed", 0)}
			<p class="bt-explain" aria-hidden="true">
				{explained === null
					? "Point at a setting to read what it means."
					: EXPLAIN[explained]}
			</p>
		</fieldset>
	);
}
