// What the figure keeps of the keys and clicks that happen in it: notebooks have shortcuts of their own, which listen
// further out. What it has no use for, such as Ctrl+S or the context menu, is theirs.

/** What edits a text while Ctrl or Cmd is held; notebooks would undo or paste cells. */
const EDITING = /^([acvxyzZ]|Arrow.*|Backspace|Delete|Home|End)$/;

export function isHeld(event: KeyboardEvent): boolean {
	return event.ctrlKey || event.metaKey || event.altKey;
}

function keepKey(event: KeyboardEvent): void {
	const { target, key } = event;
	// A letter that does nothing here would add or delete a cell of the notebook.
	const plain = !isHeld(event) && !/^F\d/.test(key);
	const edits = target instanceof HTMLInputElement && EDITING.test(key);
	if (plain || edits || event.defaultPrevented) event.stopPropagation();
}

/** Notebooks select cells with the main button; the others lead to their menu. */
function keepClick(event: MouseEvent): void {
	if (!event.button) event.stopPropagation();
}

/** For the root of what is drawn. */
export const OWN = {
	onKeyDown: keepKey,
	onMouseDown: keepClick,
	onDblClick: keepClick,
};
