// What leaves the page: files to the disk, texts to the clipboard, a drawing as a picture.

export function download(name: string, blob: Blob): void {
	const url = URL.createObjectURL(blob);
	const link = document.createElement("a");
	link.href = url;
	link.download = name;
	link.click();
	// The browser has read it by then.
	setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** Pages not served over https have no clipboard API, but may still copy a selection. */
export async function copy(text: string, page: HTMLElement): Promise<void> {
	if (navigator.clipboard) return navigator.clipboard.writeText(text);
	const field = document.createElement("textarea");
	field.value = text;
	field.className = "bt-hidden";
	page.append(field);
	field.select();
	const done = document.execCommand("copy");
	field.remove();
	if (!done) throw new Error("this page may not use the clipboard");
}

/** An SVG drawing as PNG, at twice its size. */
export async function rasterize(svg: Blob): Promise<Blob> {
	const url = URL.createObjectURL(svg);
	try {
		const image = new Image();
		image.src = url;
		await image.decode();
		const canvas = document.createElement("canvas");
		canvas.width = 2 * image.naturalWidth;
		canvas.height = 2 * image.naturalHeight;
		canvas
			.getContext("2d")
			?.drawImage(image, 0, 0, canvas.width, canvas.height);
		return await new Promise((resolve, reject) => {
			canvas.toBlob((blob) => {
				if (blob === null) reject(new Error("the browser could not draw it"));
				else resolve(blob);
			}, "image/png");
		});
	} finally {
		URL.revokeObjectURL(url);
	}
}
