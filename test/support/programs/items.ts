// Items of a random program that compute, access memory and branch. Instructions come from the engine's own
// table, so a row with a wrong encoding shows as a difference. x2, x8 and x18 point into scratch memory, x19
// to an invalid address; all accesses use these as their base, so a program cannot access its neighbours.
// Branches and jumps go forward only, so programs end.
import {
  encode,
  type FieldName,
  type Operands,
  operandsOf,
} from "../../../src/hypervisor/isa/instruction-encoding.ts";
import { rowNamed, rowOf, rows } from "../../../src/hypervisor/isa/isa.ts";
import type { Row } from "../../../src/hypervisor/isa/instruction-semantics.ts";
import type { Random } from "../random.ts";

export type Mode = "U" | "S" | "M";

/** The state on which items depend. */
export interface Context {
  readonly r: Random;
  /** The program's initial mode. */
  readonly mode: Mode;
  /** Loads and stores are not translated. */
  readonly bare: boolean;
  /** The program has page tables (in M-mode they serve MPRV, and S-mode after mret). */
  readonly paged: boolean;
  /** The only interrupt that the program uses, as a bit of mip. */
  readonly interrupt: number;
  /** Initial mstatus.TVM and TW. */
  readonly tvm: boolean;
  readonly tw: boolean;
  /**
   * With PMP entries, all loads and stores are aligned: QEMU's check of an access that crosses a page depends
   * on its TLB.
   */
  readonly usesPmp: boolean;
  /** Also use rows that QEMU lacks or executes differently. */
  readonly everyRow?: boolean;
}

/** One or more instructions, entered at the first only. */
export interface Item {
  /** In bytes. */
  readonly size: number;
  /** 16- or 32-bit units; `target` is the start of the item `reach` items later. */
  readonly encode: (pc: bigint, target: bigint) => Unit[];
  /** Distance of a branch's target in items; 1 is the next item. */
  readonly reach: number;
  readonly text: string;
}
export interface Unit {
  readonly size: 2 | 4;
  readonly word: number;
}

export const POINTERS = [2, 8, 18] as const;
/** An aligned pointer to a page with all permissions. */
export const SAFE_POINTER = 2;
export const WRONG_POINTER = 19;
const RESERVED: readonly number[] = [...POINTERS, WRONG_POINTER];
export const DESTINATIONS = Array.from({ length: 32 }, (_, i) => i).filter((r) => !RESERVED.includes(r));

export const unit = (size: 2 | 4, word: number): Unit => ({
  size,
  word: size === 2 ? word & 0xffff : word >>> 0,
});
export const plain = (text: string, ...units: Unit[]): Item => {
  return { size: units.reduce((sum, u) => sum + u.size, 0), encode: () => units, reach: 1, text };
};

const show = (row: Row, operands: Operands): string => {
  const list = Object.entries(operands).map(([field, value]) => `${field}=${value}`);
  return `${row.name} ${list.join(" ")}`;
};

/** Random values for all fields of `row` except those given. */
export function randomOperands(r: Random, row: Row, given: Operands): Operands {
  const random = operandsOf(row, (row.match | (r.u32() & ~row.mask)) >>> 0);
  const operands: Operands = {};
  for (const [field, value] of Object.entries(random)) {
    // The immediate stands for the fields that hold its bits.
    if (!/^[sbj]?imm\d/.test(field)) operands[field as FieldName] = value;
  }
  // The same registers for f registers: with one bit flipped, the instruction may write an integer register.
  for (const field of ["rd", "frd"] as const)
    if (row.fields.has(field)) operands[field] = r.pick(DESTINATIONS);
  if (row.fields.has("rm")) operands.rm = r.weighted(ROUNDING);
  if (row.immediate !== undefined && row.immediate !== "U" && r.oneIn(3)) operands.imm = r.int(17) - 8;
  return { ...operands, ...given };
}

/** Dynamic, the five modes, and the two reserved ones. */
const ROUNDING = [
  [8, 7],
  [8, 0],
  [2, 1],
  [2, 2],
  [2, 3],
  [2, 4],
  [1, 5],
  [1, 6],
] as const;

