// @vitest-environment happy-dom
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { copy } from "../src/files";
import { open, settle, type, type View } from "./view";

let view: View;
const list = () => view.get<HTMLSelectElement>("export");
/** What the list says while it is closed. */
const label = () => list().selectedOptions[0]?.textContent;
const offered = () =>
	[...view.el.querySelectorAll("[data-testid=export] option")].map((option) =>
		option.getAttribute("value"),
	);
const last = () => view.host.sent.at(-1);
const choose = (format: string) => type(list(), format, "change");
/** The kernel hands over a file for the last request, or for another one. */
const deliver = async (
	format: string,
	name: string,
	text = "made",
	more: object = {},
) => {
	view.host.message(
		{
			type: "exported",
			id: last()?.["id"],
			generation: 3,
			format,
			name,
			media: "text/plain",
			...more,
		},
		[new DataView(new TextEncoder().encode(text).buffer)],
	);
	await settle();
};
/** The files that were saved: their name and what is in them. */
function watchDownloads() {
	const blobs = new Map<string, Blob>();
	vi.spyOn(URL, "createObjectURL").mockImplementation((blob) => {
		const url = `blob:${blobs.size}`;
		blobs.set(url, blob as Blob);
		return url;
	});
	const saved: { name: string; blob: Blob | undefined }[] = [];
	vi.spyOn(HTMLAnchorElement.prototype, "click").mockImplementation(function (
		this: HTMLAnchorElement,
	) {
		saved.push({ name: this.download, blob: blobs.get(this.href) });
	});
	return saved;
}

beforeEach(async () => {
	view = await open();
});
afterEach(() => {
	vi.useRealTimers();
	view.dispose();
	view.el.remove();
});

describe("a choice", () => {
	it.each(["svg", "csv", "json", "picture", "python"])(
		"asks the kernel for %s in the page's theme",
		async (format) => {
			await choose(format);
			expect(last()).toMatchObject({ type: "export", format, theme: "light" });
			expect(list().value).toBe("");
			expect(label()).toBe("Export");
		},
	);

	it("of a PNG asks for the drawing", async () => {
		await choose("png");
		expect(last()).toMatchObject({ type: "export", format: "svg" });
	});

	it("of the cells' values needs a selection", async () => {
		expect(offered()).not.toContain("cells");
		view.host.put("selection", [[1, 1]]);
		await settle();
		await choose("cells");
		expect(last()).toMatchObject({ type: "export", format: "cells" });
	});

	it("of the other picture is there where there is one", async () => {
		expect(offered()).not.toContain("other");
		view.host.put("corruption", "ImageSwap");
		await settle();
		await choose("other");
		expect(last()).toMatchObject({ type: "export", format: "other" });
	});

	it("finds no kernel in a saved notebook, and says so", async () => {
		view.host.connected = false;
		await choose("csv");
		expect(view.el.textContent).toContain("no answer from the kernel");
	});
});

describe("a file", () => {
	it("is saved, once, by the view that asked", async () => {
		const saved = watchDownloads();
		await choose("csv");
		await deliver("csv", "blip-trace.csv", "a,b\n", { id: 1 });
		expect(saved).toEqual([]);
		await deliver("csv", "blip-trace.csv", "a,b\n");
		await deliver("csv", "blip-trace.csv", "a,b\n");
		expect(saved).toHaveLength(1);
		expect(saved[0]?.name).toBe("blip-trace.csv");
		expect(saved[0]?.blob?.type).toBe("text/plain");
		expect(await saved[0]?.blob?.text()).toBe("a,b\n");
	});

	it("is not made room for for ever", async () => {
		watchDownloads();
		const revoke = vi.spyOn(URL, "revokeObjectURL");
		await choose("csv");
		vi.useFakeTimers();
		view.host.message(
			{
				type: "exported",
				id: last()?.["id"],
				generation: 3,
				format: "csv",
				name: "a.csv",
				media: "text/csv",
			},
			[new DataView(new ArrayBuffer(1))],
		);
		expect(revoke).not.toHaveBeenCalled();
		vi.advanceTimersByTime(20_000);
		expect(revoke).toHaveBeenCalledWith("blob:0");
	});

	it("is drawn as PNG where that was chosen, and as it is where not", async () => {
		const saved = watchDownloads();
		const decode = vi.fn(async () => {});
		Object.assign(HTMLImageElement.prototype, { decode });
		vi.spyOn(HTMLCanvasElement.prototype, "getContext").mockReturnValue(null);
		vi.spyOn(HTMLCanvasElement.prototype, "toBlob").mockImplementation(
			(done, type) => done(new Blob(["pixels"], { type: type ?? "" })),
		);
		await choose("png");
		await deliver("svg", "blip-trace.svg", "<svg/>");
		await choose("svg");
		await deliver("svg", "blip-trace.svg", "<svg/>");
		expect(decode).toHaveBeenCalledTimes(1);
		expect(saved.map(({ name }) => name)).toEqual([
			"blip-trace.png",
			"blip-trace.svg",
		]);
		expect(saved[0]?.blob?.type).toBe("image/png");
		expect(await saved[1]?.blob?.text()).toBe("<svg/>");
		Reflect.deleteProperty(HTMLImageElement.prototype, "decode");
	});

	it("that cannot be drawn is answered with a reason", async () => {
		watchDownloads();
		const decode = () => Promise.reject(new Error("too large"));
		Object.assign(HTMLImageElement.prototype, { decode });
		await choose("png");
		await deliver("svg", "blip-trace.svg", "<svg/>");
		expect(view.get("error").textContent).toContain(
			"blip-trace.svg: too large",
		);
		Reflect.deleteProperty(HTMLImageElement.prototype, "decode");
	});
});

describe("a text", () => {
	it.each(["python", "cells"])(
		"of %s is copied, and the button says so for a moment",
		async (format) => {
			const saved = watchDownloads();
			const write = vi
				.spyOn(navigator.clipboard, "writeText")
				.mockResolvedValue();
			view.host.put("selection", [[1, 1]]);
			await choose(format);
			vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
			const delivered = deliver(format, "blip_trace.py", "a = “1”\n");
			await vi.advanceTimersByTimeAsync(500);
			await delivered;
			expect(write).toHaveBeenCalledExactlyOnceWith("a = “1”\n");
			expect(label()).toBe("Copied");
			await vi.advanceTimersByTimeAsync(2000);
			expect(label()).toBe("Export");
			expect(saved).toEqual([]);
		},
	);

	it("that the page may not copy is answered with a reason", async () => {
		vi.spyOn(navigator.clipboard, "writeText").mockRejectedValue(
			new Error("not allowed"),
		);
		await choose("python");
		await deliver("python", "blip_trace.py");
		expect(view.get("error").textContent).toContain("not allowed");
		expect(label()).toBe("Export");
	});

	it("is copied by selecting it where a page has no clipboard", async () => {
		const page = document.createElement("div");
		vi.spyOn(navigator, "clipboard", "get").mockReturnValue(
			undefined as unknown as Clipboard,
		);
		const copied: string[] = [];
		let allowed = true;
		document.execCommand = () => {
			copied.push(page.querySelector("textarea")?.value ?? "");
			return allowed;
		};
		await copy("text", page);
		expect(copied).toEqual(["text"]);
		allowed = false;
		await expect(copy("text", page)).rejects.toThrow("clipboard");
		expect(page.childNodes).toHaveLength(0);
	});
});
