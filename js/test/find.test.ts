// @vitest-environment happy-dom
import { afterEach, expect, it } from "vitest";
import { open, settle, type View } from "./view";

const FOUND = {
	generation: 3,
	target: 0.8,
	sizes: [0, 1, 2],
	curve: [0, 0.5, null],
	bold: "87 % ± 4 % on fresh noise",
	text: "2 of 54 states restored together bring back #; others may do as well.",
	members: ["layer 1 at “<b>”", "layer 2 at “circle”"],
};

let view: View;
afterEach(() => {
	view.dispose();
	view.el.remove();
});

async function choose(name: string, value: string) {
	const select = view.get(name) as unknown as HTMLSelectElement;
	select.value = value;
	select.dispatchEvent(new Event("change", { bubbles: true }));
	await settle();
}

it("asks for a set of what was chosen, shows how far that is, and can stop it", async () => {
	view = await open();
	view.get("find-form").click();
	await settle();
	await choose("find-direction", "isolate");
	await choose("find-among", "heads");
	view.get("find").click();
	const request = view.host.sent.at(-1);
	expect(request).toMatchObject({
		type: "find",
		percent: 90,
		among: "heads",
		direction: "isolate",
	});
	view.host.message({
		type: "progress",
		id: request?.["id"],
		generation: 3,
		done: 5,
		total: 20,
		left: "4 s",
	});
	await settle();
	expect(view.get("progress").getAttribute("aria-valuenow")).toBe("5");
	view.get("stop").click();
	expect(view.host.sent.at(-1)).toMatchObject({ type: "stop" });
});

it("tells what was found, and its members can be chosen", async () => {
	view = await open({ found: FOUND });
	const told = view.get("found");
	expect(told.textContent).toBe(FOUND.text.replace("#", FOUND.bold));
	expect(told.querySelector("b")?.textContent).toBe(FOUND.bold);
	const chips = [...view.el.querySelectorAll<HTMLElement>(".bt-find .bt-chip")];
	expect(chips.map((chip) => chip.textContent)).toEqual(FOUND.members);
	chips[1]?.click();
	expect(view.host.sent.at(-1)).toMatchObject({ type: "member", index: 1 });
	expect(
		view.el.querySelector(".bt-find polyline")?.getAttribute("points"),
	).toBe("0,40 50,20 100,40");
});

it("draws what flows between groups as arrows, and says each", async () => {
	const arrow = (to: string, value: number | null) => ({
		ends: ["picture", to],
		value,
		text: `picture → ${to}: ${value}`,
	});
	const arrows = [arrow("[CLS]", 0.1), arrow("<b>", -0.4), arrow("word", null)];
	const columns = [["picture"], ["[CLS]", "<b>", "word"]];
	view = await open({
		flow: { generation: 3, columns, arrows, text: "What is lost." },
	});
	const paths = [...view.get("flow").querySelectorAll("path")];
	expect(paths.map((path) => path.getAttribute("data-sign"))).toEqual([
		"+",
		"-",
	]);
	expect(paths[1]?.getAttribute("stroke-width")).toBe("10");
	expect(view.get("flow").textContent).toContain("picture → <b>: -0.4");
	view.get("more").click();
	await settle();
	view.get("flow-button").click();
	expect(view.host.sent.at(-1)).toMatchObject({ type: "flow" });
});

it("is not there before anything is found, whatever the kernel sends", async () => {
	view = await open({ found: { text: "only" } });
	expect(view.el.querySelector(".bt-find svg")).toBeNull();
});
