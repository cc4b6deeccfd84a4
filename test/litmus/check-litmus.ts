// npm run check:litmus -- [--seconds N] [--seed S] [--engine translator|interpreter] [--only NAME]: litmus
// tests and atomic counters on real threads, half of the time on each engine if none is named. Prints the
// outcomes as a histogram; fails on an outcome that RVWMO does not allow (rvwmo.ts).
import { ENGINE_KINDS } from "../../src/hypervisor/shared/engine-kind.ts";
import { options } from "../support/cases.ts";
import { Random } from "../support/random.ts";
import { countingTests } from "./counting.ts";
import { runBatch } from "./guest.ts";
import { LitmusMachine } from "./machine.ts";
import type { Outcome } from "./program.ts";
import { remoteTests } from "./remote.ts";
import { allowedOutcomes } from "./rvwmo.ts";
import { litmusTests } from "./tests.ts";

const given = options({ seconds: 40, engine: "", only: "" });
const engines = ENGINE_KINDS.filter((kind) => given.engine === "" || kind === given.engine);
if (engines.length === 0) throw new Error(`--engine is ${ENGINE_KINDS.join(" or ")}`);
const chosen = litmusTests.filter(({ name }) => name.includes(given.only));
const counting = [...countingTests, ...remoteTests].filter(({ name }) => name.includes(given.only));
if (chosen.length + counting.length === 0) throw new Error(`no test is named ${given.only}`);
const secondsEach = given.seconds / engines.length / (chosen.length + counting.length);
console.log(
  `litmus: ${chosen.length} + ${counting.length} tests on ${engines.join(" and ")}, seed ${given.seed}`,
);

let failed = 0;
for (const engine of engines) {
  const machine = await LitmusMachine.create(engine);
  const firmware = counting.some((t) => t.needsFirmware)
    ? await LitmusMachine.create(engine, true)
    : undefined;
  const r = new Random(given.seed);
  try {
    for (const test of chosen) {
      const allowed = allowedOutcomes(test);
      const seen = new Map<Outcome, number>();
      const end = performance.now() + secondsEach * 1000;
      do await runBatch(machine, test, r, seen);
      while (performance.now() < end);
      const wrong = [...seen.keys()].filter((outcome) => !allowed.has(outcome));
      const counts = [...seen].sort(([, a], [, b]) => b - a).map(([outcome, n]) => `${outcome}: ${n}`);
      const line = `${seen.size} of ${allowed.size} outcomes: ${counts.slice(0, 12).join(", ")}`;
      console.log(
        `${engine}: ${test.name}: ${wrong.length === 0 ? "ok" : `FORBIDDEN ${wrong.join("; ")}`}, ${line}`,
      );
      if (wrong.length > 0) failed++;
    }
    for (const test of counting) {
      const end = performance.now() + secondsEach * 1000;
      let rounds = 0;
      let wrong: string | undefined;
      do {
        wrong = await test.run(test.needsFirmware && firmware !== undefined ? firmware : machine, r);
        rounds++;
      } while (wrong === undefined && performance.now() < end);
      console.log(
        `${engine}: ${test.name}: ${wrong === undefined ? "ok" : `WRONG ${wrong}`}, ${rounds} rounds`,
      );
      if (wrong !== undefined) failed++;
    }
    const counts = [machine, firmware].map((m) => m?.instructions ?? { executed: 0, translated: 0 });
    const executed = counts.reduce((sum, c) => sum + c.executed, 0);
    const translated = counts.reduce((sum, c) => sum + c.translated, 0);
    const share = executed === 0 ? 0 : Math.round((100 * translated) / executed);
    console.log(`${engine}: ${executed} instructions, ${share} % of them translated`);
  } finally {
    await Promise.all([machine.destroy(), firmware?.destroy()]);
  }
}
console.log(failed === 0 ? "nothing that RVWMO forbids" : `${failed} tests failed`);
process.exit(failed === 0 ? 0 : 1);
