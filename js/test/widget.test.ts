// @vitest-environment happy-dom
import { afterEach, describe, expect, it, vi } from "vitest";
import { PROTOCOL_VERSION } from "../src/protocol";
import {
	createHost,
	DETAIL,
	fullTraits,
	gridOf,
	LOOK,
	RUNS,
	SETUP,
} from "./host";
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
		expect(host.sent[0]).toMatchObject({
			type: "hello",
			version: PROTOCOL_VERSION,
		});
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
			runs: { ...RUNS, cause: "other picture" },
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
			await vi.waitFor(() =>
				expect(get("blip-trace").textContent).toContain("computing …"),
			);
			expect(find("error")).toBeNull();
			for (const [name, value] of Object.entries(fullTraits()))
				host.put(name, value);
			await settle();
			expect(get("answer").textContent).toBe("red");
			expect(get("blip-trace").textContent).not.toContain("computing");
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
		const { get, find } = await show({
			setup: { ...SETUP, version: PROTOCOL_VERSION + 1 },
		});
		expect(get("blip-trace").textContent).toContain("different versions");
		expect(find("question")).toBeNull();
	});

	describe("keys and clicks", () => {
		const hears = (view: View, target: HTMLElement, event: Event) => {
			const notebook = vi.fn();
			view.el.addEventListener(event.type, notebook);
			target.dispatchEvent(event);
			return notebook.mock.calls.length > 0;
		};
		const press = (name: string, held: KeyboardEventInit = {}) =>
			new KeyboardEvent("keydown", {
				key: name,
				bubbles: true,
				cancelable: true,
				...held,
			});
		const control = { ctrlKey: true };

		it.each(["d", "a", "0", "Enter", "ArrowDown", "Escape", " ", "?"])(
			"that are plain stay here: %s",
			async (name) => {
				const view = await show();
				for (const target of ["question", "more", "noise-slider"])
					expect(hears(view, view.get(target), press(name))).toBe(false);
				expect(hears(view, view.cell(1, 1), press(name))).toBe(false);
			},
		);

		it.each([
			["s", control],
			["S", { ctrlKey: true, shiftKey: true }],
			["s", { metaKey: true }],
			["C", { ctrlKey: true, shiftKey: true }],
			["Enter", { altKey: true }],
			["ArrowUp", { ctrlKey: true, shiftKey: true }],
			["F9", {}],
		] as const)(
			"that the host has a use for reach it: %s %o",
			async (name, held) => {
				const view = await show();
				expect(hears(view, view.cell(1, 1), press(name, held))).toBe(true);
				expect(hears(view, view.get("more"), press(name, held))).toBe(true);
				const edits = name.startsWith("Arrow");
				expect(hears(view, view.get("question"), press(name, held))).toBe(
					!edits,
				);
			},
		);

		it("that edit a text or are used in the grid stay here, with Ctrl too", async () => {
			const view = await show();
			for (const name of ["z", "Z", "y", "a", "c", "v", "x", "Backspace"])
				expect(hears(view, view.get("question"), press(name, control))).toBe(
					false,
				);
			for (const name of ["Enter", " ", "Home", "End"])
				expect(hears(view, view.cell(1, 1), press(name, control))).toBe(false);
		});

		it("with the main button stay here; menus are the host's", async () => {
			const view = await show();
			for (const [name, button, heard] of [
				["mousedown", 0, false],
				["dblclick", 0, false],
				["mousedown", 2, true],
				["contextmenu", 2, true],
			] as const) {
				const event = new MouseEvent(name, { bubbles: true, button });
				expect(hears(view, view.cell(1, 1), event), name).toBe(heard);
			}
			expect(view.get("blip-trace").dataset).not.toHaveProperty(
				"lmSuppressShortcuts",
			);
		});

		it("commit nothing where they are the host's", async () => {
			const { get, host } = await show();
			await type(get("question"), "is it red?");
			await key(get("question"), "Enter", control);
			expect(host.traits["question"]).not.toBe("is it red?");
		});
	});

	it("follows the theme of the page", async () => {
		document.body.setAttribute("data-jp-theme-light", "false");
		const { get } = await show();
		expect(get("blip-trace").dataset["theme"]).toBe("dark");
		document.body.setAttribute("data-jp-theme-light", "true");
		await settle();
		expect(get("blip-trace").dataset["theme"]).toBe("light");
		document.body.removeAttribute("data-jp-theme-light");
		for (const [name, theme] of [
			["vscode-dark", "dark"],
			["light light-theme", "light"], // marimo
			["dark dark-theme", "dark"],
		] as const) {
			document.body.className = name;
			await settle();
			expect(get("blip-trace").dataset["theme"]).toBe(theme);
		}
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

	describe.each([
		["the reason first", ["error", "question"]],
		["the old value and the reason at once", ["question", "error"]],
	] as const)("that is refused, with %s,", (_, order) => {
		const refused = async () => {
			const view = await show();
			const field = view.get<HTMLInputElement>("question");
			await type(field, "is it blu?");
			await key(field, "Enter");
			const told = { error: "too long", question: "what color ?" };
			for (const name of order) view.host.put(name, told[name]);
			await settle();
			return { ...view, field };
		};

		it("stays in the field to be mended, until it is given up", async () => {
			const { field, get, host } = await refused();
			expect(field.value).toBe("is it blu?");
			get("dismiss-error").click();
			await settle();
			expect(field.value).toBe("is it blu?");
			await key(field, "Escape");
			expect(field.value).toBe("what color ?");
			expect(host.get("question")).toBe("what color ?");
		});

		it("is asked again when it is mended", async () => {
			const { field, host } = await refused();
			await type(field, "is it blue?");
			await key(field, "Enter");
			expect(host.get("question")).toBe("is it blue?");
			host.put("error", "");
			await settle();
			expect(field.value).toBe("is it blue?");
		});
	});

	it("stays where an older one is refused after it was asked", async () => {
		const { host, get } = await show();
		const field = get<HTMLInputElement>("question");
		for (const asked of ["is it blu?", "is it gren?"]) {
			await type(field, asked);
			await key(field, "Enter");
		}
		host.put("error", "too long");
		host.put("question", "what color ?");
		await settle();
		expect(field.value).toBe("is it gren?");
	});

	it("that was taken does not come back with the error of something else", async () => {
		const { host, get } = await show();
		const field = get<HTMLInputElement>("question");
		await type(field, "is it blue?");
		await key(field, "Enter");
		host.put("error", "boom");
		host.put("question", "is it a cat?");
		await settle();
		expect(field.value).toBe("is it a cat?");
	});

	it("that is refused is not asked again by leaving its field", async () => {
		const { host, get } = await show();
		get("more").click();
		await settle();
		const field = get<HTMLInputElement>("foil");
		await type(field, "a b c");
		await key(field, "Enter");
		host.put("error", "foil: too many tokens");
		host.put("foil", "");
		await settle();
		expect(field.value).toBe("a b c");
		const saves = host.saves;
		field.dispatchEvent(new FocusEvent("blur"));
		await settle();
		expect(host.saves).toBe(saves);
		expect(field.value).toBe("a b c");
	});
});

