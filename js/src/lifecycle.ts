// The life of a widget as hosts run it: the module's function is called once per model; its result is initialized and
// disposed of with the model, and rendered for each view. The model objects of these calls may differ (anywidget and
// marimo hand out proxies), so the state that views share is kept here.

import type { HostModel, InitializeProps, RenderProps } from "./host";

/**
 * @param begin creates the state that a model's views share; without `initialize`, the first view creates it.
 * @param draw draws a view, and returns a function that removes it.
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
