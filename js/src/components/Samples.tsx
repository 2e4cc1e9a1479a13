// The list of samples: what is listed, a page of it, and what the figure shows of it.

import { OWN } from "../keys";
import { AVERAGE, type List } from "../list";
import type { Model } from "../model";
import type { Theme } from "../palette";
import { Asking } from "./Asking";
import { IconButton } from "./IconButton";
import { Page } from "./Page";
import { Search } from "./Search";
import { Select } from "./Select";

interface Props {
	model: Model;
	theme: Theme;
	list: List;
}

/** Rows of a page until the kernel states how many, so that nothing moves when it does. */
const EXPECTED = 8;

export function Samples({ model, theme, list }: Props) {
	const listing = list.listing.value;
	const { rows = [], groups = [], orders = [] } = listing ?? {};
	const { first: start = 0, size = EXPECTED, found = 0 } = listing ?? {};
	const first = list.first.value;
	const chosen = list.chosen.value;
	// The list needs only a kernel, never a model.
	const closed = model.offline.value ? model.closed.value : "";

	const after = first + size < found;
	function turn(back: boolean): boolean {
		const possible = closed === "" && (back ? first > 0 : after);
		if (possible)
			list.set("first", back ? Math.max(0, first - size) : first + size);
		return possible;
	}
	const turner = (back: boolean, label: string, sign: string) => (
		<IconButton
			label={label}
			sign={sign}
			possible={back ? first > 0 : after}
			onClick={() => turn(back)}
		/>
	);

	return (
		<section
			class="blip-trace bt-samples"
			aria-label="samples"
			data-testid="samples"
			data-theme={theme}
			{...OWN}
		>
			<p data-testid="summary">{listing?.title ?? "…"}</p>
			<p class="bt-interval" role="status" data-testid="interval">
				{list.interval.value}
			</p>
			<Asking closed={closed}>
				<div class="bt-finding">
					<div class="bt-averaged">
						{groups.length > 0 && (
							<Select
								label="group"
								wide
								value={list.group.value}
								options={["", ...groups]}
								name={(group) => group || "all groups"}
								onChoose={(group) => list.set("group", group)}
							/>
						)}
						<button
							type="button"
							class="bt-button"
							data-testid="average"
							aria-pressed={chosen === AVERAGE}
							onClick={() => {
								if (chosen !== AVERAGE) list.set("chosen", AVERAGE);
							}}
						>
							average
						</button>
					</div>
					<Search
						label="find"
						testid="find"
						placeholder="find in the texts"
						value={list.find.value}
						onFind={(find) => list.set("find", find)}
					/>
					<Select
						label="order"
						wide
						value={list.order.value}
						options={orders}
						name={(order) => order}
						onChoose={(order) => list.set("order", order)}
					/>
				</div>
				<Page
					rows={rows}
					size={size}
					empty={listing === null ? "" : "No sample is like that."}
					chosen={chosen}
					closed={closed}
					onChoose={(number) => list.set("chosen", number)}
					onTurn={turn}
				/>
				<div class="bt-turning">
					<span class="bt-muted" data-testid="range" aria-live="polite">
						{rows.length > 0 &&
							`${start + 1}–${start + rows.length} of ${found}`}
					</span>
					{turner(true, "previous page", "‹")}
					{turner(false, "next page", "›")}
				</div>
			</Asking>
		</section>
	);
}