describe("an answer", () => {
	it("that is empty is said in words", async () => {
		const { get } = await show({
			runs: { ...RUNS, corrupted: { ...RUNS.corrupted, answer: "" } },
		});
		expect(get("noisy-answer").textContent).toBe("none: it says nothing");
	});
});

describe("axes and errors", () => {
	it("have readable ends, and say once what ± is", async () => {
		const { el } = await show();
		const ends = (part: string) =>
			[...el.querySelectorAll(`${part} small`)].map((end) => end.textContent);
		expect(ends(".bt-curve").slice(0, 2)).toEqual(["0", "10"]);
		expect(ends(".bt-curve")).toHaveLength(4);
		expect(ends(".bt-unit")[0]).toBe("0");
		expect(ends(".bt-profile .bt-token")[1]).toBe("0");
		expect(el.textContent?.split("± 95 % interval")).toHaveLength(2);
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

	it.each([
		["drop", "dataTransfer"],
		["paste", "clipboardData"],
	])(
		"that is a link or a text is answered in words: %s",
		async (name, data) => {
			const { host, el, get } = await show({
				look: { ...LOOK, explain: { dropped: "no picture file" } },
			});
			const event = new Event(name, { bubbles: true, cancelable: true });
			Object.assign(event, { [data]: { files: [] } });
			el.querySelector(".bt-picture")?.dispatchEvent(event);
			await settle();
			expect(event.defaultPrevented).toBe(true);
			expect(get("error").textContent).toContain("no picture file");
			expect(host.sent).toHaveLength(1);
		},
	);

	it("takes no text from the field that it is pasted into", async () => {
		const { get, find } = await show();
		const event = new Event("paste", { bubbles: true, cancelable: true });
		Object.assign(event, { clipboardData: { files: [] } });
		get("question").dispatchEvent(event);
		await settle();
		expect(event.defaultPrevented).toBe(false);
		expect(find("error")).toBeNull();
	});

	it("that is none is for the kernel to refuse", async () => {
		const { host, el } = await show();
		const file = new File(["text"], "notes.txt", { type: "text/plain" });
		const drop = new Event("drop", { bubbles: true, cancelable: true });
		Object.assign(drop, { dataTransfer: { files: [file] } });
		el.querySelector(".bt-picture")?.dispatchEvent(drop);
		await settle();
		expect(host.sent[1]).toMatchObject({ type: "image" });
	});

	it("cannot be changed without a kernel or a model", async () => {
		const { host, el, get } = await show({
			setup: { ...SETUP, closed: "recorded" },
		});
		const file = new File(["bytes"], "new.png", { type: "image/png" });
		const drop = new Event("drop", { bubbles: true, cancelable: true });
		Object.assign(drop, { dataTransfer: { files: [file] } });
		el.querySelector(".bt-picture")?.dispatchEvent(drop);
		await settle();
		expect(host.sent).toHaveLength(1);
		expect(get("error").textContent).toContain("recorded");
	});
});

describe("without a model or a kernel", () => {
	const OTHER = gridOf(3, () => 0.3, { site: "mlp" });
	const controls = [
		"question",
		"noise-slider",
		"choose-picture",
		"noise-number",
	];
	const closed = (view: View) =>
		controls.filter((name) => isDisabled(view, name));
	const isDisabled = (view: View, name: string) =>
		view.get(name).closest("fieldset")?.disabled === true;

	it("what asks is disabled and says why, what looks is not", async () => {
		const view = await show({ setup: { ...SETUP, closed: "a recording" } });
		expect(closed(view)).toEqual(controls);
		expect(view.get("question").closest("fieldset")?.title).toBe("a recording");
		expect(view.el.textContent).toContain("a recording");
		expect(view.get("trace-all").getAttribute("aria-disabled")).toBe("true");
		for (const name of ["site", "show", "more", "export"])
			expect(isDisabled(view, name)).toBe(false);
	});

	it("the slider moves where several factors were recorded", async () => {
		const choices = { ...SETUP.choices, noise: ["1.0", "2.0"] };
		const view = await show({
			setup: { ...SETUP, closed: "recorded", choices },
		});
		expect(closed(view)).toEqual(["question", "choose-picture"]);
	});

	it("nothing can be asked of a kernel that is not there from the start", async () => {
		const host = createHost(fullTraits());
		host.connected = false;
		const view = await show({}, host);
		expect(closed(view)).toEqual(controls);
		expect(isDisabled(view, "export")).toBe(true);
		expect(isDisabled(view, "undo")).toBe(true);
		view.cell(1, 3).click();
		await settle();
		expect(view.cell(1, 3).dataset["state"]).toBe("empty");
		expect(view.get("sentence").textContent).toContain("no answer");
		view.cell(1, 1).click();
		await settle();
		expect(view.get("sentence").textContent).toContain("brings back 20");
	});

	it("a host that takes messages and never answers is found out", async () => {
		vi.useFakeTimers();
		const opened = show();
		await vi.advanceTimersByTimeAsync(100);
		const view = await opened;
		expect(closed(view)).toEqual([]);
		await vi.advanceTimersByTimeAsync(3100);
		expect(closed(view)).toEqual(controls);
		view.cell(1, 3).click();
		await vi.advanceTimersByTimeAsync(100);
		expect(closed(view)).toEqual(controls);
		view.host.message({ type: "taken", id: 1, generation: 3 });
		await vi.advanceTimersByTimeAsync(100);
		expect(closed(view)).toEqual([]);
		vi.useRealTimers();
	});

	it("other grids of the same inputs are there to be looked at", async () => {
		const view = await show({ grids: [OTHER, { misshapen: true }] });
		expect(view.cell(1, 1).dataset["value"]).toBe("0.2");
		view.host.put("site", "mlp");
		await settle();
		expect(view.cell(1, 1).dataset["value"]).toBe("0.3");
		expect(view.cell(1, 1).dataset["state"]).toBe("value");
		view.host.put("site", "self_attention");
		await settle();
		expect(view.cell(1, 1).dataset["state"]).toBe("empty");
	});
});
