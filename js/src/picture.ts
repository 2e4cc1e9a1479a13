// From a chosen, dropped or pasted file to the bytes that are sent to the kernel.

/** Messages to the kernel pass through a websocket that rejects 10 MB. */
const MOST_BYTES = 8 * 2 ** 20;
const SHRUNK_SIDE = 2048;

/** The picture among the dropped or pasted files, else any file: the kernel answers a wrong one with a reason. */
export function fileIn(data: DataTransfer | null): File | null {
	const files = [...(data?.files ?? [])];
	return (
		files.find(({ type }) => type.startsWith("image/")) ?? files[0] ?? null
	);
}

async function shrink(file: File): Promise<ArrayBuffer> {
	const bitmap = await createImageBitmap(file);
	const factor = SHRUNK_SIDE / Math.max(bitmap.width, bitmap.height);
	const canvas = document.createElement("canvas");
	canvas.width = Math.round(bitmap.width * Math.min(1, factor));
	canvas.height = Math.round(bitmap.height * Math.min(1, factor));
	canvas.getContext("2d")?.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
	bitmap.close();
	const blob = await new Promise<Blob | null>((resolve) => {
		canvas.toBlob(resolve, "image/jpeg", 0.95);
	});
	if (blob === null) throw new Error("the browser could not shrink it");
	return blob.arrayBuffer();
}

/** The bytes of a picture; a very large one is made smaller first. */
export function readPicture(file: File): Promise<ArrayBuffer> {
	return file.size > MOST_BYTES ? shrink(file) : file.arrayBuffer();
}
