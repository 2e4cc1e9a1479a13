import { describe, expect, it } from "vitest";
import { wordsOf } from "../src/words";
import { LOOK } from "./host";

const words = wordsOf(LOOK);

it("calls things what the kernel calls them, others by their own words", () => {
	expect(words.label("mlp")).toBe("MLP");
	expect(words.label("log_probability")).toBe("log probability");
	expect(words.explain("window")).toBe("How many layers are patched together.");
	expect(words.explain("else")).toBe("");
	expect(words.caption("recovery", "restore")).toBe(
		"How much each state brings back",
	);
});

it("says of what the numbers beside the colours are", () => {
	expect(words.unit("recovery", "log_probability")).toContain(
		"log probability",
	);
	expect(words.unit("indirect_effect", "log_probability")).toContain("change");
	expect(words.unit("score", "log_probability")).toBe("log probability");
});

describe("while the kernel has sent no words", () => {
	it("makes do with the names", () => {
		const none = wordsOf(null);
		expect(none.label("block_output")).toBe("block output");
		expect(none.explain("window")).toBe("");
		expect(none.caption("recovery", "restore")).toBe("");
	});
});
