// A few cases of `npm run check:hostile-network`, and those that once failed: seed and number.
import { expect, test } from "vitest";
import { seed } from "../support/seed.ts";
import { runHostileCase } from "./hostile-frames.ts";

test.each([
  [seed, 0],
  [seed, 1],
  [seed, 2],
  [1, 29],
  [653_216, 267],
])("seed %i, case %i", async (from, index) => {
  await expect(runHostileCase(from, index)).resolves.toBeUndefined();
});
