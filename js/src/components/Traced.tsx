// The right column: where in the model the answer comes back, and what the selected states say.

import { batch, signal } from "@preact/signals-core";
import { useCallback, useMemo, useRef, useState } from "preact/hooks";
import type { Cell, GridView } from "../cells";
import type { Exports } from "../exports";
import { toggled } from "../holds";
import type { Theme } from "../palette";
import { cellColor, fitScale } from "../scale";
import { siteName } from "../sentence";
import type { Session } from "../session";
import type { ViewModel } from "../viewModel";
import { useVisibleRange } from "../visibleRange";
import { Arrow } from "./Arrow";
import { Bars } from "./Bars";
import { Compared } from "./Compared";
import { ErrorBar } from "./ErrorBar";
import { Find } from "./Find";
import { Flow } from "./Flow";
import { Grid } from "./Grid";
import { Held } from "./Held";
import { Legend } from "./Legend";
import { marginalsOf, Profile } from "./Profile";
import { Progress } from "./Progress";
import { Sentence } from "./Sentence";
import { type Pointed, Tooltip } from "./Tooltip";
import { shareOf, Walk } from "./Walk";

interface Props {
	model: ViewModel;
	session: Session;
	exports: Exports;
	theme: Theme;
}

export function Traced({ model, session, exports, theme }: Props) {
	const [pointed] = useState(() => signal<Pointed | null>(null));
	const section = useRef<HTMLElement>(null);
	const show = model.show.value;
	const palette = model.look.value?.palettes[theme];
	const words = model.words.value;
	const differing = model.differing.value;
	const view = differing ?? model.view.value;
	const limit = differing ? 0 : model.limit.value;
	const falling = !differing && (model.runs.value?.total_effect ?? 0) < 0;
	const of = differing ? "difference of " : "";
	const scale = useMemo(
		() => fitScale(view, show, falling, limit),
		[view, show, falling, limit],
	);
	const { left, right, diverging } = scale;
	const color = useCallback(
		(cell: Cell) =>
			cellColor(cell.values, show, { left, right, diverging }, palette),
		[show, left, right, diverging, palette],
	);
	const marginals = useMemo(
		() => marginalsOf(view, show, scale),
		[view, show, scale],
	);
	const metric = model.runs.value?.metric ?? model.metric.value;
	const gate = model.runs.value?.gate;
	const visible = useVisibleRange(
		view,
		`${model.selected.value}`,
		(first, last) => session.send({ type: "visible_range", first, last }),
	);
	const all = view?.tokens.length ?? 0;
	const receivers = model.receivers.value;
	const [sender, ...others] = model.selected.value;
	const one = others.length === 0 && sender;
	const lines = view?.axes === "layers" ? "columns" : "rows";

	return (
		<section class="bt-traced" aria-label="trace" ref={section}>
			<div class="bt-top">
				<ErrorBar
					text={model.error.value}
					onDismiss={() => model.set("error", "")}
				/>
				<p class="bt-muted">
					{differing
						? `Difference of ${words.label(show)}`
						: words.caption(show, model.direction.value)}
					{!differing && view?.into && (
						<span data-testid="into">{`, sent directly to ${view.into}`}</span>
					)}
					{!differing && view && view.site !== "block_output" && (
						<span data-testid="site-in-view">
							{` · ${siteName(view.site, view.head, words.label)}`}
						</span>
					)}
					{view && view.patch > 1 && (
						<span data-testid="squares">
							{` · ${words.explain("squares").replaceAll("#", `${view.patch}`)}`}
						</span>
					)}
					{visible.count < all && (
						<span data-testid="visible-range">
							{` · ${visible.count} of ${all} ${lines} in view${words.explain(`rows ${view?.block}`)}`}
						</span>
					)}
				</p>
				<Compared model={model} session={session} />
			</div>
			{view === null ? (
				<div class="bt-nogrid bt-muted">{model.working.value}</div>
			) : (
				<div
					class="bt-scroll"
					ref={visible.box}
					data-axes={view.axes}
					style={{
						"--bt-columns": view.rows[0]?.length ?? 0,
						"--bt-token": `${tokenWidth(view)}ch`,
					}}
					onScroll={() => {
						pointed.value = null;
						model.pointedCell.value = null;
						visible.onScroll();
					}}
				>
					<Grid
						view={view}
						show={show}
						metric={metric}
						words={words}
						selected={model.selected.value}
						color={color}
						onSelect={(cells) =>
							batch(() => {
								model.drawing.value = null;
								session.select(cells);
							})
						}
						onDraw={(cells) => {
							model.drawing.value = cells;
						}}
						marginals={marginals}
						onCopy={() => exports.ask("cells", theme)}
						onHold={(cells) => {
							const size = model.setup.value?.patches ?? [1, 1];
							session.hold(toggled(view, model.hold.value, cells, size));
						}}
						onWalk={session.walk}
						onBack={
							receivers === null
								? null
								: () => session.back(model.path.value.length)
						}
						onArrow={
							receivers === null
								? null
								: () => model.set("arrow", !model.arrow.value)
						}
						attention={model.attentionToPatch.value}
						onPoint={(cell, element) => {
							model.pointedCell.value = cell;
							pointed.value =
								cell && element && section.current
									? { cell, place: placeIn(section.current, element) }
									: null;
						}}
					/>
					{one && !differing && model.arrow.value && (
						<Arrow
							view={view}
							from={one}
							to={
								receivers === null || typeof receivers === "string"
									? []
									: receivers
											.filter(({ block }) => block === view.block)
											.map(({ layer, position }) => [layer, position])
							}
							share={shareOf(model)}
						/>
					)}
					<Profile
						view={view}
						what={of + words.label(show)}
						explain={words.explain("unit")}
						marginals={marginals}
					/>
				</div>
			)}
			<Legend
				scale={scale}
				unit={of + words.unit(show, metric)}
				explain={words.explain("limit")}
				ends={["low", "high"].map((end) =>
					differing
						? words.caption(end, "difference")
						: words.caption(`${end} ${show}`, model.direction.value),
				)}
				palette={palette}
				error={model.runs.value?.error ?? ""}
				margin={words.explain("margin")}
				doubt={words.explain("negligible")}
				limit={limit}
				onLimit={differing ? null : (limit) => model.set("limit", limit)}
				truth={model.setup.value?.circuit ? model.truth.value : null}
				truthExplain={words.explain("truth")}
				onTruth={(on) => model.set("truth", on)}
				isUndefined={
					show === "recovery" &&
					(gate?.open === false ||
						!!(differing && model.gridDifference.value?.undefined))
				}
			/>
			<Notes lines={view?.notes ?? []} />
			<Progress
				running={model.running.value}
				view={model.view.value}
				working={view && model.working.value}
				closed={model.closed.value}
				enabled={model.runs.value !== null && view !== null}
				onTrace={session.traceAll}
				onStop={session.stop}
			/>
			<Find model={model} session={session} />
			{model.flow.value && <Flow flow={model.flow.value} />}
			<div class="bt-detail">
				<Sentence model={model} session={session} />
				<Held model={model} session={session} />
				<Walk model={model} session={session} />
				<Bars
					runs={model.runs.value?.bars ?? null}
					detail={model.shownDetail.value?.bars ?? null}
					cause={model.runs.value?.cause ?? "noise"}
					hint={
						model.selected.value.length + model.patches.value.length === 0
							? " · click a cell"
							: ""
					}
					old={
						(model.shownDetail.value ?? model.runs.value ?? { generation: 0 })
							.generation < model.due.value
					}
				/>
			</div>
			{model.drawing.value === null && (
				<Tooltip pointed={pointed} view={view} metric={metric} words={words} />
			)}
		</section>
	);
}

/** Notes on all cells. */
function Notes({ lines }: { lines: readonly string[] }) {
	return (
		<div class="bt-notes bt-muted" aria-live="polite" data-testid="notes">
			{lines.map((line) => (
				<p key={line}>{line}</p>
			))}
		</div>
	);
}

/** Width for the longest token, up to a maximum: longer ones are cut off and shown in full on hover. */
function tokenWidth({ axes, tokens }: GridView): number {
	if (axes === "layers") return 5;
	const longest = Math.max(...tokens.map((token) => token.length), 5);
	return Math.min(longest, 14);
}

/** In the frame's own pixels, which differ from the screen's on a scaled page such as a slide. */
function placeIn(frame: HTMLElement, element: HTMLElement) {
	const outer = frame.getBoundingClientRect();
	const inner = element.getBoundingClientRect();
	const scale = outer.width / frame.offsetWidth || 1;
	return {
		x: (inner.left - outer.left) / scale,
		y: (inner.top - outer.top) / scale,
		width: inner.width / scale,
		height: inner.height / scale,
		room: { width: outer.width / scale, height: outer.height / scale },
	};
}
