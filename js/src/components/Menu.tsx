// A button that opens a list of things to do.

import { useEffect, useRef, useState } from "preact/hooks";

export interface Item<T extends string> {
	readonly value: T;
	readonly label: string;
	/** Why it cannot be done now; "" where it can. */
	readonly closed?: string;
}

interface Props<T extends string> {
	label: string;
	testid: string;
	items: readonly Item<T>[];
	onChoose: (value: T) => void;
}

export function Menu<T extends string>(props: Props<T>) {
	const [open, setOpen] = useState(false);
	const root = useRef<HTMLSpanElement>(null);
	const entries = () => [
		...(root.current?.querySelectorAll<HTMLElement>("[role=menuitem]") ?? []),
	];

	useEffect(() => {
		if (open) entries()[0]?.focus();
	}, [open]);

	function close(): void {
		setOpen(false);
		root.current?.querySelector("button")?.focus();
	}

	function keyDown(event: KeyboardEvent): void {
		if (event.key === "Escape" && open) close();
		const all = entries();
		const at = all.indexOf(event.target as HTMLElement);
		const to = {
			ArrowDown: at + 1,
			ArrowUp: at < 0 ? -1 : at - 1,
			Home: 0,
			End: -1,
		}[event.key];
		if (to === undefined) return;
		event.preventDefault();
		if (open) all.at(to % all.length)?.focus();
		else setOpen(true);
	}

	return (
		<span
			class="bt-menu"
			ref={root}
			onKeyDown={keyDown}
			onFocusOut={(event) => {
				if (!root.current?.contains(event.relatedTarget as Node))
					setOpen(false);
			}}
		>
			<button
				type="button"
				class="bt-button"
				data-testid={props.testid}
				aria-haspopup="menu"
				aria-expanded={open}
				onClick={() => setOpen(!open)}
			>
				{props.label}
			</button>
			{open && (
				<div role="menu" aria-label={props.label}>
					{props.items.map(({ value, label, closed = "" }) => (
						<button
							key={value}
							type="button"
							role="menuitem"
							data-testid={`${props.testid}-${value}`}
							tabIndex={-1}
							aria-disabled={closed !== ""}
							title={closed}
							onClick={() => {
								if (closed !== "") return;
								close();
								props.onChoose(value);
							}}
						>
							{label}
						</button>
					))}
				</div>
			)}
		</span>
	);
}
