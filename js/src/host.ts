// What the front end needs of the host: the part of anywidget's model that it uses.

export type ChangeListener = () => void;
export type MessageListener = (content: unknown, buffers: unknown) => void;

export interface HostModel {
	get(name: string): unknown;
	set(name: string, value: unknown): void;
	save_changes(): void;
	on(event: string, listener: ChangeListener | MessageListener): void;
	off(event: string, listener: ChangeListener | MessageListener): void;
	send(
		content: unknown,
		callbacks?: unknown,
		buffers?: ArrayBuffer[] | ArrayBufferView[],
	): void;
}

export interface InitializeProps {
	model: HostModel;
}

export interface RenderProps extends InitializeProps {
	el: HTMLElement;
}