export function fixedRow(row: Row, operands: Operands): Item {
  return plain(show(row, operands), unit(4, encode(row, operands)));
}

/** The instruction of this name. */
export const op = (name: string, operands: Operands): Item => fixedRow(rowNamed(name), operands);

const opcode = (row: Row): number => row.match & 0x7f;
const OPCODE = {
  LOAD: 0x03,
  LOAD_FP: 0x07,
  MISC_MEM: 0x0f,
  STORE: 0x23,
  STORE_FP: 0x27,
  AMO: 0x2f,
  BRANCH: 0x63,
  JALR: 0x67,
  JAL: 0x6f,
  SYSTEM: 0x73,
};
const CONTROL = new Set(Object.values(OPCODE));

/** Extensions that QEMU 7.2 does not have. */
const UNKNOWN_TO_QEMU = new Set(["Zicond", "Zawrs", "Zfa"]);
/** QEMU 7.2's ctzw continues counting after a low word of zero. */
const isOtherInQemu = (row: Row | undefined): boolean =>
  row !== undefined && (UNKNOWN_TO_QEMU.has(row.extension) || row.name === "ctzw");

/** Rows that compute in registers only. */
const COMPUTATIONS = rows.filter((row) => !CONTROL.has(opcode(row)));
const JUDGED_COMPUTATIONS = COMPUTATIONS.filter((row) => !isOtherInQemu(row));

export function computation({ r, everyRow = false }: Context): Item {
  const row = r.pick(everyRow ? COMPUTATIONS : JUDGED_COMPUTATIONS);
  return fixedRow(row, randomOperands(r, row, {}));
}

const FLOAT_COMPUTATIONS = COMPUTATIONS.filter((row) => /^([FD]|Zf[ah])$/.test(row.extension));
const JUDGED_FLOAT_COMPUTATIONS = FLOAT_COMPUTATIONS.filter((row) => !isOtherInQemu(row));

export function floatComputation({ r, everyRow = false }: Context): Item {
  const row = r.pick(everyRow ? FLOAT_COMPUTATIONS : JUDGED_FLOAT_COMPUTATIONS);
  return fixedRow(row, randomOperands(r, row, {}));
}

/**
 * Without translation the wrong pointer is to an address without memory. There QEMU reports an AMO as a load,
 * and splits misaligned accesses into parts that fault at their own addresses: only aligned loads and stores.
 */
const pointer = (r: Random): number => (r.oneIn(16) ? WRONG_POINTER : r.pick(POINTERS));

export function access({ r, bare, usesPmp }: Context): Item {
  const kinds = [OPCODE.LOAD, OPCODE.LOAD_FP, OPCODE.STORE, OPCODE.STORE_FP];
  const row = r.pick(rows.filter((candidate) => kinds.includes(opcode(candidate))));
  const size = 1 << ((row.match >> 12) & 3);
  const offset = r.int(4096) - 2048;
  const rs1 = pointer(r);
  const aligned = usesPmp || (bare && rs1 === WRONG_POINTER) || !r.oneIn(5);
  return fixedRow(row, randomOperands(r, row, { rs1, imm: aligned ? offset & -size : offset }));
}

export function atomic({ r, bare }: Context): Item {
  const row = r.pick(
    rows.filter((candidate) => opcode(candidate) === OPCODE.AMO && !/^(lr|sc)\./.test(candidate.name)),
  );
  return fixedRow(row, randomOperands(r, row, { rs1: bare ? r.pick(POINTERS) : pointer(r) }));
}

/**
 * Load-reserved, sometimes an item between, store-conditional to the same or another accessible address;
 * mostly it succeeds.
 */
