// Speed of F, D and Zfh: hand-assembled loops on one hart in M-mode, in both engines. Figures are CPU time:
// ns for each iteration, and for each of its floating-point instructions (loads and stores not counted).
// npm run bench:float [-- --only WORD]
import { parseArgs } from "node:util";
import { configureV8 } from "../src/node/node-runtime.ts";
import { hasFusedMultiplyAdd } from "../src/wasm/fused.ts";
import { asm, HartHarness, RAM_BASE } from "../test/support/hart-harness.ts";

const r = (name: string, frd: number, frs1: number, frs2: number, rm = 7): number =>
  asm(name, { frd, frs1, frs2, rm });
const fma = (name: string, frd: number, frs1: number, frs2: number, frs3: number, rm = 7): number =>
  asm(name, { frd, frs1, frs2, frs3, rm });
const i = (name: string, rd: number, rs1: number, imm: number): number => asm(name, { rd, rs1, imm });
const fld = (frd: number, imm: number): number => asm("fld", { frd, rs1: 5, imm });
const fsd = (frs2: number, imm: number): number => asm("fsd", { frs2, rs1: 5, imm });
const flw = (frd: number, imm: number): number => asm("flw", { frd, rs1: 5, imm });

/**
 * x10 counts down, x11 is a buffer of doubles, x12 of floats; x5 walks through one of them; results are
 * stored after it.
 */
interface Loop {
  readonly body: readonly number[];
  /** Values in the buffers and in f0 to f31. Default: arbitrary values of the order of 1. */
  readonly value?: (n: number) => number;
  /** The initial fcsr. Default: NX is set. */
  readonly fcsr?: bigint;
}
const walk = (base: number): number[] => [i("andi", 5, 10, 0x7e0), asm("add", { rd: 5, rs1: 5, rs2: base })];

const dot = [...walk(11), fld(1, 0), fld(2, 8), fma("fmadd.d", 3, 1, 2, 3)];
const directed = [
  r("fadd.d", 1, 4, 5, 2),
  r("fmul.d", 2, 5, 6, 3),
  r("fsub.d", 3, 6, 7, 1),
  r("fdiv.d", 8, 6, 7, 4),
];
const loops: Record<string, Loop> = {
  "dot product": { body: dot },
  "dot product of floats": {
    body: [...walk(12), flw(1, 0), flw(2, 4), fma("fmadd.s", 3, 1, 2, 3)],
  },
  "dot product without fmadd": {
    body: [...walk(11), fld(1, 0), fld(2, 8), r("fmul.d", 4, 1, 2), r("fadd.d", 3, 3, 4)],
  },
  "small integers, NX clear": { body: dot, value: (n) => (n % 7) - 3, fcsr: 0n },
  "small integers, NX clear, no fmadd": {
    body: [...walk(11), fld(1, 0), fld(2, 8), r("fmul.d", 4, 1, 2), r("fadd.d", 3, 3, 4)],
    value: (n) => (n % 7) - 3,
    fcsr: 0n,
  },
  "halves: two conversions, mul, add, fmadd": {
    body: [
      ...walk(11),
      fld(1, 0),
      fld(2, 8),
      asm("fcvt.h.d", { frd: 1, frs1: 1, rm: 7 }),
      asm("fcvt.h.d", { frd: 2, frs1: 2, rm: 7 }),
      r("fmul.h", 4, 1, 2),
      r("fadd.h", 3, 4, 2),
      fma("fmadd.h", 5, 1, 2, 3),
    ],
  },
  "planets: distance, root, quotient": {
    body: [
      ...walk(11),
      fld(1, 0),
      fld(2, 8),
      r("fsub.d", 1, 1, 6),
      r("fsub.d", 2, 2, 7),
      r("fmul.d", 3, 1, 1),
      fma("fmadd.d", 3, 2, 2, 3),
      r("fadd.d", 3, 3, 8),
      asm("fsqrt.d", { frd: 4, frs1: 3, rm: 7 }),
      r("fmul.d", 3, 3, 4),
      r("fdiv.d", 3, 8, 3),
      fma("fnmsub.d", 1, 1, 3, 9),
      fma("fmadd.d", 2, 2, 3, 10),
      fsd(1, 2032),
      fsd(2, 2040),
    ],
  },
  "Mandelbrot set": {
    body: [
      r("fmul.d", 3, 1, 1),
      r("fmul.d", 4, 2, 2),
      r("fadd.d", 5, 1, 1),
      fma("fmadd.d", 2, 5, 2, 8),
      r("fsub.d", 6, 3, 4),
      r("fadd.d", 1, 6, 9),
      r("fadd.d", 7, 3, 4),
      asm("flt.d", { rd: 6, frs1: 7, frs2: 10 }),
    ],
    // A point of the set, so that z stays small.
    value: (n) => (n === 10 ? 4 : 0.1),
  },
  "FFT butterfly": {
    body: [
      ...walk(11),
      fld(1, 0),
      fld(2, 8),
      fld(3, 16),
      fld(4, 24),
      r("fmul.d", 5, 3, 8),
      fma("fnmsub.d", 5, 4, 9, 5),
      r("fmul.d", 6, 3, 9),
      fma("fmadd.d", 6, 4, 8, 6),
      r("fadd.d", 10, 1, 5),
      r("fadd.d", 11, 2, 6),
      r("fsub.d", 12, 1, 5),
      r("fsub.d", 13, 2, 6),
      fsd(10, 2016),
      fsd(11, 2024),
      fsd(12, 2032),
      fsd(13, 2040),
    ],
    // A rotation by 36.87°.
    value: (n) => (n === 8 ? 0.8 : n === 9 ? 0.6 : (n % 13) / 13),
  },
  "compare, min, max, convert, sign": {
    body: [
      r("fmin.d", 1, 4, 5),
      r("fmax.d", 2, 4, 5),
      asm("flt.d", { rd: 6, frs1: 1, frs2: 2 }),
      asm("feq.d", { rd: 7, frs1: 1, frs2: 2 }),
      asm("fcvt.w.d", { rd: 8, frs1: 5, rm: 1 }),
      asm("fcvt.d.w", { frd: 3, rs1: 10, rm: 0 }),
      r("fsgnjx.d", 6, 3, 3),
      r("fsgnj.d", 7, 6, 4),
    ],
  },
  "floor, as glibc has it": {
    body: [
      asm("csrrs", { rd: 6, csr: 1, rs1: 0 }),
      asm("fcvt.l.d", { rd: 7, frs1: 4, rm: 2 }),
      asm("fcvt.d.l", { frd: 1, rs1: 7, rm: 2 }),
      asm("csrrw", { rd: 0, csr: 1, rs1: 6 }),
    ],
  },
  "directed rounding": { body: directed },
  "directed rounding, NX clear": { body: directed, value: (n) => (n === 7 ? 2 : n % 7), fcsr: 0n },
  "subnormal numbers": {
    body: [r("fadd.d", 1, 4, 5), r("fmul.d", 2, 5, 6), fma("fmadd.d", 3, 4, 5, 6)],
    value: (n) => n * 2 ** -1060,
  },
};
const SAMPLES = 9;
const BUFFER = RAM_BASE + 0x10000n;

