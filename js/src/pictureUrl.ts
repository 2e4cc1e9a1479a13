// An object URL for a picture's bytes, revoked when they are no longer shown.

import { useLayoutEffect, useState } from "preact/hooks";
import { toBytes } from "./binary";

/** Null if there are no bytes. */
export function usePictureUrl(bytes: unknown): string | null {
	const [url, setUrl] = useState<string | null>(null);
	// Before anything is painted, so that no text appears beside another's picture even for a moment.
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
