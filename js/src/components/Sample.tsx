// One row of the list: the picture, the question, the answers, and the effect of the damage; or why it was skipped.

import { answerText } from "../format";
import { isHeld } from "../keys";
import { usePictureUrl } from "../pictureUrl";
import type { ListedSample } from "../protocol";

interface Props {
	sample: ListedSample;
	/** Whether the figure shows it. */
	chosen: boolean;
	/** Why no sample can be chosen, else "". */
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
	const answersText = answers.map((answer) => answer.join(" ")).join(" · ");
	return (
		<div
			class={note === "" ? "bt-sample" : "bt-sample bt-skipped"}
			role="option"
			data-testid="sample"
			data-number={number}
			aria-selected={chosen}
			aria-disabled={closed !== "" || note !== ""}
			tabIndex={stop ? 0 : -1}
			// What does not fit in the row is shown here.
			title={[question, answersText, effect, note, closed]
				.filter(Boolean)
				.join("\n")}
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
							<span class="bt-label">{who}</span> {answerText(answer)}
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
