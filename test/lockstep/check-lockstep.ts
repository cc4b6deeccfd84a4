// npm run check:lockstep -- [--instructions N] [--seconds N] [--seed S] [--engine translator|interpreter]
// [--threshold T] [--group G [--program P]] [--no-kicks]: random programs on the interpreter and on the
// engine under test, compared slice by slice. First it must find its planted faults. The programs of a group
// share two harts, so that each meets the caches of the previous one. A program with a difference is shrunk
// to the items that cause it.
import { parseArgs } from "node:util";
import type { EngineKind } from "../../src/hypervisor/shared/engine-kind.ts";
import type { HarnessOptions } from "../support/hart-harness.ts";
import { programSeed, Random } from "../support/random.ts";
import { Kicker } from "./kicker.ts";
import { type Difference, Pair, type Planted, type RunOptions } from "./lockstep.ts";
import { type LockstepProgram, lockstepProgram, programImage } from "./program.ts";
import { shrink, trace } from "./shrink.ts";

const GROUP = 8;

interface Group {
  readonly options: HarnessOptions;
  readonly programs: readonly LockstepProgram[];
  readonly runs: readonly RunOptions[];
}

/** Group `index` of a run: its programs, how long each runs, and the engine under test. */
function groupOf(seed: number, index: number): Group {
  const r = new Random(programSeed(seed, index));
  const programs = Array.from({ length: GROUP }, () => lockstepProgram(r.u32()));
  const runs = programs.map(() => {
    // Small slices are mostly interpreted.
    const largestSlice = r.pick([16, 300, 3000, 20_000, 20_000, 20_000]);
    return { steps: Math.min(r.pick([3000, 20_000, 60_000]), 100 * largestSlice), largestSlice };
  });
  return { options: engineOptions(r), programs, runs };
}

interface Found {
  readonly program: number;
  readonly difference: Difference;
}

/** Runs a group, or only its program `only`. Returns the first difference. */
function runGroup(pair: Pair, { programs, runs }: Group, only?: number): Found | undefined {
  for (const [i, program] of programs.entries()) {
    if (only !== undefined && only !== i) continue;
    const difference = pair.run(program, runs[i] as RunOptions);
    if (difference !== undefined) return { program: i, difference };
  }
  return undefined;
}

const PLANTED: readonly Planted["kind"][] = ["x", "f", "fflags", "mcause", "minstret", "ram"];

/** Each planted fault must be found, with two interpreters. */
function checkPlanted(seed: number): void {
  for (const [i, kind] of PLANTED.entries()) {
    const pair = new Pair({ engine: "interpreter" }, { planted: { kind, after: 20_000 } });
    let found: Found | undefined;
    for (let g = 0; g < 4 && found === undefined; g++) found = runGroup(pair, groupOf(seed, i * 4 + g));
    const line = found?.difference.lines[0];
    if (line === undefined) throw new Error(`planted ${kind}: not found`);
    console.log(`planted ${kind}: found, ${line}`);
  }
}

/** Whether another thread kicks the tested hart. */
const isKicked = (group: number): boolean => group % 5 === 1;

function report(seed: number, group: number, { program, difference }: Found, whole: Group): void {
  console.log(`seed ${seed}, group ${group}, program ${program}: DIFFERENT ${difference.where}`);
  console.log(`  ${JSON.stringify(whole.options)}; ${(whole.programs[program] as LockstepProgram).summary}`);
  for (const line of difference.lines.slice(0, 12)) console.log(`  ${line}`);
  const subject = whole.programs[program] as LockstepProgram;
  const options = whole.runs[program] as RunOptions;
  const alone = new Pair(whole.options).run(subject, options);
  if (alone === undefined) {
    console.log(
      `  not alone: --group ${group} runs the programs before it too${isKicked(group) ? " and kicks" : ""}`,
    );
    return;
  }
  const { kept, difference: least } = shrink(subject, options, whole.options, alone);
  const { listing } = programImage(subject, (i) => kept.has(i));
  console.log(`  alone, with ${kept.size} of ${subject.entries.length} items: ${least.where}`);
  for (const line of [...least.lines.slice(0, 12), ...listing]) console.log(`    ${line}`);
  console.log("  the judge's last steps:");
  for (const line of trace(subject, options, kept, least)) console.log(`    ${line}`);
}

const { values } = parseArgs({
  allowNegative: true,
  options: {
    instructions: { type: "string" },
    seed: { type: "string", default: String(Date.now() % 2 ** 31) },
    engine: { type: "string", default: "translator" },
    threshold: { type: "string" },
    group: { type: "string" },
    program: { type: "string" },
    seconds: { type: "string" },
    report: { type: "string", default: "3" },
    kicks: { type: "boolean", default: true },
  },
});
const seed = Number(values.seed);
/** Default: what CI has time for. */
const wanted = Number(values.instructions ?? 1_500_000);
const seconds = Number(values.seconds ?? (values.instructions === undefined ? 80 : Infinity));
if (values.engine !== "interpreter" && values.engine !== "translator")
  throw new Error(`no engine ${values.engine}`);
const { engine, threshold } = { engine: values.engine as EngineKind, threshold: values.threshold };

/**
 * Mostly, code is translated at its first execution. Sometimes it is translated later, memory for translated
 * code is scarce, or slices end exactly.
 */
function engineOptions(r: Random): HarnessOptions {
  const heat = r.pick([0, 0, 0, 0, 1, 4, 30]);
  return {
    engine,
    threshold: threshold === undefined ? heat : Number(threshold),
    exact: r.oneIn(4),
    ...(r.oneIn(4) ? { codeCacheBytes: r.pick([1 << 14, 1 << 16, 1 << 18]) } : {}),
  };
}
console.log(`lock-step of the interpreter and the ${values.engine}: ${wanted} instructions, seed ${seed}`);

let steps = 0;
let slices = 0;
let kicks = 0;
let translated = 0;
let programs = 0;
let failures = 0;
const began = performance.now();
const isLate = (): boolean => performance.now() - began > 1000 * seconds;

const kicker = values.kicks ? new Kicker() : undefined;

function runOne(index: number, only?: number): void {
  const group = groupOf(seed, index);
  const pair = new Pair(group.options, kicker !== undefined && isKicked(index) ? { kicker } : {});
  const found = runGroup(pair, group, only);
  steps += pair.steps;
  slices += pair.slices;
  kicks += pair.kicks;
  translated += pair.translated;
  programs += only === undefined ? GROUP : 1;
  if (found === undefined) return;
  failures++;
  report(seed, index, found, group);
}

if (values.group !== undefined) {
  runOne(Number(values.group), values.program === undefined ? undefined : Number(values.program));
} else {
  checkPlanted(seed);
  for (let index = 0; steps < wanted && failures < Number(values.report) && !isLate(); index++) runOne(index);
}
await kicker?.end();
const time = ((performance.now() - began) / 1000).toFixed(1);
console.log(
  `${steps} instructions (${Math.round((100 * translated) / Math.max(steps, 1))} % translated) of ${programs} programs in ${slices} slices with ${kicks} kicks, ${time} s: ${failures === 0 ? "no difference" : `${failures} groups differ`}`,
);
process.exitCode = failures === 0 ? 0 : 1;
