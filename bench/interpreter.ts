// Speed of the interpreter or the translator: guest instructions per second in hand-assembled loops, on one
// hart in M-mode.
// npm run bench:interpreter [-- --engine translator]
import { parseArgs } from "node:util";
import { asm, HartHarness, RAM_BASE } from "../test/support/hart-harness.ts";
import { ENGINE_KINDS } from "../src/hypervisor/shared/engine-kind.ts";
import { buildEngineModule } from "../src/hypervisor/interpreter/engine-module.ts";
import { configureV8 } from "../src/node/node-runtime.ts";
import { nodePlatform } from "../src/node/node-platform.ts";

const r = (name: string, rd: number, rs1: number, rs2: number): number => asm(name, { rd, rs1, rs2 });
const i = (name: string, rd: number, rs1: number, imm: number): number => asm(name, { rd, rs1, imm });

/** x10 counts down; x11 is a buffer. Each loop ends with a branch to its first word. */
const loops: Record<string, number[]> = {
  "alu: add, xor, shift": [
    r("add", 5, 5, 10),
    r("xor", 6, 6, 5),
    asm("slli", { rd: 7, rs1: 6, shamt6: 3 }),
    r("sub", 8, 7, 5),
    i("andi", 9, 8, 255),
    r("or", 5, 5, 9),
    i("addi", 10, 10, -1),
  ],
  "memory: loads and stores": [
    i("andi", 5, 10, 2040),
    r("add", 5, 5, 11),
    i("ld", 6, 5, 0),
    r("add", 6, 6, 10),
    asm("sd", { rs1: 5, rs2: 6, imm: 0 }),
    i("lw", 7, 5, 4),
    asm("sw", { rs1: 5, rs2: 7, imm: 8 }),
    i("lbu", 8, 5, 1),
    i("addi", 10, 10, -1),
  ],
  "memory: eight accesses by a register": [
    i("andi", 5, 10, 2040),
    r("add", 5, 5, 11),
    ...[0, 8, 16, 24].map((imm) => asm("sd", { rs1: 5, rs2: 6, imm })),
    ...[0, 8, 16, 24].map((imm) => i("ld", 13 + imm / 8, 5, imm)),
    i("addi", 10, 10, -1),
  ],
  "branches and calls": [
    i("andi", 5, 10, 1),
    asm("beq", { rs1: 5, rs2: 0, imm: 8 }),
    i("addi", 6, 6, 1),
    asm("jal", { rd: 1, imm: 8 }),
    asm("jal", { rd: 0, imm: 12 }),
    i("addi", 7, 7, 1),
    i("jalr", 0, 1, 0),
    i("addi", 10, 10, -1),
  ],
  "mixed: multiply, compare, bytes": [
    r("mul", 5, 10, 10),
    asm("srli", { rd: 6, rs1: 5, shamt6: 7 }),
    i("andi", 6, 6, 1023),
    r("add", 6, 6, 11),
    i("lbu", 7, 6, 0),
    r("sltu", 8, 7, 5),
    r("add", 9, 9, 8),
    asm("sb", { rs1: 6, rs2: 9, imm: 0 }),
    i("addiw", 12, 9, 3),
    i("addi", 10, 10, -1),
  ],
};
const { values } = parseArgs({ options: { engine: { type: "string", default: "interpreter" } } });
const engine = ENGINE_KINDS.find((kind) => kind === values.engine);
if (engine === undefined) throw new Error(`--engine is ${ENGINE_KINDS.join(" or ")}`);

// CPU time is counted in steps of 4 ms.
const BUDGET = engine === "translator" ? 500_000_000 : 20_000_000;
const WARM_UP = 3;
const SAMPLES = 15;

/** CPU time of this thread in ms, which a busy machine disturbs less than wall time. */
const cpuMs = (): number => process.threadCpuUsage().user / 1000;

/** Prints millions of guest instructions per second of CPU time. */
function measure(name: string, body: readonly number[]): void {
  const harness = new HartHarness({ engine, exact: false });
  harness.load([...body, asm("bne", { rs1: 10, rs2: 0, imm: -4 * body.length })]);
  harness.setX(10, 1n << 60n);
  harness.setX(11, RAM_BASE + 0x10000n);
  for (let n = 0; n < WARM_UP; n++) harness.run(BUDGET);
  const samples = Array.from({ length: SAMPLES }, () => {
    const start = cpuMs();
    harness.run(BUDGET);
    return BUDGET / (cpuMs() - start) / 1000;
  }).sort((a, b) => a - b);
  const [median, best] = [samples[SAMPLES >> 1], samples[SAMPLES - 1]] as [number, number];
  console.log(
    `${name.padEnd(34)} ${median.toFixed(0).padStart(5)} MIPS median, ${best.toFixed(0).padStart(5)} best`,
  );
}

/**
 * Measures the time to build and start the engine, and the time until optimised code replaces the baseline.
 */
function measureStart(): void {
  const start = performance.now();
  const bytes = buildEngineModule(engine, nodePlatform.hasTotalStoreOrder);
  const built = performance.now();
  new WebAssembly.Module(bytes);
  const compiled = performance.now();
  const harness = new HartHarness({ engine, exact: false });
  harness.load([asm("addi", { rd: 5, rs1: 5, imm: 1 }), asm("jal", { imm: -4 })]);
  const running = performance.now();
  let first = 0;
  for (let mips = 0, last = running; mips < 10 * first || first === 0; ) {
    harness.run(20_000);
    const now = performance.now();
    mips = 20 / (now - last);
    if (first === 0) first = mips;
    last = now;
    if (now - running > 2000) break;
  }
  console.log(
    `engine: ${bytes.length} bytes, built in ${(built - start).toFixed(0)} ms, ` +
      `compiled in ${(compiled - built).toFixed(0)} ms, first slice ${first.toFixed(0)} MIPS, ` +
      `ten times that after ${(performance.now() - running).toFixed(0)} ms`,
  );
}

configureV8();
measureStart();
for (const [name, body] of Object.entries(loops)) measure(name, body);
