// npm run check:stress -- [--seconds N] [--seed S] [--harts N]: the stress test of vCPU requests for a long
// time, in rounds of ten seconds, each with its own seed; every fifth with lonely wake-ups. First it must
// find its planted bugs.
import { Cases, options } from "../support/cases.ts";
import { BUGS } from "./ghosts.ts";
import { stress } from "./requests-stress.ts";

const ROUND_SECONDS = 10;
const given = options({ seconds: 60, harts: 3 });
const rounds = Math.max(1, Math.round(given.seconds / ROUND_SECONDS));
const cases = new Cases(
  `stress: ${rounds} rounds on ${given.harts} harts, seed ${given.seed}`,
  rounds + BUGS.length,
);

for (const bug of BUGS) {
  await cases.run(`planted ${bug}`, 120_000, async () => {
    const lonely = bug === "block-checks-before-mark" || bug === "sleeper-not-woken";
    const { violation } = await stress({ seed: given.seed, seconds: 60, lonely, bug });
    if (violation === undefined) throw new Error("not found");
    return violation;
  });
}
for (let i = 0; i < rounds; i++) {
  const seed = given.seed + i;
  await cases.run(`seed ${seed}`, 60_000, async () => {
    const lonely = i % 5 === 4;
    const result = await stress({ seed, seconds: ROUND_SECONDS, harts: given.harts, lonely });
    if (result.violation !== undefined) throw new Error(result.violation);
    const { instructions, ipis, flushes, pauses } = result;
    return `${instructions} instructions, ${ipis} IPIs, ${flushes} flushes, ${pauses} pauses`;
  });
}
cases.end();
