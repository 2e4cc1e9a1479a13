// The picture in a square box, never distorted; another one can be dropped here or chosen.

import { useEffect, useRef, useState } from "preact/hooks";
import { toBytes } from "../binary";
import { mediaType, pictureIn } from "../picture";

interface Props {
	bytes: unknown;
	/** What it is, in words. */
	what: string;
	testid: string;
	onPicture: (file: File) => void;
}

export function Picture({ bytes, what, testid, onPicture }: Props) {
	const [url, setUrl] = useState<string | null>(null);
	const [over, setOver] = useState(false);
	const input = useRef<HTMLInputElement>(null);

	useEffect(() => {
		const data = toBytes(bytes);
		if (data === null || data.byteLength === 0) {
			setUrl(null);
			return undefined;
		}
		const made = URL.createObjectURL(
			new Blob([data], { type: mediaType(data) }),
		);
		setUrl(made);
		return () => URL.revokeObjectURL(made);
	}, [bytes]);

	function drop(event: DragEvent): void {
		event.preventDefault();
		event.stopPropagation();
		setOver(false);
		// Any file is handed on, so that a wrong one is answered with a reason.
		const file =
			pictureIn(event.dataTransfer) ?? event.dataTransfer?.files[0] ?? null;
		if (file !== null) onPicture(file);
	}

	return (
		<div
			class="bt-picture"
			data-over={over}
			onDragOver={(event) => {
				event.preventDefault();
				event.stopPropagation();
				setOver(true);
			}}
			onDragLeave={() => setOver(false)}
			onDrop={drop}
		>
			{url !== null && <img src={url} alt={what} draggable={false} />}
			<button
				type="button"
				class="bt-button"
				data-testid={testid}
				onClick={() => input.current?.click()}
			>
				Choose picture…
			</button>
			<input
				ref={input}
				type="file"
				accept="image/*"
				hidden
				onChange={(event) => {
					const file = event.currentTarget.files?.[0];
					if (file !== undefined) onPicture(file);
					// So that choosing the same file again is a change too.
					event.currentTarget.value = "";
				}}
			/>
		</div>
	);
}
