// Bytes from the kernel: a DataView that may start anywhere in its buffer, so it is copied before it is read as floats.

/** A copy of the bytes in whatever kind of buffer the host passes; null if it is not a buffer. */
export function toBytes(value: unknown): Uint8Array<ArrayBuffer> | null {
	if (value instanceof ArrayBuffer) return new Uint8Array(value.slice(0));
	if (!ArrayBuffer.isView(value)) return null;
	const { buffer, byteOffset, byteLength } = value;
	return new Uint8Array(buffer, byteOffset, byteLength).slice();
}

/** The same as float32; null if the length is not a multiple of four. */
export function toFloats(value: unknown): Float32Array | null {
	const bytes = toBytes(value);
	if (bytes === null || bytes.byteLength % 4 !== 0) return null;
	return new Float32Array(bytes.buffer);
}
