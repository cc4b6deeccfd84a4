// Random loops of accesses by moving pointers on the translator and on the interpreter, with random pages and
// page-table entries, and random events between slices that invalidate translations. WHERRY_SEED replays
// them, WHERRY_RUNS is their number.
import { test } from "vitest";
import { V, R, W, X, U, A, D, ALL, PAGE, frame, MODES, Both } from "../../../test/support/both-engines.ts";
import { Random } from "../../../test/support/random.ts";
import type { HartHarness } from "../../../test/support/hart-harness.ts";
import { hartBase } from "../shared/memory-map.ts";
import { ALL_SPACES } from "../hart/engine-interface.ts";
import { PRIV } from "../../riscv/privilege.ts";
import { seed } from "../../../test/support/seed.ts";

const RUNS = Number(process.env["WHERRY_RUNS"] ?? 60);

const r = new Random(seed);

type Flush = (h: HartHarness) => void;
const ACCESSES = "lb lbu lh lhu lw lwu ld sb sh sw sd flw fld fsw fsd".split(" ");
const POINTERS = ["a0", "a1", "a2"] as const;
/** Pages around address 0 that may be mapped. */
const WINDOW_PAGES = 8;

const randomAddress = (): bigint => {
  const page = BigInt(r.int(2 * WINDOW_PAGES) - WINDOW_PAGES) * PAGE;
  const offset = r.pick([r.int(4096), 4096 - r.int(40), r.int(40), 8 * r.int(512)]);
  return page + BigInt(r.oneIn(3) ? offset : offset & -8);
};

function randomAccess(pointer: string): string {
  const row = r.pick(ACCESSES);
  const size = 1 << "bhwd".indexOf((/[ls]([bhwd])/.exec(row) ?? [])[1] as string);
  const range = r.pick([16, 64, 600, 4096]);
  const offset = r.int(range) - range / 2;
  const value = row.startsWith("f") ? `f${r.int(4)}` : r.pick(["t0", "t1", "t2", "a5", "a6"]);
  return `${row} ${value}, ${r.oneIn(5) ? offset : offset & -size}(${pointer})`;
}

function randomStep(pointer: string): string {
  const step = r.pick([0, 1, -1, 4, 8, 8, 8, -8, 16, -16, 24, 64, 512, -1024, 2047, -2048, r.int(64)]);
  return `addi ${pointer}, ${pointer}, ${step}`;
}

function randomBody(): string {
  const lines: string[] = [];
  for (let i = 2 + r.int(8); i > 0; i--) {
    const pointer = r.pick(POINTERS);
    const access = randomAccess(pointer);
    lines.push(
      r.pick([
        access,
        access,
        access,
        [0, 1, 2].map(() => randomAccess(pointer)).join("\n"),
        randomStep(pointer),
        `andi t3, ${r.pick(["t0", "a5"])}, ${r.pick([7, 127, 1016])}\n add t3, t3, a7\n ${randomAccess("t3")}`,
        `add t3, s6, ${r.pick(POINTERS)}\n ${randomAccess("t3")}`,
        `beqz ${r.pick(["t0", "t1"])}, 1f\n ${access}\n 1: ${r.oneIn(2) ? randomStep(pointer) : access}`,
        r.oneIn(3) ? "sfence.vma" : "add a5, a5, t0",
        r.oneIn(3) ? `mv ${pointer}, s${7 + r.int(3)}` : "xor a6, a6, t1",
      ]),
    );
  }
  if (r.oneIn(2)) for (const pointer of POINTERS) if (r.oneIn(2)) lines.push(randomStep(pointer));
  return lines.join("\n");
}

function randomLoops(): string {
  const loops = Array.from({ length: 1 + r.int(3) }, (_, i) => {
    const set = POINTERS.map((pointer, n) => (r.oneIn(3) ? "" : `mv ${pointer}, s${7 + ((i + n) % 3)}`));
    return `${set.join("\n")}\n li s3, ${r.pick([5, 40, 300])}\n loop${i}:\n ${randomBody()}\n addi s3, s3, -1\n bnez s3, loop${i}`;
  });
  return `start:\n ${loops.join("\n")}\n j start`;
}

const randomFlags = (): bigint =>
  r.pick([ALL, ALL, ALL, ALL, ALL & ~D, ALL & ~(A | D), ALL & ~W, V | R | W, V | X | A, ALL | U, 0n]);

test.each(Array.from({ length: RUNS }, (_, i) => i))("random loops, run %i", (run) => {
  const both = new Both(r.pick(MODES)[1]);
  const text = randomLoops();
  both.code(text);
  const pages = Array.from({ length: 2 * WINDOW_PAGES }, (_, i) => i - WINDOW_PAGES);
  for (const n of pages) both.map(n, frame(r.int(12)), r.oneIn(2) ? ALL : randomFlags());
  both.each(({ hart }) => hart.set("mstatus", 3n << 13n));
  both.start(PRIV.S, {
    ...{ x23: randomAddress(), x24: randomAddress(), x25: randomAddress(), x17: randomAddress() },
    x22: BigInt(8 * r.int(64)),
  });
  try {
    both.warm(1 + r.int(4000));
    for (let slice = 0; slice < 8; slice++) {
      const n = r.pick(pages);
      const flush = r.pick<Flush | undefined>([
        (h) => h.engine.flushTlb(hartBase(0)),
        (h) => h.engine.flushTlbPage(hartBase(0), BigInt.asUintN(64, BigInt(n) * PAGE), ALL_SPACES),
        (h) => h.clearDirty(),
        undefined,
      ]);
      if (flush !== undefined) {
        both.map(n, frame(r.int(12)), randomFlags());
        both.each(flush);
      }
      if (r.oneIn(4)) both.each((h) => h.markCode(frame(slice)));
      both.run(1 + r.int(r.pick([20, 300, 9000])));
    }
  } catch (error) {
    console.log(`seed ${seed}, run ${run}:\n${text}`);
    throw error;
  }
});
