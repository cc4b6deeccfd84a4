// Vectors of floating-point operands through executed guest instructions: a loop loads the operands, executes
// the one instruction, and stores its result and fflags. This tests an engine's whole path, loads and moves
// included, not only its arithmetic. Supports every row of the table that computes on registers.
import { encode, type Operands } from "../../src/hypervisor/isa/instruction-encoding.ts";
import { rowNamed } from "../../src/hypervisor/isa/isa.ts";
import { asm, type HarnessOptions, HartHarness, RAM_BASE } from "../support/hart-harness.ts";

/** Bytes of a vector in memory: three operands, the result, fflags before and after. */
const STRIDE = 48;
const RESULT = 24;
const FLAGS = 32;
const VECTORS = RAM_BASE + 0x10000n;
/** Maximum number of vectors in a call. */
export const BATCH = 4096;
const RAM_SIZE = 0x10000 + Math.ceil((BATCH * STRIDE) / 0x10000) * 0x10000;
const DYNAMIC = 7;
const [BASE, LEFT, FLAG, RD] = [10, 11, 12, 13];
const MSTATUS_FS = 3n << 13n;

/** A vector's operands as register values, and the flags before it. */
export interface FloatVector {
  readonly operands: readonly bigint[];
  readonly flagsBefore: number;
}
export interface FloatResult {
  readonly result: bigint;
  readonly flags: number;
}

export class FloatGuest {
  readonly #harness: HartHarness;

  constructor(engine: Pick<HarnessOptions, "engine" | "threshold">) {
    this.#harness = new HartHarness({ ...engine, ramSize: RAM_SIZE });
  }

  /** `dynamic`: the rounding mode comes from frm. Throws if the instruction traps. */
  run(name: string, rm: number, dynamic: boolean, vectors: readonly FloatVector[]): FloatResult[] {
    if (vectors.length > BATCH) throw new RangeError(`${vectors.length} vectors, ${BATCH} fit`);
    const h = this.#harness;
    const program = loopOf(name, dynamic ? DYNAMIC : rm);
    h.load(program);
    for (const [i, { operands, flagsBefore }] of vectors.entries()) {
      const at = h.offset(VECTORS) + i * STRIDE;
      for (const [n, operand] of operands.entries()) h.view.setBigUint64(at + 8 * n, operand, true);
      h.view.setBigUint64(at + FLAGS, BigInt(flagsBefore), true);
    }
    const { hart } = h;
    hart.set("pc", RAM_BASE);
    hart.set("mstatus", MSTATUS_FS);
    hart.set("frm", dynamic ? BigInt(rm) : 0n);
    h.setX(BASE, VECTORS);
    h.setX(LEFT, BigInt(vectors.length));
    const end = RAM_BASE + BigInt((program.length - 1) * 4);
    for (let slices = 0; hart.get("pc") !== end; slices++) {
      h.run(100_000);
      if (slices > 100 || hart.get("mcause") !== 0n)
        throw new Error(`${name} rm ${rm}: cause ${hart.get("mcause")}, pc ${hart.get("pc").toString(16)}`);
    }
    return vectors.map((_, i) => {
      const at = h.offset(VECTORS) + i * STRIDE;
      return {
        result: h.view.getBigUint64(at + RESULT, true),
        flags: Number(h.view.getBigUint64(at + FLAGS + 8, true)),
      };
    });
  }
}

/** The loop around the instruction; it ends with a jump to itself. */
function loopOf(name: string, rm: number): number[] {
  const row = rowNamed(name);
  const operands: Operands = row.fields.has("rm") ? { rm } : {};
  const loads: number[] = [];
  for (const [n, source] of [1, 2, 3].entries()) {
    const [x, f] = [`rs${source}`, `frs${source}`] as ["rs1", "frs1"];
    const register = 20 + n;
    if (row.fields.has(x)) {
      operands[x] = register;
      loads.push(asm("ld", { rd: register, rs1: BASE, imm: 8 * n }));
    } else if (row.fields.has(f)) {
      operands[f] = register;
      loads.push(asm("fld", { frd: register, rs1: BASE, imm: 8 * n }));
    }
  }
  const toX = row.fields.has("rd");
  operands[toX ? "rd" : "frd"] = RD;
  const body = [
    ...loads,
    asm("ld", { rd: FLAG, rs1: BASE, imm: FLAGS }),
    asm("csrrw", { rd: 0, rs1: FLAG, csr: 1 }),
    encode(row, operands),
    asm("csrrs", { rd: FLAG, rs1: 0, csr: 1 }),
    toX ? asm("sd", { rs1: BASE, rs2: RD, imm: RESULT }) : asm("fsd", { rs1: BASE, frs2: RD, imm: RESULT }),
    asm("sd", { rs1: BASE, rs2: FLAG, imm: FLAGS + 8 }),
    asm("addi", { rd: BASE, rs1: BASE, imm: STRIDE }),
    asm("addi", { rd: LEFT, rs1: LEFT, imm: -1 }),
  ];
  return [...body, asm("bne", { rs1: LEFT, rs2: 0, imm: -4 * body.length }), asm("jal", { rd: 0, imm: 0 })];
}
