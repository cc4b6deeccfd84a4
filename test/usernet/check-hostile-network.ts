// `npm run check:hostile-network`: a hostile guest's frames, by the hundred thousand. See hostile-frames.ts.
//   --count N frames (default 80,000); --seed S; --case I one case alone; --minutes M at most
import { options } from "../support/cases.ts";
import { FRAMES_OF_A_CASE, runHostileCase } from "./hostile-frames.ts";

const given = options({ count: 80_000, case: "", minutes: 600 });
/** Growth of the process's memory that is no leak. */
const MAX_GROWTH = 400 << 20;
/** A case that takes longer hangs: the slowest takes a fraction of a second. */
const MAX_CASE_MS = 60_000;

async function tried(index: number): Promise<void> {
  const began = performance.now();
  try {
    await runHostileCase(given.seed, index);
  } catch (error) {
    console.log(`case ${index} FAILED: ${(error as Error).stack}`);
    console.log(`again: npm run check:hostile-network -- --seed ${given.seed} --case ${index}`);
    process.exit(1);
  }
  const ms = performance.now() - began;
  if (ms < MAX_CASE_MS) return;
  console.log(`case ${index} FAILED: it took ${Math.round(ms / 1000)} s (seed ${given.seed})`);
  process.exit(1);
}

console.log(`hostile frames, seed ${given.seed}`);
if (given.case !== "") {
  await tried(Number(given.case));
  console.log("1 passed, 0 failed");
  process.exit(0);
}
const cases = Math.ceil(given.count / FRAMES_OF_A_CASE);
const began = performance.now();
let base = 0;
let done = 0;
for (; done < cases && performance.now() - began < given.minutes * 60_000; done++) {
  await tried(done);
  // The first ones warm up the compiler.
  if (done === Math.min(40, cases >> 1)) base = process.memoryUsage.rss();
  const growth = process.memoryUsage.rss() - base;
  if (base > 0 && growth > MAX_GROWTH) {
    console.log(`FAILED: ${growth >> 20} MiB more than at the start after ${done} cases`);
    process.exit(1);
  }
}
const seconds = (performance.now() - began) / 1000;
const frames = done * FRAMES_OF_A_CASE;
console.log(
  `${frames} frames in ${seconds.toFixed(1)} s, ${Math.round(frames / seconds)} a second: no crash, nothing reached that is not allowed`,
);
console.log(`${done} passed, 0 failed`);
