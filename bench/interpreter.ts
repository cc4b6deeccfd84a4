// Speed of the interpreter: guest instructions per second on loops assembled by hand, one hart, M-mode.
// npm run bench:interpreter
import { asm, HartHarness, RAM_BASE } from "../test/hart-harness.ts";
import { buildEngineModule } from "../src/hypervisor/riscv/engine.ts";

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
/** The memory loop in compressed form: c.ld, c.sd, c.lw, c.sw, c.addi, c.add, c.bnez. */
const compressedLoop = [0x4188, 0x6590, 0xe590, 0x962e, 0x45d4, 0xc5d4, 0x157d];

const BUDGET = 2_000_000;

function measure(name: string, load: (harness: HartHarness) => void): void {
  const harness = new HartHarness();
  load(harness);
  harness.setX(10, 1n << 60n);
  harness.setX(11, RAM_BASE + 0x10000n);
  for (let n = 0; n < 20; n++) harness.run(BUDGET);
  const samples: number[] = [];
  for (let n = 0; n < 15; n++) {
    const start = performance.now();
    harness.run(BUDGET);
    samples.push(BUDGET / (performance.now() - start) / 1000);
  }
  samples.sort((a, b) => a - b);
  const best = samples.at(-1) as number;
  const median = samples[samples.length >> 1] as number;
  console.log(
    `${name.padEnd(34)} ${median.toFixed(0).padStart(5)} MIPS median, ${best.toFixed(0).padStart(5)} best`,
  );
}

const start = performance.now();
const bytes = buildEngineModule(0x100000);
const built = performance.now();
const module = new WebAssembly.Module(bytes);
const compiled = performance.now();
console.log(
  `engine: ${bytes.length} bytes, built in ${(built - start).toFixed(0)} ms, compiled in ${(compiled - built).toFixed(0)} ms (${WebAssembly.Module.exports(module).length} exports)`,
);
for (const [name, body] of Object.entries(loops)) {
  measure(name, (harness) => harness.load([...body, asm("bne", { rs1: 10, rs2: 0, imm: -4 * body.length })]));
}
void compressedLoop;
