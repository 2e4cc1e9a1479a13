import { describe, expect, it } from "vitest";
import { PARSERS, traitOf } from "../src/traits";
import { DETAIL, fullTraits, LOOK, RUNS, SETUP } from "./host";

const MISSHAPEN = [undefined, null, "", 3, true, [], {}];

it("has a parser for every trait, and no other", () => {
	const names = new Set(Object.keys(PARSERS).map(traitOf));
	expect([...names].sort()).toEqual(Object.keys(fullTraits()).sort());
});

it("reads signals from the kernel's names", () => {
	expect(traitOf("otherQuestion")).toBe("other_question");
	expect(traitOf("otherPicture")).toBe("other_picture");
	expect(traitOf("foreignVersion")).toBe("setup");
	expect(traitOf("to")).toBe("to");
});

describe("what is misshapen is not there", () => {
	it.each(MISSHAPEN)("in what the kernel sets: %j", (value) => {
		expect(PARSERS.pinned(value)).toBeNull();
		expect(PARSERS.detail(value)).toBeNull();
		expect(PARSERS.look(value)).toBeNull();
		expect(PARSERS.setup(value)).toBeNull();
		expect(PARSERS.runs(value)).toBeNull();
		expect(PARSERS.grid(value)).toBeNull();
		expect(PARSERS.curve(value)).toBeNull();
	});

	it("in the names of what can be chosen", () => {
		for (const value of MISSHAPEN) {
			expect(PARSERS.axes(value)).toBe("tokens");
			expect(PARSERS.show(value)).toBe("recovery");
			expect(PARSERS.direction(value)).toBe("restore");
		}
		expect(PARSERS.axes("layers")).toBe("layers");
		expect(PARSERS.corruption(3)).toBe("");
		expect(PARSERS.limit("0.5")).toBe(0);
		expect(PARSERS.limit(Number.NaN)).toBe(0);
	});

	it("in a head", () => {
		for (const value of ["0", -1, 0.5, Number.NaN, [0], null, undefined])
			expect(PARSERS.head(value)).toBeNull();
		expect(PARSERS.head(0)).toBe(0);
		expect(PARSERS.head(7)).toBe(7);
	});

	it("in single steps", () => {
		expect(PARSERS.steps({ undo: true }).undo).toBe(true);
		for (const value of MISSHAPEN)
			expect(PARSERS.steps(value).redo).toBeFalsy();
	});

	it("where a part that is needed is missing", () => {
		for (const part of ["cells", "bars", "tokens"]) {
			expect(PARSERS.pinned({ ...DETAIL, [part]: undefined })).toBeNull();
			expect(PARSERS.detail({ ...DETAIL, [part]: "x" })).toBeNull();
		}
		for (const part of ["head_sites", "choices", "patches", "examples"])
			expect(PARSERS.setup({ ...SETUP, [part]: null })).toBeNull();
		for (const part of ["labels", "explain", "captions", "palettes"])
			expect(PARSERS.look({ ...LOOK, [part]: undefined })).toBeNull();
		expect(PARSERS.runs({ ...RUNS, bars: undefined })).toBeNull();
	});
});

it("knows a kernel of another version by that alone", () => {
	expect(PARSERS.foreignVersion(SETUP)).toBeNull();
	expect(PARSERS.setup(SETUP)).toBe(SETUP);
	expect(PARSERS.foreignVersion({ version: 1 })).toBe(1);
	expect(PARSERS.setup({ ...SETUP, version: 1 })).toBeNull();
});

it("takes well-formed cells alone for a selection", () => {
	const cells = [[0, 1], [1], [0, -1], "0,1", [2, 2, 2], [0.5, 1], [3, 3]];
	expect(PARSERS.selection(cells)).toEqual([
		[0, 1],
		[3, 3],
	]);
	expect(PARSERS.selection("all")).toEqual([]);
});
