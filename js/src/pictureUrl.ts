// An address for a picture's bytes while they are shown, taken back when they are not.

import { useLayoutEffect, useState } from "preact/hooks";
import { toBytes } from "./binary";

/** Null where there are no bytes. */
export function usePictureUrl(bytes: unknown): string | null {
	const [url, setUrl] = useState<string | null>(null);
	// Before anything is painted: no text stands beside the picture of another for a moment.
	useLayoutEffect(() => {
		const data = toBytes(bytes);
		if (data === null || data.byteLength === 0) {
			setUrl(null);
			return undefined;
		}
		const made = URL.createObjectURL(new Blob([data], { type: "image/jpeg" }));
		setUrl(made);
		return () => URL.revokeObjectURL(made);
	}, [bytes]);
	return url;
}