export function reservation(context: Context): Item {
  const { r } = context;
  const width = r.pick(["w", "d"]);
  const lr = rowNamed(`lr.${width}`);
  const sc = rowNamed(`sc.${width}`);
  const rs1 = SAFE_POINTER;
  const parts = [fixedRow(lr, randomOperands(r, lr, { rs1 }))];
  if (r.oneIn(3)) parts.push(computation(context));
  if (r.oneIn(8)) parts.push(access(context));
  if (r.oneIn(8)) {
    const addi = rowNamed("addi");
    parts.push(fixedRow(addi, { rd: 18, rs1, imm: 8 * r.int(4) }));
    parts.push(fixedRow(sc, randomOperands(r, sc, { rs1: 18 })));
  }
  parts.push(fixedRow(sc, randomOperands(r, sc, { rs1 })));
  return joined(parts);
}

export function joined(parts: readonly Item[]): Item {
  return {
    size: parts.reduce((sum, part) => sum + part.size, 0),
    reach: 1,
    text: parts.map((part) => part.text).join("; "),
    encode: (pc, target) => {
      let at = pc;
      return parts.flatMap((part) => {
        const units = part.encode(at, target);
        at += BigInt(part.size);
        return units;
      });
    },
  };
}

/** Moves x18 within scratch memory, sometimes to a misaligned address. */
export function movePointer({ r, usesPmp }: Context): Item {
  const addi = rowNamed("addi");
  const imm = r.int(4096) - 2048;
  return fixedRow(addi, { rd: 18, rs1: 8, imm: usesPmp || !r.oneIn(4) ? imm & -8 : imm });
}

export function branch({ r }: Context): Item {
  const row = r.pick(rows.filter((candidate) => opcode(candidate) === OPCODE.BRANCH));
  const operands = randomOperands(r, row, { imm: 0 });
  if (r.oneIn(3)) operands.rs2 = operands.rs1 ?? 0;
  return {
    size: 4,
    reach: 1 + r.int(6),
    text: show(row, operands),
    encode: (pc, target) => [unit(4, encode(row, { ...operands, imm: Number(target - pc) }))],
  };
}

export function jump({ r }: Context): Item {
  const rd = r.pick(DESTINATIONS);
  const reach = 1 + r.int(4);
  if (r.oneIn(2)) {
    const text = `jal rd=${rd}`;
    return {
      size: 4,
      reach,
      text,
      encode: (pc, target) => [unit(4, encode(rowNamed("jal"), { rd, imm: Number(target - pc) }))],
    };
  }
  const rs1 = r.pick(DESTINATIONS.filter((x) => x !== 0));
  return {
    size: 8,
    reach,
    text: `auipc rd=${rs1}; jalr rd=${rd} rs1=${rs1}`,
    encode: (pc, target) => [
      unit(4, encode(rowNamed("auipc"), { rd: rs1, imm: 0 })),
      // Bit 0 of the target is ignored.
      unit(4, encode(rowNamed("jalr"), { rd, rs1, imm: Number(target - pc) + (rd & 1) })),
    ],
  };
}

/** A random word with an opcode that cannot jump, access memory or change CSRs. */
export function rawWord(context: Context): Item {
  const { r } = context;
  const rd = r.pick(DESTINATIONS);
  const op = r.pick([
    0x13, 0x1b, 0x33, 0x3b, 0x43, 0x47, 0x4b, 0x4f, 0x53, 0x0b, 0x2b, 0x57, 0x5b, 0x6b, 0x77, 0x7b, 0x1f,
    0x3f,
  ]);
  const word = ((r.u32() & ~0xfff) | (rd << 7) | op) >>> 0;
  return isOtherInQemu(rowOf(word)) ? rawWord(context) : plain(`raw ${word.toString(16)}`, unit(4, word));
}

/** A known instruction with one bit flipped. */
export function nearlyRow(context: Context): Item {
  const { r } = context;
  const row = r.pick(JUDGED_COMPUTATIONS);
  const bit = 12 + r.int(20);
  const word = (encode(row, randomOperands(r, row, {})) ^ (1 << bit)) >>> 0;
  return isOtherInQemu(rowOf(word))
    ? nearlyRow(context)
    : plain(`nearly ${row.name} ${word.toString(16)}`, unit(4, word));
}
