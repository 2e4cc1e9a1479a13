import { afterEach, describe, expect, it, vi } from "vitest";
import { createHost, DETAIL, fullTraits, LOOK, RUNS, SETUP } from "./host";
import { key, open, settle, type, type View } from "./view";

const views: View[] = [];

async function show(...args: Parameters<typeof open>): Promise<View> {
	const view = await open(...args);
	views.push(view);
	return view;
}

afterEach(() => {
	for (const view of views.splice(0)) {
		view.dispose();
		view.el.remove();
	}
});

describe("a view", () => {
	it("says hello first, once all its listeners are in place", async () => {
		const { host } = await show();
		const hello = host.log.indexOf("send hello");
		expect(host.log.filter((line) => line.startsWith("send"))).toEqual([
			"send hello",
		]);
		expect(host.log.slice(hello + 1)).toEqual([]);
		expect(host.log).toContain("on msg:custom");
		expect(host.sent[0]).toMatchObject({ type: "hello", version: 3 });
		expect(host.saves).toBe(0);
	});

	it("shows question, answer, scores and gate", async () => {
		const { get } = await show();
		expect(get<HTMLInputElement>("question").value).toBe("what color ?");
		expect(get("answer").textContent).toBe("red");
		expect(get("gate").textContent).toBe(RUNS.gate.text);
		expect(get("clean-score").textContent).toBe("93 %");
		expect(get("corrupted-score").textContent).toBe("12 %");
		expect(get("noisy-answer").textContent).toBe("“blue”");
		expect(get("bars").textContent).toContain("click a cell");
	});

	it("says what else took the answer away", async () => {
		const { el, get } = await show({
			runs: { ...RUNS, culprit: "other picture" },
		});
		expect(get("noisy-answer").textContent).toBe("“blue”");
		expect(el.querySelector(".bt-answers")?.textContent).not.toContain("noisy");
		expect(get("bars").textContent).toContain("with other picture");
	});

	it("shows text as text, whatever is in it", async () => {
		const markup = "<img src=x onerror=alert(1)>";
		const clean = { ...RUNS.clean, answer: markup };
		const { get, el } = await show({
			runs: { ...RUNS, clean },
			error: markup,
			pinned: { ...DETAIL, damage: markup },
			look: { ...LOOK, labels: { block_output: markup } },
		});
		expect(get("pinned").textContent).toContain(markup);
		expect(get("site").textContent).toContain(markup);
		expect(get("answer").textContent).toBe(markup);
		expect(get("error").textContent).toContain(markup);
		expect(el.querySelector("img[src=x]")).toBeNull();
	});

	it.each([{}, null, undefined, "", []])(
		"draws with every trait %j",
		async (empty) => {
			const names = Object.keys(fullTraits());
			const host = createHost(Object.fromEntries(names.map((n) => [n, empty])));
			const { find, get } = await show({}, host);
			expect(get("blip-trace").textContent).toContain("computing…");
			expect(find("error")).toBeNull();
			for (const [name, value] of Object.entries(fullTraits()))
				host.put(name, value);
			await settle();
			expect(get("answer").textContent).toBe("red");
			expect(get("blip-trace").textContent).not.toContain("computing…");
		},
	);

	it("takes away all that it put up", async () => {
		const disconnect = vi.spyOn(MutationObserver.prototype, "disconnect");
		const revoke = vi.spyOn(URL, "revokeObjectURL");
		const create = vi.spyOn(URL, "createObjectURL");
		const { host, el, dispose } = await open();
		expect(host.listeners()).toBeGreaterThan(10);
		dispose();
		await settle();
		expect(host.listeners()).toBe(0);
		expect(el.childNodes).toHaveLength(0);
		expect(disconnect).toHaveBeenCalled();
		expect(create).toHaveBeenCalledTimes(1);
		expect(revoke).toHaveBeenCalledWith(create.mock.results[0]?.value);
		host.put("noise", 1);
		host.message({ type: "done", id: 1, generation: 3, stopped: false });
		el.remove();
	});

	it("shares its model with another view, each with its own place", async () => {
		const first = await show();
		const second = await show({}, first.host);
		await type(first.get<HTMLInputElement>("question"), "is it red?");
		await key(first.get("question"), "Enter");
		expect(second.get<HTMLInputElement>("question").value).toBe("is it red?");
		first.dispose();
		first.host.put("error", "too long");
		await settle();
		expect(second.get("error").textContent).toContain("too long");
		expect(first.find("error")).toBeNull();
	});

	it("says so where kernel and page come from different versions", async () => {
		const { get, find } = await show({ setup: { ...SETUP, version: 4 } });
		expect(get("blip-trace").textContent).toContain("different versions");
		expect(find("question")).toBeNull();
	});

	it("keeps keys and clicks from the notebook", async () => {
		const { el, get } = await show();
		const notebook = vi.fn();
		for (const name of ["keydown", "mousedown", "dblclick", "contextmenu"]) {
			el.addEventListener(name, notebook);
			get("question").dispatchEvent(new Event(name, { bubbles: true }));
		}
		expect(notebook).not.toHaveBeenCalled();
		expect(get("blip-trace").dataset["lmSuppressShortcuts"]).toBe("true");
	});

	it("follows the theme of the page", async () => {
		document.body.setAttribute("data-jp-theme-light", "false");
		const { get } = await show();
		expect(get("blip-trace").dataset["theme"]).toBe("dark");
		document.body.setAttribute("data-jp-theme-light", "true");
		await settle();
		expect(get("blip-trace").dataset["theme"]).toBe("light");
		document.body.removeAttribute("data-jp-theme-light");
		document.body.className = "vscode-dark";
		await settle();
		expect(get("blip-trace").dataset["theme"]).toBe("dark");
		document.body.className = "";
	});
});

