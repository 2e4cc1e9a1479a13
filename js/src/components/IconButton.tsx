// An icon button: while disabled it keeps the focus and is announced as disabled.

interface Props {
	label: string;
	sign: string;
	/** Undefined means disabled. */
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
