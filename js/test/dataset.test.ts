// @vitest-environment happy-dom
import axe from "axe-core";
import { afterEach, describe, expect, it, vi } from "vitest";
// @ts-expect-error: a bundle has no types
import shipped from "../../blip_trace_widget/static/dataset.js";
import {
	type ListedSample,
	type Listing,
	type Maps,
	type Panel,
	PROTOCOL_VERSION,
} from "../src/protocol";
import { createHost, fullTraits, SETUP, unaligned } from "./host";
import { key, open, settle, type, type View } from "./view";

const SIZE = 4;
const MARKUP = "<img src=x onerror=alert(1)>";

function sample(
	number: number,
	more: Partial<ListedSample> = {},
): ListedSample {
	return {
		number,
		picture: new DataView(Uint8Array.of(0xff, 0xd8, number).buffer),
		question: `question ${number}?`,
		group: "colour",
		answers: [
			["right", "red"],
			["says", "red ✓"],
			["damaged", "one"],
		],
		effect: "total effect 81 points",
		note: "",
		...more,
	};
}

const SKIPPED = sample(12, {
	picture: new DataView(new ArrayBuffer(0)),
	effect: "",
	note: "skipped: the noise did not break the answer",
});
const ROWS = [sample(10), sample(11), SKIPPED, sample(13)];
const LISTING: Listing = {
	title: "11 samples: 10 traced, 1 skipped",
	rows: ROWS,
	first: 4,
	size: SIZE,
	found: 11,
	groups: ["colour", "number"],
	orders: ["as given", "question"],
};
/** Two layers of three heads, or two tokens by three layers; the last cell is not distinguishable from 0. */
function panel(group: string, more: Partial<Panel> = {}): Panel {
	return {
		group,
		text: "8 samples",
		rows: ["0", "1"],
		columns: ["0", "1", "2"],
		values: unaligned([0.1, 0.2, 0.3, -0.4, 0, 0.05, 1, 1, 1, 1, 1, 0]),
		...more,
	};
}
const MAPS: Maps = {
	choices: ["", "heads", "groups side by side"],
	groups: ["colour", "number"],
	title: "heads of cross-attention",
	across: ["layer", "head"],
	difference: false,
	panels: [panel("")],
	told: "Choose a head.",
	note: "",
};
const HEADS = { maps: "heads", mapped: MAPS };
const GROUPS = {
	maps: "groups side by side",
	mapped: { ...MAPS, told: "", panels: MAPS.groups.map((name) => panel(name)) },
};
const LIST = {
	maps: "",
	minus: "",
	picked: [],
	mapped: { ...MAPS, title: "", told: "", panels: [] },
	listing: LISTING,
	group: "",
	chosen: -1,
	find: "",
	order: "as given",
	first: 4,
	interval: "",
	setup: { ...SETUP, closed: "a recording" },
};

const views: View[] = [];
async function show(
	traits: Record<string, unknown> = {},
	host = createHost({ ...fullTraits(), ...LIST, ...traits }),
): Promise<View> {
	const view = await open({}, host, shipped);
	views.push(view);
	return view;
}

afterEach(() => {
	vi.useRealTimers();
	for (const view of views.splice(0)) {
		view.dispose();
		view.el.remove();
	}
});

const rows = ({ el }: View) => [
	...el.querySelectorAll<HTMLElement>("[data-testid=sample]"),
];
function row(view: View, place: number): HTMLElement {
	const found = rows(view)[place];
	if (found === undefined) throw new Error(`there is no row ${place}`);
	return found;
}
const put = async ({ host }: View, name: string, value: unknown) => {
	host.put(name, value);
	await settle();
};
const focused = (view: View) =>
	rows(view).indexOf(document.activeElement as HTMLElement);
const stops = (view: View) => rows(view).map(({ tabIndex }) => tabIndex);

