// The picture that is asked about, with the overlays and controls on it.

import type { ComponentChildren } from "preact";
import { type Shade, shadeAt, type Theme } from "../palette";
import { placesIn, valueText } from "../patches";
import type { Session } from "../session";
import type { CellIndex } from "../traits";
import type { ViewModel } from "../viewModel";
import { Overlay } from "./Overlay";
import { Patches } from "./Patches";
import { Picture } from "./Picture";
import { Select } from "./Select";

interface Props {
	model: ViewModel;
	session: Session;
	theme: Theme;
	foot: ComponentChildren;
	onPicture: (file: File | null) => void;
}

export function Pane({ model, session, theme, foot, onPicture }: Props) {
	const shape = model.setup.value?.patches ?? null;
	const { label, explain } = model.words.value;
	const palette = model.look.value?.palettes[theme];
	const end = (at: number): Shade => shadeAt(palette, "diverging", at);
	const map = model.shownMap.value;
	const marked = model.marked.value;
	const region = placesIn(model.region.value);
	const damaged =
		model.corruption.value !== "QuestionSwap" &&
		model.at.value !== "question_embeddings" &&
		!model.closed.value;
	const chip = (to: "marked" | "others" | "all", text: string) => (
		<button
			type="button"
			class="bt-chip"
			data-testid={`damage-${to}`}
			title={explain("region")}
			onClick={() => session.send({ type: "set_region", to })}
		>
			{text}
		</button>
	);
	const describe = (place: CellIndex) =>
		[`patch ${place}`, valueText(map, place)].filter(Boolean).join(": ");
	const all = shape === null ? 0 : shape[0] * shape[1];
	const some = marked.length > 0 && marked.length < all;

	return (
		<div class="bt-pane">
			<Picture
				bytes={model.picture.value}
				what="What is asked about"
				explain={explain("choose")}
				testid="choose-picture"
				grey={map === null ? 0 : model.opacity.value}
				onPicture={onPicture}
				foot={foot}
			>
				{shape !== null && (
					<Patches
						shape={shape}
						marked={marked}
						region={region}
						map={map}
						colors={[end(0)[0], end(1)[0], end(0.5)[0]]}
						opacity={model.opacity.value}
						old={map !== null && map.generation < model.due.value}
						describe={describe}
						onMark={session.mark}
						onPoint={(place) => {
							if (`${place}` !== `${model.pointedPatch.value}`)
								model.pointedPatch.value = place;
						}}
					/>
				)}
			</Picture>
			<Select
				label="overlay"
				wide
				value={model.overlay.value}
				options={model.setup.value?.choices["overlay"] ?? []}
				name={label}
				explain={explain("overlay")}
				onChoose={(overlay) => model.set("overlay", overlay)}
			/>
			<Overlay model={model} session={session} ends={[end(0), end(1)]} />
			{damaged && (
				<div class="bt-line bt-muted bt-damaged">
					{some || region.length > 0 ? "Damage:" : explain("patches")}
					{some && chip("marked", "only here")}
					{some && chip("others", "only elsewhere")}
					{region.length > 0 && chip("all", "everywhere")}
				</div>
			)}
		</div>
	);
}
