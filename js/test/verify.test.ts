// @vitest-environment happy-dom
import { afterEach, expect, it, vi } from "vitest";
import { gridOf } from "./host";
import { open, settle, type View } from "./view";

const NOTE = "Checked: 10 runs computed again by plain hooks";

let view: View;
afterEach(() => {
	view.dispose();
	view.el.remove();
});

const notes = () => view.get("notes").textContent;

it("asks for the numbers on show to be checked, shows how far that is, and can stop it", async () => {
	view = await open();
	view.get("more").click();
	await settle();
	view.get("verify").click();
	const request = view.host.sent.at(-1);
	expect(request?.["type"]).toBe("verify");
	const progress = { done: 5, total: 20, left: "4 s" };
	view.host.message({
		type: "progress",
		id: request?.["id"],
		generation: 3,
		...progress,
	});
	await settle();
	expect(view.get("progress").getAttribute("aria-valuetext")).toBe(
		"5 of 20 · 4 s",
	);
	view.get("stop").click();
	expect(view.host.sent.at(-1)).toMatchObject({ type: "stop" });
});

it("shows what was found below the grid, as long as it is of these settings", async () => {
	view = await open({
		grid: gridOf(3, () => 0.2, { notes: [NOTE] }),
	});
	expect(notes()).toBe(NOTE);
	view.host.put("generation", 4);
	await vi.waitFor(() => expect(notes()).toBe(""));
});
