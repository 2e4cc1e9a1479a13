// The picture in a square box, undistorted; a new one can be dropped here or chosen.

import type { ComponentChildren } from "preact";
import { useRef, useState } from "preact/hooks";
import { fileIn } from "../picture";
import { usePictureUrl } from "../pictureUrl";

interface Props {
	bytes: unknown;
	/** What it is, in words. */
	what: string;
	testid: string;
	explain: string;
	/** How far it is desaturated, from 0 to 1. */
	grey?: number;
	/** What is drawn over it, and what below it. */
	children?: ComponentChildren;
	foot?: ComponentChildren;
	/** Null if what was dropped is not a file. */
	onPicture: (file: File | null) => void;
}

export function Picture(props: Props) {
	const { bytes, what, testid, grey = 0, onPicture } = props;
	const url = usePictureUrl(bytes);
	const [over, setOver] = useState(false);
	const [ratio, setRatio] = useState(1);
	const input = useRef<HTMLInputElement>(null);

	function drop(event: DragEvent): void {
		event.preventDefault();
		event.stopPropagation();
		setOver(false);
		onPicture(fileIn(event.dataTransfer));
	}

	return (
		<div class="bt-shown">
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
				{url !== null && (
					<div
						class="bt-frame"
						style={{
							width: `${100 * Math.min(1, ratio)}%`,
							height: `${100 * Math.min(1, 1 / ratio)}%`,
						}}
					>
						<img
							src={url}
							alt={what}
							draggable={false}
							style={grey > 0 ? { filter: `grayscale(${grey})` } : {}}
							onLoad={({ currentTarget: { naturalWidth, naturalHeight } }) =>
								setRatio(naturalWidth / naturalHeight || 1)
							}
						/>
						{props.children}
					</div>
				)}
			</div>
			<div class="bt-foot">
				{props.foot}
				<button
					type="button"
					class="bt-button"
					data-testid={testid}
					aria-label="Choose picture…"
					title={props.explain}
					onClick={() => input.current?.click()}
				>
					Choose…
				</button>
			</div>
			<input
				ref={input}
				type="file"
				accept="image/*"
				hidden
				onChange={(event) => {
					const file = event.currentTarget.files?.[0];
					if (file !== undefined) onPicture(file);
					// So that choosing the same file again fires a change event too.
					event.currentTarget.value = "";
				}}
			/>
		</div>
	);
}
