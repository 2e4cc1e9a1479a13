import { expect, it } from "vitest";
import { between, clamp, move, type Place } from "../src/navigate";

const ROWS = 8;
const COLUMNS = 12;
const go = (place: Place, key: string, control = false) =>
	move(place, key, control, ROWS, COLUMNS);

it("moves by one cell, columns sideways and rows downwards", () => {
	expect(go([3, 2], "ArrowRight")).toEqual([3, 3]);
	expect(go([3, 2], "ArrowLeft")).toEqual([3, 1]);
	expect(go([3, 2], "ArrowDown")).toEqual([4, 2]);
	expect(go([3, 2], "ArrowUp")).toEqual([2, 2]);
});

it("goes to the first and the last cell of the row, or of the grid", () => {
	expect(go([3, 2], "Home")).toEqual([3, 0]);
	expect(go([3, 2], "End")).toEqual([3, 11]);
	expect(go([3, 2], "Home", true)).toEqual([0, 0]);
	expect(go([3, 2], "End", true)).toEqual([7, 11]);
});

it("reaches the headers and moves along them", () => {
	expect(go([0, 2], "ArrowUp")).toEqual([-1, 2]);
	expect(go([-1, 2], "ArrowUp")).toEqual([-1, 2]);
	expect(go([-1, 2], "ArrowRight")).toEqual([-1, 3]);
	expect(go([-1, 2], "ArrowDown")).toEqual([0, 2]);
	expect(go([2, 0], "ArrowLeft")).toEqual([2, -1]);
	expect(go([2, -1], "ArrowLeft")).toEqual([2, -1]);
	expect(go([2, -1], "ArrowDown")).toEqual([3, -1]);
	expect(go([2, -1], "ArrowRight")).toEqual([2, 0]);
});

it("never reaches the empty corner", () => {
	expect(go([-1, 0], "ArrowLeft")).toEqual([-1, 0]);
	expect(go([0, -1], "ArrowUp")).toEqual([0, -1]);
});

it("goes from a header to the ends as well", () => {
	expect(go([-1, 4], "Home")).toEqual([-1, 0]);
	expect(go([-1, 4], "End")).toEqual([-1, 11]);
	expect(go([4, -1], "Home")).toEqual([4, 0]);
	expect(go([4, -1], "End")).toEqual([4, 11]);
	expect(go([-1, 4], "Home", true)).toEqual([0, 0]);
	expect(go([4, -1], "End", true)).toEqual([7, 11]);
});

it("stops at the edges, whichever way round the grid lies, and leaves other keys alone", () => {
	expect(go([7, 11], "ArrowRight")).toEqual([7, 11]);
	expect(go([7, 11], "ArrowDown")).toEqual([7, 11]);
	const turned = (key: string) => move([7, 7], key, false, COLUMNS, ROWS);
	expect(turned("ArrowRight")).toEqual([7, 7]);
	expect(turned("ArrowDown")).toEqual([8, 7]);
	expect(go([3, 2], "a")).toBeNull();
	expect(go([3, 2], "Tab")).toBeNull();
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

it("keeps a place inside a grid that has become smaller, and a header a header", () => {
	expect(clamp([40, 40], ROWS, COLUMNS)).toEqual([7, 11]);
	expect(clamp([-1, 40], ROWS, COLUMNS)).toEqual([-1, 11]);
	expect(clamp([40, -1], ROWS, COLUMNS)).toEqual([7, -1]);
});
