// The right column: where in the model the answer comes back, and what the selected states say.

import { useComputed, useSignal } from "@preact/signals";
import { useCallback, useRef } from "preact/hooks";
import type { Cell } from "../cells";
import type { Theme } from "../colormap";
import { caption } from "../labels";
import type { Model } from "../model";
import { cellColor, fitScale } from "../scale";
import type { Session } from "../session";
import { Bars } from "./Bars";
import { ErrorBar } from "./ErrorBar";
import { Grid } from "./Grid";
import { Legend } from "./Legend";
import { Profile } from "./Profile";
import { Progress } from "./Progress";
import { Sentence } from "./Sentence";
import { type Pointed, Tooltip } from "./Tooltip";

interface Props {
	model: Model;
	session: Session;
	theme: Theme;
}

export function Traced({ model, session, theme }: Props) {
	const pointed = useSignal<Pointed | null>(null);
	const section = useRef<HTMLElement>(null);
	const falling = useComputed(() => (model.runs.value?.total_effect ?? 0) < 0);
	const scale = useComputed(() =>
		fitScale(model.view.value, model.show.value, falling.value),
	);
	const show = model.show.value;
	const { left, right, diverging } = scale.value;
	const color = useCallback(
		(cell: Cell) =>
			cellColor(cell.values, show, { left, right, diverging }, theme),
		[show, left, right, diverging, theme],
	);
	const view = model.view.value;
	const metric = model.runs.value?.metric ?? model.metric.value;
	const gate = model.runs.value?.gate;

	return (
		<section class="bt-traced" aria-label="trace" ref={section}>
			<div class="bt-top">
				<p class="bt-muted">{caption(show, model.direction.value)}</p>
				<ErrorBar
					text={model.error.value}
					onDismiss={() => model.set("error", "")}
				/>
			</div>
			{view === null ? (
				<div class="bt-nogrid">
					<span class="bt-late">computing…</span>
				</div>
			) : (
				<div
					class="bt-scroll"
					style={{
						"--bt-layers": view.layers,
						"--bt-token": `${tokenWidth(view.tokens)}ch`,
					}}
					onScroll={() => {
						pointed.value = null;
					}}
				>
					<Grid
						view={view}
						show={show}
						metric={metric}
						selected={model.selected.value}
						color={color}
						onSelect={session.select}
						onDraw={(cells) => {
							model.drawing.value = cells;
						}}
						onPoint={(cell, element) => {
							pointed.value =
								cell && element && section.current
									? { cell, place: placeIn(section.current, element) }
									: null;
						}}
					/>
					<Profile view={view} show={show} scale={scale.value} theme={theme} />
				</div>
			)}
			<Legend
				scale={scale.value}
				show={show}
				direction={model.direction.value}
				theme={theme}
				isUndefined={show === "recovery" && gate?.open === false}
			/>
			<Progress
				running={model.running.value}
				view={view}
				offline={model.offline.value}
				enabled={model.runs.value !== null && view !== null}
				onTrace={session.traceAll}
				onStop={session.stop}
			/>
			<div class="bt-detail">
				<Sentence model={model} />
				<Bars
					runs={model.runs.value?.bars ?? null}
					detail={model.shownDetail.value?.bars ?? null}
					hint={model.selected.value.length === 0 ? " · click a cell" : ""}
					old={
						(model.shownDetail.value ?? model.runs.value ?? { generation: 0 })
							.generation < model.generation.value
					}
				/>
			</div>
			{model.drawing.value === null && (
				<Tooltip pointed={pointed} view={view} metric={metric} />
			)}
		</section>
	);
}

/** Room for the longest token, within reason: longer ones are cut and shown whole on hover. */
function tokenWidth(tokens: readonly string[]): number {
	const longest = Math.max(...tokens.map((token) => token.length), 5);
	return Math.min(longest, 14);
}

function placeIn(frame: HTMLElement, element: HTMLElement) {
	const outer = frame.getBoundingClientRect();
	const inner = element.getBoundingClientRect();
	return {
		x: inner.left - outer.left,
		y: inner.top - outer.top,
		width: inner.width,
		height: inner.height,
		room: { width: outer.width, height: outer.height },
	};
}
