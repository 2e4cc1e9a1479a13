// The tests run in a simulated browser; nothing of the page survives from one to the next.
import { defineConfig } from "vitest/config";

export default defineConfig({
	test: {
		environment: "happy-dom",
		include: ["test/**/*.test.{ts,tsx}"],
		restoreMocks: true,
	},
});
