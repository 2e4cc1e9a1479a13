// Nothing of the page survives from one test file to the next. Files that need a page ask for one, which takes half a
// second; much of their time is waiting, so that more of them than there are cores run side by side.
import { defineConfig } from "vitest/config";

export default defineConfig({
	test: {
		environment: "node",
		include: ["test/**/*.test.{ts,tsx}"],
		maxWorkers: 3,
		restoreMocks: true,
	},
});