describe("an error", () => {
	it("appears in place and can be dismissed", async () => {
		const { host, get, find } = await show();
		expect(find("error")).toBeNull();
		host.put("error", "The question is too long: use 35 tokens at most.");
		await settle();
		expect(get("error").getAttribute("role")).toBe("alert");
		get("dismiss-error").click();
		await settle();
		expect(host.traits["error"]).toBe("");
		expect(host.saves).toBe(1);
		expect(find("error")).toBeNull();
	});
});

describe("the question", () => {
	it("is asked with Enter", async () => {
		const { host, get } = await show();
		await type(get<HTMLInputElement>("question"), "  is it red? ");
		expect(host.traits["question"]).toBe("what color ?");
		await key(get("question"), "Enter");
		expect(host.traits["question"]).toBe("is it red?");
		expect(host.saves).toBe(1);
	});

	it("comes back with Escape, and leaves it to the kernel to refuse an empty one", async () => {
		const { host, get } = await show();
		const field = get<HTMLInputElement>("question");
		await type(field, "is it");
		await key(field, "Escape");
		expect(field.value).toBe("what color ?");
		await type(field, "   ");
		await key(field, "Enter");
		expect(host.saves).toBe(1);
		expect(host.get("question")).toBe("");
	});
});

describe("a picture", () => {
	it("is sent when it is dropped", async () => {
		const { host, el } = await show();
		const file = new File([Uint8Array.of(1, 2, 3)], "a.png", {
			type: "image/png",
		});
		const drop = new Event("drop", { bubbles: true, cancelable: true });
		Object.assign(drop, { dataTransfer: { files: [file] } });
		el.querySelector(".bt-picture")?.dispatchEvent(drop);
		await settle();
		expect(drop.defaultPrevented).toBe(true);
		expect(host.sent.at(-1)).toMatchObject({ type: "image" });
		const [buffer] = host.buffers.at(-1) as ArrayBuffer[];
		expect([...new Uint8Array(buffer as ArrayBuffer)]).toEqual([1, 2, 3]);
	});

	it("for the other one is sent as such", async () => {
		const { host, el, find, get } = await show();
		expect(find("choose-other-picture")).toBeNull();
		host.put("corruption", "ImageSwap");
		await settle();
		const drop = new Event("drop", { bubbles: true, cancelable: true });
		const file = new File(["x"], "a.png", { type: "image/png" });
		Object.assign(drop, { dataTransfer: { files: [file] } });
		el.querySelector(".bt-swap .bt-picture")?.dispatchEvent(drop);
		await settle();
		expect(get("choose-other-picture")).not.toBeNull();
		expect(host.sent.at(-1)).toMatchObject({ type: "other_image" });
	});

	it("of another kind is answered with a reason", async () => {
		const { host, el, get } = await show();
		const file = new File(["text"], "notes.txt", { type: "text/plain" });
		const drop = new Event("drop", { bubbles: true, cancelable: true });
		Object.assign(drop, { dataTransfer: { files: [file] } });
		el.querySelector(".bt-picture")?.dispatchEvent(drop);
		await settle();
		expect(host.sent).toHaveLength(1);
		expect(get("error").textContent).toContain("notes.txt");
	});
});
