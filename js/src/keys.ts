// Which keys and clicks the figure keeps from the notebook, whose own shortcuts listen further out. Those it has no use
// for, such as Ctrl+S or the context menu, are passed on.

/** Keys that edit text while Ctrl or Cmd is held; notebooks would undo or paste cells. */
const EDITING = /^([acvxyzZ]|Arrow.*|Backspace|Delete|Home|End)$/;

/** Keys that select, move and copy in the grid while Ctrl or Cmd is held. */
const MOVING = /^([c ]|Enter|Arrow.*|Home|End)$/;

export function isHeld(event: KeyboardEvent): boolean {
	return event.ctrlKey || event.metaKey || event.altKey;
}

function isOwn(event: KeyboardEvent): boolean {
	const { target, key } = event;
	// A letter that does nothing here would add or delete a cell of the notebook.
	if (!isHeld(event)) return !/^F\d/.test(key);
	if (target instanceof HTMLInputElement) return EDITING.test(key);
	if (event.altKey || event.shiftKey || !(target instanceof Element))
		return false;
	return target.closest("[role=grid]") !== null && MOVING.test(key);
}

function keepKey(event: KeyboardEvent): void {
	if (isOwn(event) || event.defaultPrevented) event.stopPropagation();
}

/**
 * For hosts that handle a key before it arrives here, as Notebook 7 does: an attribute on the focused element, which their
 * shortcuts check, marks the key as the figure's.
 */
export function claimKeys(el: HTMLElement): () => void {
	const claim = (event: KeyboardEvent) => {
		const { target } = event;
		if (target instanceof Element && el.contains(target))
			target.toggleAttribute("data-lm-suppress-shortcuts", isOwn(event));
	};
	window.addEventListener("keydown", claim, true);
	return () => window.removeEventListener("keydown", claim, true);
}

/** Notebooks select cells with the main button; the others lead to their menu. */
function keepClick(event: MouseEvent): void {
	if (!event.button) event.stopPropagation();
}

/** For the root element of a view. */
export const OWN = {
	onKeyDown: keepKey,
	onMouseDown: keepClick,
	onDblClick: keepClick,
};
