// @vitest-environment happy-dom
import { expect, it } from "vitest";
import { createHost, read } from "../src/page";
import { fullTraits, gridOf, RUNS } from "./host";
import { open, settle } from "./view";

const scene = (noise: number) => ({
	noise,
	runs: { ...RUNS, damage: `ν ${noise}` },
	grid: {},
	grids: [gridOf(3, () => noise / 10)],
});

const host = () =>
	createHost({
		script: "",
		state: { ...fullTraits(), noise: 4, detail: { cells: [] } },
		scenes: [scene(1), scene(4)],
	});

it("reads bytes out of base64, and nothing else", () => {
	const { state } = read(
		'{"state": {"picture": {"base64": "AQID"}, "question": "base64"}}',
	);
	const picture = state["picture"] as DataView;
	expect([0, 1, 2].map((at) => picture.getUint8(at))).toEqual([1, 2, 3]);
	expect(state["question"]).toBe("base64");
});

it("plays the nearest noise factor, and tells who listens", () => {
	const played = host();
	const heard: unknown[] = [];
	played.on("change:runs", () => heard.push(played.get("noise")));
	played.set("noise", 2.2);
	expect(played.get("noise")).toBe(1);
	expect(played.get("runs")).toMatchObject({ damage: "ν 1" });
	expect(played.get("detail")).toEqual({});
	played.set("noise", 9);
	expect(heard).toEqual([1, 4]);
	expect(played.get("noise")).toBe(4);
	expect(played.get("detail")).toEqual({ cells: [] });
});

it("keeps every other trait as it is set, and is deaf after off", () => {
	const played = host();
	let heard = 0;
	const listener = () => {
		heard += 1;
	};
	played.on("change:site", listener);
	played.set("site", "mlp");
	played.off("change:site", listener);
	played.set("site", "block_output");
	expect([played.get("site"), heard]).toEqual(["block_output", 1]);
	expect(() => played.send({})).toThrow("no kernel");
});

it("shows the figure, which follows the noise", async () => {
	const view = await open({}, host() as never);
	const value = () => view.cell(1, 1).dataset["value"];
	view.host.set("noise", 1);
	await settle();
	expect(value()).toBe("0.1");
	view.host.set("noise", 4);
	await settle();
	expect(value()).toBe("0.4");
	expect(view.get("export").closest("fieldset")?.disabled).toBe(true);
	view.dispose();
});
