// Nothing of the page survives from one test file to the next: each is run in a context of its own, for two thirds of
// the work of a process of its own. Much of their time is waiting, so that more of them than there are cores run side by
// side.
import { defineConfig } from "vitest/config";

export default defineConfig({
	test: {
		environment: "node",
		include: ["test/**/*.test.{ts,tsx}"],
		pool: "vmThreads",
		maxWorkers: 3,
		restoreMocks: true,
	},
});
