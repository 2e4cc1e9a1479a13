// Small maps of a data set beside each other on one scale: its heads, of which one can be chosen; or the same grid of
// every group, of which one can be chosen, or subtracted from the others. Nothing is computed until it is asked for.

import { percent, points } from "../format";
import { OWN } from "../keys";
import type { List } from "../list";
import type { Model } from "../model";
import type { Theme } from "../palette";
import type { Panel } from "../protocol";
import { roundUp, type Scale } from "../scale";
import type { CellIndex } from "../traits";
import { Asking } from "./Asking";
import { Legend } from "./Legend";
import { Select } from "./Select";
import { SmallMap, valuesOf } from "./SmallMap";

interface Props {
	model: Model;
	theme: Theme;
	list: List;
}

/** The kernel's name for the map in which heads are chosen. */
const HEADS = "heads";
/** Small values must not look like large ones. */
const LEAST = 0.1;

/** One scale for all of them. */
function scaleOf(panels: readonly Panel[], falling: boolean): Scale {
	const largest = panels
		.flatMap((panel) => [...(valuesOf(panel)?.values ?? [])])
		.filter(Number.isFinite)
		.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
	const limit = Math.max(roundUp(largest), LEAST) * (falling ? -1 : 1);
	return { left: -limit, right: limit, diverging: true };
}

export function Maps({ model, theme, list }: Props) {
	const mapped = list.mapped.value;
	if (mapped === null || mapped.choices.length === 0) return null;
	const { choices, groups, panels, across, difference, told, note } = mapped;
	const maps = list.maps.value;
	const [layer, head] = list.picked.value;
	const closed = model.offline.value ? model.closed.value : "";
	const words = model.words.value;
	const runs = model.runs.value;
	const metric = runs?.metric ?? model.metric.value;
	const palette = model.look.value?.palettes[theme];
	const scale = scaleOf(panels, difference && (runs?.total_effect ?? 0) < 0);
	const say = (value: number) =>
		difference ? points(metric, value) : percent(value);
	const ends = ["low", "high"].map((end) =>
		difference
			? words.caption(end, "difference")
			: words.caption(`${end} recovery`, model.direction.value),
	);

	function choose(cell: CellIndex): void {
		if (closed !== "") return;
		const again = cell[0] === layer && cell[1] === head;
		list.set("picked", again ? [] : [...cell]);
	}
	const map = (panel: Panel, onChoose: typeof choose | null) => (
		<SmallMap
			panel={panel}
			scale={scale}
			palette={palette}
			say={say}
			closed={closed}
			across={across}
			chosen={
				onChoose === null || layer === undefined || head === undefined
					? null
					: [layer, head]
			}
			onChoose={onChoose}
		/>
	);

	return (
		<section
			class="blip-trace bt-maps"
			aria-label="small maps"
			data-testid="maps-card"
			data-theme={theme}
			{...OWN}
		>
			<Asking closed={closed}>
				<div class="bt-choosing">
					<Select
						label="maps"
						value={maps}
						options={choices}
						name={(name) => name || "no small maps"}
						onChoose={(name) => list.set("maps", name)}
					/>
					{panels.length > 0 && maps !== HEADS && (
						<Select
							label="minus"
							value={list.minus.value}
							options={["", ...groups]}
							name={(group) => (group ? `− ${group}` : "each as it is")}
							onChoose={(group) => list.set("minus", group)}
						/>
					)}
					<b data-testid="maps-title">{mapped.title}</b>
				</div>
			</Asking>
			{panels.length > 0 && (
				<>
					<div class="bt-panels">
						{panels.map((panel) =>
							maps === HEADS ? (
								<span key="" class="bt-panel" data-testid="panel">
									{map(panel, choose)}
									<span class="bt-small bt-label">{panel.text}</span>
								</span>
							) : (
								<button
									key={panel.group}
									type="button"
									class="bt-panel"
									data-testid="panel"
									aria-label={`${panel.group}: ${panel.text || "not averaged yet"}`}
									aria-pressed={panel.group === list.group.value}
									aria-disabled={closed !== ""}
									title={closed}
									onClick={() => {
										if (closed === "") list.set("group", panel.group);
									}}
								>
									{map(panel, null)}
									<b>{panel.group}</b>
									<span class="bt-small bt-label">{panel.text}</span>
								</button>
							),
						)}
					</div>
					<Legend
						scale={scale}
						unit={
							difference
								? `difference of ${words.unit("indirect_effect", metric)}`
								: words.unit("recovery", metric)
						}
						explain=""
						ends={ends}
						palette={palette}
						isUndefined={false}
						error=""
						truth={null}
						truthExplain=""
						onTruth={() => {}}
						margin=""
						doubt={words.explain("negligible")}
						limit={0}
						onLimit={null}
					/>
				</>
			)}
			<p class="bt-small" role="status" data-testid="told">
				{[told, note].filter(Boolean).join(" ")}
			</p>
		</section>
	);
}
