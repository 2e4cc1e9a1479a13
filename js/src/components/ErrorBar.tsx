// The error message: lies over the grid's caption, so that nothing below it moves.

interface Props {
	text: string;
	onDismiss: () => void;
}

export function ErrorBar({ text, onDismiss }: Props) {
	if (text === "") return null;
	return (
		<div class="bt-error" role="alert" data-testid="error">
			<span>{text}</span>
			<button
				type="button"
				data-testid="dismiss-error"
				aria-label="dismiss the error"
				onClick={onDismiss}
			>
				×
			</button>
		</div>
	);
}