describe("the list", () => {
	it("stands beside the whole figure", async () => {
		const view = await show();
		const [figure, list] = view.el.firstElementChild?.children ?? [];
		expect(view.el.firstElementChild?.className).toBe("blip-trace-dataset");
		expect(figure).toBe(view.get("blip-trace"));
		expect(list).toBe(view.get("samples"));
		expect(list?.classList.contains("blip-trace")).toBe(true);
		expect(view.get("samples").dataset["theme"]).toBe("light");
		expect(view.get("answer").textContent).toBe("red");
	});

	it("shows each sample's picture, question, answers and effect", async () => {
		const view = await show();
		expect(view.get("summary").textContent).toBe(LISTING.title);
		expect(view.get("range").textContent).toBe("5–8 of 11");
		expect(rows(view).map((each) => each.dataset["number"])).toEqual([
			"10",
			"11",
			"12",
			"13",
		]);
		const { textContent, title } = row(view, 0);
		for (const told of [textContent, title]) {
			expect(told).toContain("question 10?");
			expect(told).toContain("right red · says red ✓ · damaged one");
			expect(told).toContain("total effect 81 points");
		}
		const pictures = rows(view).map(
			(each) => each.querySelector("img")?.src.slice(0, 5) ?? "none",
		);
		expect(pictures).toEqual(["blob:", "blob:", "none", "blob:"]);
		expect(row(view, 2).textContent).toContain(SKIPPED.note);
	});

	it("says what is known of the selected cell", async () => {
		const view = await show();
		const status = view.get("interval");
		expect(status.role ?? status.getAttribute("role")).toBe("status");
		expect(status.textContent).toBe("");
		await put(view, "interval", "Layer 1: 40 % to 70 %");
		expect(view.get("interval")).toBe(status);
		expect(status.textContent).toBe("Layer 1: 40 % to 70 %");
	});

	it("shows text as text, whatever is in it", async () => {
		const row = sample(1, {
			question: MARKUP,
			answers: [[MARKUP, MARKUP]],
			effect: MARKUP,
			note: MARKUP,
		});
		const view = await show({
			interval: MARKUP,
			find: MARKUP,
			listing: { ...LISTING, title: MARKUP, rows: [row], groups: [MARKUP] },
		});
		expect(view.get("samples").textContent).toContain(MARKUP);
		expect(view.el.querySelector("img[src=x]")).toBeNull();
	});

	it.each([{}, null, undefined, "", [], { rows: null }])(
		"draws with every trait %j",
		async (empty) => {
			const names = Object.keys({ ...fullTraits(), ...LIST });
			const traits = Object.fromEntries(names.map((name) => [name, empty]));
			const view = await show({}, createHost(traits));
			expect(rows(view)).toEqual([]);
			expect(view.get("average").getAttribute("aria-pressed")).toBe("true");
			for (const [name, value] of Object.entries({ ...fullTraits(), ...LIST }))
				view.host.put(name, value);
			await settle();
			expect(rows(view)).toHaveLength(4);
			expect(view.host.saves).toBe(0);
		},
	);

	it("keeps its room where nothing is found, and says so", async () => {
		const view = await show();
		const page = view.el.querySelector<HTMLElement>(".bt-page");
		const room = page?.style.getPropertyValue("--bt-size");
		expect(room).toBe("4");
		await put(view, "listing", { ...LISTING, rows: [], found: 0, first: 0 });
		expect(rows(view)).toEqual([]);
		expect(view.get("nothing").textContent).toBe("No sample is like that.");
		expect(view.get("range").textContent).toBe("");
		expect(view.el.querySelector(".bt-page")).toBe(page);
		expect(page?.style.getPropertyValue("--bt-size")).toBe(room);
	});

	it("is not there for a kernel of another version", async () => {
		const view = await show({
			setup: { ...SETUP, version: PROTOCOL_VERSION + 1 },
		});
		expect(view.find("samples")).toBeNull();
		expect(view.get("blip-trace").textContent).toContain("different versions");
	});

	it("has nothing that keeps people out", async () => {
		const view = await show({ chosen: 11 });
		const { violations } = await axe.run(view.get("samples"), {
			rules: { "color-contrast": { enabled: false } },
		});
		expect(violations.map(({ id, help }) => `${id}: ${help}`)).toEqual([]);
	});

	it("keeps keys and mouse from the notebook", async () => {
		const view = await show();
		const heard = vi.fn();
		for (const name of ["keydown", "mousedown", "dblclick"]) {
			document.body.addEventListener(name, heard);
			const init = { key: "a", bubbles: true };
			row(view, 0).dispatchEvent(new KeyboardEvent(name, init));
			document.body.removeEventListener(name, heard);
		}
		expect(heard).not.toHaveBeenCalled();
		for (const event of [
			new MouseEvent("contextmenu", { bubbles: true, button: 2 }),
			new KeyboardEvent("keydown", { key: "s", ctrlKey: true, bubbles: true }),
		]) {
			document.body.addEventListener(event.type, heard, { once: true });
			row(view, 0).dispatchEvent(event);
		}
		expect(heard).toHaveBeenCalledTimes(2);
	});
});

