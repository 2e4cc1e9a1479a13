// The head of the figure: which block, which site, what the colour shows.

import type { Signal } from "@preact/signals";
import { EXPLAIN, SHOWN, showLabel, siteLabel } from "../labels";
import type { Model } from "../model";
import type { Show } from "../traits";
import { Blocks } from "./Blocks";
import { Select } from "./Select";

interface Props {
	model: Model;
	more: Signal<boolean>;
}

export function Header({ model, more }: Props) {
	const setup = model.setup.value;
	return (
		<div class="bt-header">
			<span class="bt-title">Causal trace</span>
			<Blocks
				blocks={setup?.blocks ?? []}
				value={model.block.value}
				onChoose={(name) => model.set("block", name)}
			/>
			<span class="bt-field bt-tip" data-tip={EXPLAIN.site}>
				<span class="bt-label">site</span>
				<Select
					label="site"
					testid="site"
					value={model.site.value}
					options={setup?.sites ?? []}
					name={siteLabel}
					explain={EXPLAIN.site}
					onChoose={(site) => model.set("site", site)}
				/>
			</span>
			<span class="bt-field bt-tip" data-tip={EXPLAIN.show}>
				<span class="bt-label">score</span>
				<Select
					label="score"
					testid="show"
					value={model.show.value}
					options={Object.keys(SHOWN)}
					name={showLabel}
					explain={EXPLAIN.show}
					onChoose={(show) => model.set("show", show as Show)}
				/>
			</span>
			<button
				type="button"
				class="bt-button bt-more"
				data-testid="more"
				aria-expanded={more.value}
				onClick={() => {
					more.value = !more.value;
				}}
			>
				More
			</button>
		</div>
	);
}
