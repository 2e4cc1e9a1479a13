// The life of a widget as hosts run it: the module's function is called once a model, what it gives is initialized with
// the model and ends with it, and is rendered for each view. The model objects of these calls may differ (anywidget and
// marimo hand out proxies), so that what the views share is kept here.

import type { HostModel, InitializeProps, RenderProps } from "./host";

/**
 * @param begin what the views of a model share; a host that does not initialize has it begun by its first view.
 * @param draw draws a view, and hands back how to take it away.
 */
export function widgetOf<Shared extends { dispose(): void }>(
	begin: (host: HostModel) => Shared,
	draw: (shared: Shared, el: HTMLElement) => () => void,
) {
	return () => {
		let shared: Shared | null = null;
		let holders = 0;
		function hold(host: HostModel): Shared {
			holders += 1;
			shared ??= begin(host);
			return shared;
		}
		function release(): void {
			holders -= 1;
			if (holders > 0) return;
			shared?.dispose();
			shared = null;
		}
		return {
			initialize({ model }: InitializeProps): () => void {
				hold(model);
				return release;
			},
			render({ model, el }: RenderProps): () => void {
				const takeAway = draw(hold(model), el);
				return () => {
					takeAway();
					release();
				};
			},
		};
	};
}