describe("a sample", () => {
	it("is chosen with a click, and the average with its button", async () => {
		const view = await show();
		const pressed = () => view.get("average").getAttribute("aria-pressed");
		expect(pressed()).toBe("true");
		row(view, 1).click();
		await settle();
		expect(view.host.traits["chosen"]).toBe(11);
		expect(row(view, 1).getAttribute("aria-selected")).toBe("true");
		expect(row(view, 0).getAttribute("aria-selected")).toBe("false");
		expect(pressed()).toBe("false");
		row(view, 1).click();
		expect(view.host.saves).toBe(1);
		view.get("average").click();
		await settle();
		expect(view.host.traits["chosen"]).toBe(-1);
		expect(pressed()).toBe("true");
		view.get("average").click();
		expect(view.host.saves).toBe(2);
	});

	it("is reached with the arrows and chosen with Enter or Space", async () => {
		const view = await show();
		expect(stops(view)).toEqual([0, -1, -1, -1]);
		row(view, 0).focus();
		await key(row(view, 0), "ArrowUp");
		expect(focused(view)).toBe(0);
		await key(row(view, 0), "ArrowDown");
		expect(focused(view)).toBe(1);
		expect(stops(view)).toEqual([-1, 0, -1, -1]);
		expect(view.host.saves).toBe(0);
		await key(row(view, 1), "Enter");
		expect(view.host.traits["chosen"]).toBe(11);
		await key(row(view, 1), "End");
		expect(focused(view)).toBe(3);
		await key(row(view, 3), "ArrowDown");
		expect(focused(view)).toBe(3);
		await key(row(view, 3), " ");
		expect(view.host.traits["chosen"]).toBe(13);
		await key(row(view, 3), "Home");
		expect(focused(view)).toBe(0);
		// Outside, Tab leads back to what is chosen.
		row(view, 0).blur();
		await settle();
		expect(stops(view)).toEqual([-1, -1, -1, 0]);
	});

	it("that was skipped can be read, but not chosen", async () => {
		const view = await show();
		expect(
			rows(view).map((each) => each.getAttribute("aria-disabled")),
		).toEqual(["false", "false", "true", "false"]);
		row(view, 2).click();
		row(view, 2).focus();
		await settle();
		expect(focused(view)).toBe(2);
		await key(row(view, 2), "Enter");
		await key(row(view, 2), " ");
		expect(view.host.traits["chosen"]).toBe(-1);
		expect(view.host.saves).toBe(0);
	});

	it("lets its picture go when another stands in its place", async () => {
		const create = vi.spyOn(URL, "createObjectURL");
		const revoke = vi.spyOn(URL, "revokeObjectURL");
		const view = await show();
		const made = rows(view).map((each) => each.querySelector("img")?.src);
		await put(view, "listing", {
			...LISTING,
			rows: [sample(20), { ...SKIPPED, number: 21 }],
		});
		expect(revoke.mock.calls.flat().sort()).toEqual(
			[made[0], made[1], made[3]].sort(),
		);
		expect(row(view, 0).querySelector("img")?.src).not.toBe(made[0]);
		expect(row(view, 1).querySelector("img")).toBeNull();
		view.dispose();
		await settle();
		// The figure's own picture is among them.
		expect(revoke).toHaveBeenCalledTimes(create.mock.calls.length);
		expect(view.host.listeners()).toBe(0);
		expect(view.el.childNodes).toHaveLength(0);
	});
});

