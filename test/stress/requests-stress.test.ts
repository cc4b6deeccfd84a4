// A few seconds of the stress test of vCPU requests, and the proof that it finds planted bugs. npm run
// check:stress is the long run. WHERRY_SEED replays the choices; the host schedules the threads.
import { expect, test } from "vitest";
import { BUGS } from "./ghosts.ts";
import { stress } from "./requests-stress.ts";
import { seed } from "../support/seed.ts";

test.each([false, true])(
  `requests, modes and kicks on real threads (lonely: %s, WHERRY_SEED=${seed})`,
  async (lonely) => {
    const { violation, ...counts } = await stress({ seed, seconds: lonely ? 8 : 4, lonely });
    expect(violation).toBeUndefined();
    expect(counts.instructions).toBeGreaterThan(0);
  },
);

test.each(BUGS)(`a planted bug is found: %s (WHERRY_SEED=${seed})`, async (bug) => {
  const lonely = bug === "block-checks-before-mark" || bug === "sleeper-not-woken";
  const { violation } = await stress({ seed, seconds: 40, lonely, bug });
  expect(violation).toMatch(/translations|had not left|did not take an IPI/);
});
