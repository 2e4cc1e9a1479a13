// Controls that need a kernel and a model: without one they are disabled, and say why.

import type { ComponentChildren } from "preact";

interface Props {
	/** Why nothing can be asked, else "". */
	closed: string;
	children: ComponentChildren;
}

export function Asking({ closed, children }: Props) {
	return (
		<fieldset class="bt-asking" disabled={closed !== ""} title={closed}>
			{children}
		</fieldset>
	);
}