describe("finding", () => {
	it("waits until nothing more is typed", async () => {
		const view = await show();
		const field = view.get<HTMLInputElement>("find");
		vi.useFakeTimers();
		const write = async (text: string, pause: number) => {
			field.value = text;
			field.dispatchEvent(new Event("input", { bubbles: true }));
			await vi.advanceTimersByTimeAsync(pause);
		};
		await write("r", 200);
		await write("re", 200);
		expect(view.host.saves).toBe(0);
		await write("red ", 300);
		expect(view.host.traits["find"]).toBe("red");
		expect(view.host.saves).toBe(1);
		// What is typed is not touched by what comes back of it.
		expect(field.value).toBe("red ");
		await write("red b", 100);
		view.host.put("listing", { ...LISTING, found: 1, rows: ROWS.slice(0, 1) });
		await vi.advanceTimersByTimeAsync(100);
		expect(field.value).toBe("red b");
		await vi.advanceTimersByTimeAsync(100);
		expect(view.host.traits["find"]).toBe("red b");
	});

	it("is at once with Enter, and over with Escape", async () => {
		const view = await show();
		const field = view.get<HTMLInputElement>("find");
		await type(field, "red");
		expect(view.host.saves).toBe(0);
		await key(field, "Enter");
		expect(view.host.traits["find"]).toBe("red");
		await key(field, "Enter");
		expect(view.host.saves).toBe(1);
		await key(field, "Escape");
		expect(view.host.traits["find"]).toBe("");
		expect(field.value).toBe("");
		await new Promise((resolve) => setTimeout(resolve, 300));
		expect(view.host.saves).toBe(2);
	});

	it("gives way to what is set elsewhere", async () => {
		const view = await show();
		const field = view.get<HTMLInputElement>("find");
		await type(field, "gre");
		await put(view, "find", "blue");
		expect(field.value).toBe("blue");
		await new Promise((resolve) => setTimeout(resolve, 300));
		expect(view.host.traits["find"]).toBe("blue");
		expect(view.host.saves).toBe(0);
	});

	it("ends with the view", async () => {
		const view = await show();
		await type(view.get<HTMLInputElement>("find"), "red");
		view.dispose();
		await new Promise((resolve) => setTimeout(resolve, 300));
		expect(view.host.traits["find"]).toBe("");
	});
});

describe("what is listed", () => {
	const choose = (view: View, name: string, value: string) =>
		type(view.get<HTMLSelectElement>(name), value, "change");

	it("is chosen by group and order", async () => {
		const view = await show();
		const group = view.get<HTMLSelectElement>("group");
		expect([...group.options].map(({ text }) => text)).toEqual([
			"all groups",
			"colour",
			"number",
		]);
		await choose(view, "group", "number");
		expect(view.host.traits["group"]).toBe("number");
		await choose(view, "group", "");
		expect(view.host.traits["group"]).toBe("");
		await choose(view, "order", "question");
		expect(view.host.traits["order"]).toBe("question");
		expect(view.host.saves).toBe(3);
		await put(view, "listing", { ...LISTING, groups: [] });
		expect(view.find("group")).toBeNull();
		expect(view.find("order")).not.toBeNull();
	});

	it("is turned page by page, and not beyond the ends", async () => {
		const view = await show();
		const closed = () =>
			["previous page", "next page"].map((name) =>
				view.get(name).getAttribute("aria-disabled"),
			);
		expect(closed()).toEqual(["false", "false"]);
		view.get("next page").click();
		await settle();
		expect(view.host.traits["first"]).toBe(8);
		expect(closed()).toEqual(["false", "true"]);
		view.get("next page").click();
		expect(view.host.traits["first"]).toBe(8);
		for (const first of [4, 0, 0]) {
			view.get("previous page").click();
			await settle();
			expect(view.host.traits["first"]).toBe(first);
		}
		expect(closed()).toEqual(["true", "false"]);
		expect(view.host.saves).toBe(3);
	});

	it("is turned with the keys, which go on from there", async () => {
		const view = await show();
		row(view, 3).focus();
		await key(row(view, 3), "PageDown");
		expect(view.host.traits["first"]).toBe(8);
		const last = { ...LISTING, first: 8, rows: ROWS.slice(0, 3) };
		await put(view, "listing", last);
		expect(focused(view)).toBe(2);
		await key(row(view, 2), "PageDown");
		expect(view.host.traits["first"]).toBe(8);
		await key(row(view, 2), "PageUp");
		expect(view.host.traits["first"]).toBe(4);
		await put(view, "listing", LISTING);
		expect(focused(view)).toBe(2);
		expect(view.host.saves).toBe(2);
	});

	it("takes no focus that is elsewhere by then", async () => {
		const view = await show();
		row(view, 3).focus();
		await key(row(view, 3), "PageDown");
		view.get("find").focus();
		await put(view, "listing", { ...LISTING, first: 8, rows: [sample(1)] });
		expect(document.activeElement).toBe(view.get("find"));
	});

	it("is the same in another view of the model", async () => {
		const one = await show();
		const other = await show({}, one.host);
		row(one, 1).click();
		await type(one.get<HTMLInputElement>("find"), "red");
		await key(one.get("find"), "Enter");
		expect(row(other, 1).getAttribute("aria-selected")).toBe("true");
		expect(other.get<HTMLInputElement>("find").value).toBe("red");
		one.dispose();
		await put(other, "listing", { ...LISTING, rows: [sample(20)] });
		expect(rows(other)).toHaveLength(1);
		expect(rows(one)).toHaveLength(0);
		row(other, 0).click();
		expect(one.host.traits["chosen"]).toBe(20);
	});
});

