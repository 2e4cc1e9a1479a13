// A button that is a sign: it keeps the focus, and says so, when it can do nothing now.

interface Props {
	label: string;
	sign: string;
	/** Not known is no. */
	possible: boolean | undefined;
	onClick: () => void;
}

export function IconButton({ label, sign, possible, onClick }: Props) {
	return (
		<button
			type="button"
			class="bt-icon"
			data-testid={label}
			aria-label={label}
			title={label}
			aria-disabled={!possible}
			onClick={() => {
				if (possible) onClick();
			}}
		>
			{sign}
		</button>
	);
}
