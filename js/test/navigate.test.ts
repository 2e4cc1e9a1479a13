import { expect, it } from "vitest";
import { between, clamp, move } from "../src/navigate";

const EXTENT = { layers: 12, positions: 8 };
const from = (key: string, control = false) =>
	move([3, 2], key, control, EXTENT);

it("moves by one cell, layers sideways and tokens downwards", () => {
	expect(from("ArrowRight")).toEqual([4, 2]);
	expect(from("ArrowLeft")).toEqual([2, 2]);
	expect(from("ArrowDown")).toEqual([3, 3]);
	expect(from("ArrowUp")).toEqual([3, 1]);
});

it("goes to the ends of the row, or of the grid", () => {
	expect(from("Home")).toEqual([0, 2]);
	expect(from("End")).toEqual([11, 2]);
	expect(from("Home", true)).toEqual([0, 0]);
	expect(from("End", true)).toEqual([11, 7]);
});

it("stops at the edges and leaves other keys alone", () => {
	expect(move([0, 0], "ArrowUp", false, EXTENT)).toEqual([0, 0]);
	expect(move([11, 7], "ArrowRight", false, EXTENT)).toEqual([11, 7]);
	expect(from("a")).toBeNull();
	expect(from("Tab")).toBeNull();
});

it("spans the rectangle between two corners, whichever way round", () => {
	const cells = [
		[1, 2],
		[1, 3],
		[2, 2],
		[2, 3],
	];
	expect(between([1, 3], [2, 2])).toEqual(cells);
	expect(between([2, 2], [1, 3])).toEqual(cells);
});

it("keeps a place inside a grid that has become smaller", () => {
	expect(clamp([40, 40], EXTENT)).toEqual([11, 7]);
});
