// Fuzzes the inspector and the loader with structure-aware mutations of streams: no crash, no hang, no
// runaway memory, and consistent reports. A case is its seed and number, so a finding can be repeated:
//   node test/streams/check-fuzz.ts [--cases N] [--seed S] [--case I] [--minutes M]
// The cases run in a thread; this one watches its heart beat and its memory.
import { writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { allSeeds } from "./fuzz/corpus.ts";
import { runCase } from "./fuzz/run-case.ts";
import { type Case, caseOf } from "./fuzz/mutate.ts";
import { random } from "../support/random.ts";

const CASES = 150_000;
/** A case that takes longer hangs; the slowest took 100 ms. */
const HANG_MS = 20_000;
/** Limit for the whole process. */
const MAX_RSS = 2 * 1024 * 1024 * 1024;
const BEATS = 2048;
const TELL_MS = 60_000;
const MAX_FINDINGS = 5;

interface Work {
  readonly seed: number;
  readonly first: number;
  readonly cases: number;
  readonly endMs: number;
  /** The running case, and the number of accepted ones. */
  readonly beat: Int32Array;
}

interface Outcome {
  readonly finding?: string;
  readonly index: number;
  readonly slowest: { readonly ms: number; readonly index: number };
}

/** With a stack, if the case is repeatable. */
async function explained(error: unknown, found: Case): Promise<string> {
  Error.stackTraceLimit = 20;
  const again = await runCase(found).then(
    () => error,
    (second: unknown) => second,
  );
  return again instanceof Error ? (again.stack ?? again.message) : String(again);
}

async function work({ seed, first, cases, endMs, beat }: Work): Promise<Outcome> {
  const seeds = await allSeeds();
  let slowest = { ms: 0, index: first };
  // Most cases end in an error, and stacks cost more than the rest: a finding is run again for its stack.
  Error.stackTraceLimit = 0;
  for (let index = first; index < first + cases; index++) {
    Atomics.store(beat, 0, index);
    const started = performance.now();
    try {
      const outcome = await runCase(caseOf(random, seed, index, seeds));
      if (outcome.whole) Atomics.add(beat, 1, 1);
      if (outcome.loaded) Atomics.add(beat, 2, 1);
    } catch (error) {
      return { finding: await explained(error, caseOf(random, seed, index, seeds)), index, slowest };
    }
    const ms = performance.now() - started;
    if (ms > slowest.ms) slowest = { ms, index };
    if (index % BEATS === 0 && Date.now() > endMs) return { index: index + 1, slowest };
  }
  return { index: first + cases, slowest };
}

/** Waits until the thread is done or a limit is exceeded. */
async function watch(data: Work): Promise<Outcome> {
  const worker = new Worker(new URL(import.meta.url), { workerData: data });
  let outcome: Outcome | undefined;
  const slowest = { ms: 0, index: 0 };
  worker.on("message", (message: Outcome) => {
    outcome = message;
  });
  worker.on("error", (error) => {
    outcome ??= { finding: `the thread ended: ${error.message}`, index: data.beat[0] ?? 0, slowest };
  });
  let before = -1;
  let since = Date.now();
  let told = Date.now();
  while (outcome === undefined) {
    await sleep(100);
    const index = Atomics.load(data.beat, 0);
    if (index !== before) {
      before = index;
      since = Date.now();
    }
    if (Date.now() - told > TELL_MS) {
      told = Date.now();
      console.log(`${index} cases`);
    }
    const rss = process.memoryUsage.rss();
    const finding =
      Date.now() - since > HANG_MS
        ? `hangs: over ${HANG_MS} ms`
        : rss > MAX_RSS
          ? `memory: ${rss} bytes resident (this case, or one before it)`
          : undefined;
    if (finding !== undefined) outcome ??= { finding, index, slowest };
  }
  await worker.terminate();
  return outcome;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      cases: { type: "string" },
      seed: { type: "string" },
      case: { type: "string" },
      minutes: { type: "string" },
      keep: { type: "string" },
    },
  });
  const seed = Number(values.seed ?? Math.floor(Math.random() * 2 ** 31));
  if (values.case !== undefined) {
    const one = caseOf(random, seed, Number(values.case), await allSeeds());
    if (values.keep !== undefined) writeFileSync(values.keep, one.bytes);
    console.log(`seed ${seed}, case ${values.case}: of ${one.seed.name}, ${one.bytes.length} bytes`);
    console.log(await runCase(one));
    return;
  }
  const cases = Number(values.cases ?? CASES);
  const endMs =
    values.minutes === undefined ? Number.MAX_SAFE_INTEGER : Date.now() + Number(values.minutes) * 60_000;
  console.log(`seed ${seed}, ${cases} cases`);
  const beat = new Int32Array(new SharedArrayBuffer(12));
  const started = Date.now();
  let slowest = { ms: 0, index: 0 };
  let next = 0;
  let found = 0;
  while (next < cases && found < MAX_FINDINGS && Date.now() < endMs) {
    const outcome = await watch({ seed, first: next, cases: cases - next, endMs, beat });
    if (outcome.slowest.ms > slowest.ms) ({ slowest } = outcome);
    next = outcome.index;
    if (outcome.finding === undefined) break;
    next++;
    found++;
    console.log(`FOUND in case ${outcome.index}: ${outcome.finding}`);
    console.log(`again: node test/streams/check-fuzz.ts --seed ${seed} --case ${outcome.index} --keep FILE`);
  }
  const seconds = (Date.now() - started) / 1000;
  console.log(
    `${next} cases in ${seconds.toFixed(0)} s (${Math.round(next / seconds)} a second), ${found} found: ` +
      `${beat[1]} read whole, ${beat[2]} loaded; slowest ${slowest.ms.toFixed(0)} ms (case ${slowest.index}); ` +
      `${Math.round(process.resourceUsage().maxRSS / 1024)} MB at most`,
  );
  if (found > 0) process.exitCode = 1;
}

if (isMainThread) await main();
else parentPort?.postMessage(await work(workerData as Work));
