import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: [
      "src/**/*.test.ts",
      "test/**/*.test.ts",
      "tools/**/*.test.ts",
      "guests/**/*.test.ts",
      "bench/**/*.test.ts",
    ],
    // Only for what hangs: tests with a dozen processes took a minute where other work left them a twentieth of a core.
    testTimeout: 120_000,
    hookTimeout: 60_000,
    maxWorkers: 2,
  },
});
