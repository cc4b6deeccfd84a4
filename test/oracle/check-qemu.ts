// Random programs in QEMU and in Wherry's engine, compared: npm run check:qemu -- [--seed N] [--count M]
// [--program I] [--engine translator|interpreter] [--threshold N]. A difference is narrowed down to the first
// instruction after which the two disagree.
import { parseArgs } from "node:util";
import { engineOf, engineOptions } from "./engine-option.ts";
import { batchImage, differences, type Placed, ramSize, randomBatch } from "./batch.ts";
import { RAM_BASE } from "../support/programs/layout.ts";
import { assembleProgram, randomProgram } from "../support/programs/program.ts";
import { qemuVersion, runInQemu } from "./qemu.ts";
import { programSeed } from "../support/random.ts";
import { type OracleEngine, runInWherry } from "./wherry.ts";

const BATCH = 100;

interface Difference {
  readonly index: number;
  readonly lines: readonly string[];
}

/** Runs the programs `first` to `first + count - 1`. */
export async function compareBatch(
  seed: number,
  first: number,
  count: number,
  engine: OracleEngine = {},
): Promise<Difference[]> {
  const image = batchImage(randomBatch(seed, first, count));
  const theirs = await runInQemu(image);
  const ours = runInWherry(image, engine);
  return Array.from({ length: count }, (_, slot) => {
    return { index: first + slot, lines: differences(theirs, ours, slot) };
  }).filter(({ lines }) => lines.length > 0);
}

/** The first item of the program after which the two disagree, and the differences there. */
export async function narrow(seed: number, index: number, engine: OracleEngine = {}): Promise<string[]> {
  const wanted = programSeed(seed, index);
  const items = randomProgram(wanted, 0, 0n).items.length;
  const ramEnd = RAM_BASE + BigInt(ramSize(items));
  const programs: Placed[] = Array.from({ length: items }, (_, slot) => {
    return { program: randomProgram(wanted, slot, ramEnd), keep: slot + 1 };
  });
  const image = batchImage(programs);
  const theirs = await runInQemu(image);
  const ours = runInWherry(image, engine);
  for (const [slot, { program, keep }] of programs.entries()) {
    const lines = differences(theirs, ours, slot);
    if (lines.length === 0) continue;
    const { listing } = assembleProgram(program, slot, keep);
    const { mode, satpMode, mstatus } = program;
    const state = `mode ${mode}, satp mode ${satpMode}, mstatus ${mstatus.toString(16)}`;
    return [state, ...listing.slice(-3), ...lines.slice(0, 8)];
  }
  return ["the whole program differs, no part of it does"];
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      seed: { type: "string", default: String(Date.now() % 2 ** 31) },
      count: { type: "string", default: "2000" },
      program: { type: "string" },
      report: { type: "string", default: "10" },
      ...engineOptions,
    },
  });
  const engine = engineOf(values);
  const version = qemuVersion();
  if (version === undefined)
    throw new Error("check:qemu needs qemu-system-riscv64 (Debian: qemu-system-misc)");
  const seed = Number(values.seed);
  console.log(`${version}; ${engine.engine}, threshold ${engine.threshold}; seed ${seed}`);
  if (values.program !== undefined) {
    console.log((await narrow(seed, Number(values.program), engine)).join("\n  "));
    return;
  }
  const count = Number(values.count);
  const found: Difference[] = [];
  for (let first = 0; first < count; first += BATCH) {
    found.push(...(await compareBatch(seed, first, Math.min(BATCH, count - first), engine)));
  }
  for (const { index } of found.slice(0, Number(values.report))) {
    console.log(`program ${index}: ${(await narrow(seed, index, engine)).join("\n  ")}`);
  }
  console.log(`${count} programs, ${found.length} differ: ${found.map(({ index }) => index).join(" ")}`);
  process.exitCode = found.length === 0 ? 0 : 1;
}

if (import.meta.main) await main();
