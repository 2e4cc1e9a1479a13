// The head of the figure: block, site, what the colour shows; undo, redo and export.

import type { Signal } from "@preact/signals-core";
import type { Exports, Format } from "../exports";
import type { Theme } from "../palette";
import type { Session } from "../session";
import type { Show } from "../traits";
import type { ViewModel } from "../viewModel";
import { SHOWN } from "../words";
import { Asking } from "./Asking";
import { Blocks } from "./Blocks";
import { IconButton } from "./IconButton";
import { Select } from "./Select";

interface Props {
	model: ViewModel;
	session: Session;
	exports: Exports;
	theme: Theme;
	more: Signal<boolean>;
}

/** What can be exported now. */
function exportsOf(model: ViewModel): Format[] {
	const formats: Format[] = ["png", "svg", "csv", "json", "picture"];
	if (model.corruption.value === "ImageSwap") formats.push("other");
	formats.push("python");
	if (model.selected.value.length > 0) formats.push("cells");
	return formats;
}

export function Header({ model, session, exports, theme, more }: Props) {
	const setup = model.setup.value;
	const words = model.words.value;
	// A recording has a kernel that can export it.
	const offline = model.offline.value ? model.closed.value : "";
	const step = (type: "undo" | "redo", sign: string) => (
		<IconButton
			label={type}
			sign={sign}
			possible={model.steps.value[type]}
			onClick={() => session.send({ type })}
		/>
	);
	return (
		<div class="bt-header">
			<span class="bt-title">Causal trace</span>
			<Blocks
				blocks={setup?.blocks ?? []}
				value={model.block.value}
				words={words}
				onChoose={(name) => model.set("block", name)}
			/>
			<span class="bt-field bt-tip" data-tip={words.explain("site")}>
				<span class="bt-label">site</span>
				<Select
					label="site"
					value={model.site.value}
					options={model.blockInfo.value?.sites ?? []}
					name={words.label}
					explain={words.explain("site")}
					onChoose={(site) => model.set("site", site)}
				/>
			</span>
			<span class="bt-field bt-tip" data-tip={words.explain("show")}>
				<span class="bt-label">score</span>
				<Select
					label="score"
					testid="show"
					value={model.show.value}
					options={SHOWN}
					name={words.label}
					explain={words.explain("show")}
					onChoose={(show) => model.set("show", show as Show)}
				/>
			</span>
			<span class="bt-actions">
				<Asking closed={offline}>
					{step("undo", "↶")}
					{step("redo", "↷")}
				</Asking>
				<button
					type="button"
					class="bt-button"
					data-testid="more"
					aria-expanded={more.value}
					onClick={() => {
						more.value = !more.value;
					}}
				>
					More
				</button>
				<Asking closed={offline}>
					<Select
						label="export"
						value=""
						options={exportsOf(model)}
						name={(format) =>
							format === ""
								? exports.notice.value || "Export"
								: words.label(`export_${format}`)
						}
						onChoose={(format) => exports.ask(format as Format, theme)}
					/>
				</Asking>
			</span>
		</div>
	);
}
