// The whole figure: connects the state to the components, which do not know where it comes from.

import { signal } from "@preact/signals-core";
import { useState } from "preact/hooks";
import { OWN } from "../keys";
import { fileIn, readPicture } from "../picture";
import type { Shown } from "../view";
import { Asked } from "./Asked";
import { Header } from "./Header";
import { More } from "./More";
import { Traced } from "./Traced";

export function App(shown: Shown) {
	const { model, session, theme } = shown;
	const props = { ...shown, theme: theme.value };
	const [more] = useState(() => signal(false));

	async function choosePicture(
		file: File | null,
		type: "image" | "other_image" = "image",
	): Promise<void> {
		const closed = model.closed.value;
		if (file === null || closed)
			return model.set("error", closed || model.words.value.explain("dropped"));
		try {
			session.send({ type }, await readPicture(file));
		} catch (error) {
			const reason = error instanceof Error ? error.message : String(error);
			model.set("error", `“${file.name}” cannot be used: ${reason}.`);
		}
	}

	function paste(event: ClipboardEvent): void {
		const file = fileIn(event.clipboardData);
		// Pasted text belongs in a text field.
		if (file === null && event.target instanceof HTMLInputElement) return;
		event.preventDefault();
		event.stopPropagation();
		choosePicture(file);
	}

	const foreign = model.foreignVersion.value;
	return (
		<div
			class="blip-trace"
			data-testid="blip-trace"
			data-theme={props.theme}
			{...OWN}
			onPaste={paste}
		>
			{foreign === null ? (
				<>
					<Header {...props} more={more} />
					{more.value && <More model={model} session={session} />}
					<div class="bt-body">
						<Asked
							{...props}
							onPicture={choosePicture}
							onOtherPicture={(file) => choosePicture(file, "other_image")}
							onExample={(index) => model.set("example", index)}
						/>
						<Traced {...props} />
					</div>
				</>
			) : (
				<p class="bt-notice" role="alert">
					Kernel and page come from different versions of blip_trace_widget:
					restart both.
				</p>
			)}
		</div>
	);
}
