// One row of the list: the picture, what was asked, what was answered, and what the damage did; or why it was skipped.

import { said } from "../format";
import { isHeld } from "../keys";
import { usePictureUrl } from "../pictureUrl";
import type { ListedSample } from "../protocol";

interface Props {
	sample: ListedSample;
	/** Whether the figure shows it. */
	chosen: boolean;
	/** Why none can be chosen, else "". */
	closed: string;
	/** Whether Tab leads here. */
	stop: boolean;
	onFocus: () => void;
	onChoose: () => void;
}

export function Sample(props: Props) {
	const { picture, question, answers, effect, note, number } = props.sample;
	const { chosen, closed, stop, onFocus, onChoose } = props;
	const url = usePictureUrl(picture);
	const told = answers.map((answer) => answer.join(" ")).join(" · ");
	return (
		<div
			class={note === "" ? "bt-sample" : "bt-sample bt-skipped"}
			role="option"
			data-testid="sample"
			data-number={number}
			aria-selected={chosen}
			aria-disabled={closed !== "" || note !== ""}
			tabIndex={stop ? 0 : -1}
			// What has no room in the row stands here.
			title={[question, told, effect, note, closed].filter(Boolean).join("\n")}
			onFocus={onFocus}
			onClick={onChoose}
			onKeyDown={(event) => {
				if (event.key !== "Enter" && event.key !== " ") return;
				if (isHeld(event)) return;
				event.preventDefault();
				onChoose();
			}}
		>
			<span class="bt-thumbnail">
				{url !== null && <img src={url} alt="" draggable={false} />}
			</span>
			<span class="bt-told">
				<span class="bt-asks">{question}</span>
				<span class="bt-small">
					{answers.map(([who, answer], place) => (
						<>
							{place > 0 && " · "}
							<span class="bt-label">{who}</span> {said(answer)}
						</>
					))}
				</span>
				<span class="bt-small bt-effect bt-label">
					{[note, effect].filter(Boolean).join(" · ")}
				</span>
			</span>
		</div>
	);
}