describe("the map of heads", () => {
	const head = (view: View, place: string) => {
		const found = view.el.querySelector<HTMLElement>(`[data-head="${place}"]`);
		if (found === null) throw new Error(`there is no head ${place}`);
		return found;
	};

	it("is computed when it is asked for, and is not there if there is none", async () => {
		const view = await show();
		expect(view.find("panel")).toBeNull();
		await type(view.get<HTMLSelectElement>("maps"), "heads", "change");
		expect(view.host.traits["maps"]).toBe("heads");
		await put(view, "mapped", { ...MAPS, choices: [] });
		expect(view.find("maps-card")).toBeNull();
		expect(view.find("samples")).not.toBeNull();
	});

	it("says what each head does, and marks those that nothing is known of", async () => {
		const view = await show(HEADS);
		expect(head(view, "1,0").getAttribute("aria-label")).toBe(
			"layer 1, head 0: −40 %",
		);
		expect(head(view, "1,2").getAttribute("aria-label")).toBe(
			"layer 1, head 2: 5 %, not distinguishable from 0",
		);
		expect(head(view, "1,2").textContent).toBe("•");
		expect(head(view, "0,2").textContent).toBe("");
		expect(view.get("maps-card").textContent).toContain("−0.4 … 0.4");
		expect(view.get("told").textContent).toBe("Choose a head.");
	});

	it("is gone through with the arrows, and a head chosen with Enter or a click", async () => {
		const view = await show(HEADS);
		const at = () => (document.activeElement as HTMLElement).dataset["head"];
		head(view, "0,0").focus();
		await key(head(view, "0,0"), "ArrowUp");
		await key(head(view, "0,0"), "ArrowLeft");
		expect(at()).toBe("0,0");
		await key(head(view, "0,0"), "ArrowDown");
		await key(head(view, "1,0"), "End");
		expect(at()).toBe("1,2");
		expect(head(view, "1,2").tabIndex).toBe(0);
		expect(view.host.saves).toBe(0);
		await key(head(view, "1,2"), "Enter");
		expect(view.host.traits["picked"]).toEqual([1, 2]);
		expect(head(view, "1,2").getAttribute("aria-selected")).toBe("true");
		head(view, "0,1").click();
		await settle();
		expect(view.host.traits["picked"]).toEqual([0, 1]);
		head(view, "0,1").click();
		await settle();
		expect(view.host.traits["picked"]).toEqual([]);
	});

	it("has nothing that keeps people out", async () => {
		for (const traits of [HEADS, GROUPS]) {
			const view = await show({ ...traits, picked: [0, 1] });
			const { violations } = await axe.run(view.get("maps-card"), {
				rules: { "color-contrast": { enabled: false } },
			});
			expect(violations.map(({ id, help }) => `${id}: ${help}`)).toEqual([]);
		}
	});

	it("chooses nothing without a kernel", async () => {
		const host = createHost({ ...fullTraits(), ...LIST, ...HEADS });
		host.connected = false;
		const view = await show({}, host);
		head(view, "0,1").click();
		await key(head(view, "0,1"), "Enter");
		expect(host.saves).toBe(0);
		expect(view.get("maps").closest("fieldset")?.disabled).toBe(true);
		const grid = head(view, "0,1").closest("[role=grid]");
		expect(grid?.getAttribute("aria-disabled")).toBe("true");
		expect(grid?.getAttribute("aria-description")).toBe("a recording");
	});
});