/** CPU time of this thread in ms, which a busy machine disturbs less than wall time. */
function cpuMs(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1000;
}

/** ns for each iteration. */
function measure(
  { body, value = (n) => 0.5 + ((n * 37) % 101) / 101, fcsr = 1n }: Loop,
  engine: "interpreter" | "translator",
): number {
  const harness = new HartHarness({ engine, threshold: 20, exact: false });
  harness.load([
    ...body,
    i("addi", 10, 10, -32),
    asm("bne", { rs1: 10, rs2: 0, imm: -4 * (body.length + 1) }),
  ]);
  harness.setX(10, 1n << 60n);
  harness.setX(11, BUFFER);
  harness.setX(12, BUFFER + 0x1000n);
  harness.hart.set("mstatus", 3n << 13n);
  harness.hart.set("fflags", fcsr);
  for (let n = 0; n < 0x200; n++) {
    harness.view.setFloat64(harness.offset(BUFFER) + n * 8, value(n), true);
    harness.view.setFloat32(harness.offset(BUFFER) + 0x1000 + n * 4, value(n), true);
  }
  const bits = new DataView(new ArrayBuffer(8));
  const isSingle = body.some((word) => word === flw(1, 0));
  for (let n = 0; n < 32; n++) {
    bits.setBigInt64(0, -1n);
    if (isSingle) bits.setFloat32(4, value(n));
    else bits.setFloat64(0, value(n));
    harness.hart.set("f", bits.getBigUint64(0), n);
  }
  const instructions = body.length + 2;
  let budget = instructions * 1000;
  const sample = (): { ms: number; ns: number } => {
    const before = harness.hart.get("minstret");
    const start = cpuMs();
    harness.run(budget);
    const ms = cpuMs() - start;
    return { ms, ns: (ms * 1e6 * instructions) / Number(harness.hart.get("minstret") - before) };
  };
  // Repeat until the code is optimised, and a sample is long enough for the clock.
  for (const end = performance.now() + 300; performance.now() < end; ) {
    if (sample().ms < 20 && budget < 2 ** 29) budget *= 2;
  }
  const samples = Array.from({ length: SAMPLES }, () => sample().ns).sort((a, b) => a - b);
  return samples[SAMPLES >> 1] as number;
}

configureV8();
const { values } = parseArgs({ options: { only: { type: "string", default: "" } } });
const isFloat = (word: number): boolean => (word & 0x7f) === 0x53 || (word & 0x73) === 0x43;
console.log(
  `fused multiply-add of the host: ${hasFusedMultiplyAdd() ? "yes" : "no"}; ns (ns a float instruction)`,
);
for (const [name, loop] of Object.entries(loops)) {
  if (!name.includes(values.only)) continue;
  const floats = loop.body.filter(isFloat).length;
  const columns = (["interpreter", "translator"] as const).map((engine) => {
    const ns = measure(loop, engine);
    return `${engine} ${ns.toFixed(1).padStart(6)} (${(ns / floats).toFixed(1).padStart(5)})`;
  });
  console.log(`${name.padEnd(36)} ${columns.join("   ")}`);
}