describe("groups side by side", () => {
	const panels = ({ el }: View) => [
		...el.querySelectorAll<HTMLElement>("[data-testid=panel]"),
	];

	it("are on one scale, and a click on one chooses it", async () => {
		const view = await show(GROUPS);
		const large = panel("number", {
			values: unaligned([0.8, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1]),
		});
		const fills = () =>
			panels(view).map((each) =>
				each
					.querySelector<HTMLElement>(".bt-dab")
					?.style.getPropertyValue("--bt-fill"),
			);
		const before = fills();
		expect(before[0]).toBe(before[1]);
		await put(view, "mapped", {
			...GROUPS.mapped,
			panels: [panel("colour"), large],
		});
		expect(fills()[0]).not.toBe(fills()[1]);
		expect(view.get("maps-card").textContent).toContain("−0.8 … 0.8");
		expect(panels(view).map((each) => each.getAttribute("aria-label"))).toEqual(
			["colour: 8 samples", "number: 8 samples"],
		);
		panels(view)[1]?.click();
		await settle();
		expect(view.host.traits["group"]).toBe("number");
		expect(
			panels(view).map((each) => each.getAttribute("aria-pressed")),
		).toEqual(["false", "true"]);
	});

	it("are compared with one of them", async () => {
		const view = await show(GROUPS);
		await type(view.get<HTMLSelectElement>("minus"), "colour", "change");
		expect(view.host.traits["minus"]).toBe("colour");
		await put(view, "mapped", {
			...GROUPS.mapped,
			difference: true,
			panels: [panel("number")],
		});
		expect(view.el.querySelector(".bt-dab")?.getAttribute("title")).toBe(
			"layer 0, head 0: 10 points",
		);
		expect(view.get("maps-card").textContent).toContain("less");
	});

	it("say what is not there yet, and why", async () => {
		const view = await show({
			...GROUPS,
			mapped: {
				...GROUPS.mapped,
				note: "averaging: 1 of 2 are there",
				panels: [
					panel("colour", {
						text: "",
						rows: [],
						columns: [],
						values: new DataView(new ArrayBuffer(0)),
					}),
					panel("number", {
						text: MARKUP,
						rows: [],
						columns: [],
						values: new DataView(new ArrayBuffer(0)),
					}),
				],
			},
		});
		expect(panels(view)[0]?.getAttribute("aria-label")).toBe(
			"colour: not averaged yet",
		);
		expect(panels(view)[1]?.textContent).toContain(MARKUP);
		expect(view.get("told").textContent).toBe("averaging: 1 of 2 are there");
	});

	it("choose nothing without a kernel", async () => {
		const host = createHost({ ...fullTraits(), ...LIST, ...GROUPS });
		host.connected = false;
		const view = await show({}, host);
		panels(view)[1]?.click();
		await settle();
		expect(host.saves).toBe(0);
	});
});

describe("without a kernel", () => {
	const controls = ["group", "find", "order", "average", "next page"];
	const closed = (view: View) =>
		controls.filter(
			(name) => view.get(name).closest("fieldset")?.disabled === true,
		);

	it("everything works that a recording's kernel answers", async () => {
		const view = await show();
		expect(closed(view)).toEqual([]);
		expect(view.get("question").closest("fieldset")?.disabled).toBe(true);
	});

	it("what was saved can be read, and nothing is asked", async () => {
		const host = createHost({ ...fullTraits(), ...LIST, chosen: 11 });
		host.connected = false;
		const view = await show({}, host);
		expect(closed(view)).toEqual(controls);
		expect(view.get("find").closest("fieldset")?.title).toBe("a recording");
		expect(rows(view)).toHaveLength(4);
		for (const each of rows(view)) {
			expect(each.getAttribute("aria-disabled")).toBe("true");
			expect(each.title).toContain("a recording");
			each.click();
			await key(each, "Enter");
			await key(each, "PageDown");
		}
		view.get("next page").click();
		await settle();
		expect(host.saves).toBe(0);
		expect(host.traits["chosen"]).toBe(11);
		expect(row(view, 1).getAttribute("aria-selected")).toBe("true");
		row(view, 0).focus();
		await key(row(view, 0), "ArrowDown");
		expect(focused(view)).toBe(1);
	});

	it("a kernel that is lost closes it", async () => {
		const view = await show();
		view.host.lose();
		await settle();
		expect(closed(view)).toEqual(controls);
	});
});
