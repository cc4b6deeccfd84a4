// A random program: what a slot starts with, and its code. Instructions come from the engine's own table, so
// a row with a wrong encoding shows as a difference too; compressed and raw words are made here.
// Programs end: branches and jumps only go forward. x2, x8 and x18 point into scratch memory and x19 somewhere
// wrong; only addresses built on these are accessed, so a program cannot touch its neighbours.
import { encode, type FieldName, type Operands, operandsOf } from "../../src/hypervisor/riscv/encoding.ts";
import type { Row } from "../../src/hypervisor/riscv/semantics.ts";
import { CODE, RAM_BASE, SCRATCH, SCRATCH_SIZE, SCRATCH_VIRT, SLOT_SIZE, SLOTS } from "./layout.ts";
import { type PageTables, randomPageTables, SAFE_PAGE } from "./page-tables.ts";
import { Random } from "./random.ts";

export type Mode = "U" | "S" | "M";

export interface Program {
  readonly mode: Mode;
  readonly mstatus: bigint;
  readonly satpMode: 0 | 8 | 9 | 10;
  readonly tables: PageTables | undefined;
  readonly medeleg: bigint;
  readonly mideleg: bigint;
  readonly counteren: bigint;
  readonly menvcfg: bigint;
  readonly fcsr: bigint;
  readonly x: readonly bigint[];
  readonly f: readonly bigint[];
  readonly scratch: Uint8Array;
  readonly items: readonly Item[];
}

/** One or more instructions that are entered at the first only. */
export interface Item {
  /** In bytes. */
  readonly size: number;
  /** 16- or 32-bit units; `target` is where item `reach` further on starts. */
  readonly encode: (pc: bigint, target: bigint) => Unit[];
  /** How many items further a branch goes; 1 is the next. */
  readonly reach: number;
  readonly text: string;
}
export interface Unit {
  readonly size: 2 | 4;
  readonly word: number;
}

const POINTERS = [2, 8, 18] as const;
/** This one is aligned and points to a page with all permissions. */
const SAFE_POINTER = 2;
const WRONG_POINTER = 19;
const RESERVED: readonly number[] = [...POINTERS, WRONG_POINTER];
const DESTINATIONS = Array.from({ length: 32 }, (_, i) => i).filter((r) => !RESERVED.includes(r));

export function slotAddress(slot: number): bigint {
  return RAM_BASE + BigInt(SLOTS + slot * SLOT_SIZE);
}

const INTERESTING: readonly bigint[] = [
  0n,
  1n,
  2n,
  63n,
  64n,
  0x7fff_ffffn,
  0x8000_0000n,
  0xffff_ffffn,
  1n << 32n,
  (1n << 63n) - 1n,
  1n << 63n,
  (1n << 64n) - 1n,
  (1n << 64n) - 2n,
  0xffff_ffff_8000_0000n,
  0x0102_0408_1020_4080n,
];

function integer(r: Random): bigint {
  return r.weighted([
    [3, () => r.u64()],
    [3, () => r.pick(INTERESTING)],
    [2, () => BigInt.asUintN(64, BigInt.asIntN(8, r.u64()))],
    [1, () => BigInt.asUintN(64, BigInt.asIntN(32, r.u64()))],
    [1, () => r.u64() >> BigInt(r.int(64))],
  ])();
}

/** A float register: numbers near one another, few bits, corners, NaNs; binary32 mostly boxed. */
export function float(r: Random): bigint {
  const single = r.oneIn(2);
  const fraction = single ? 23n : 52n;
  const exponents = single ? 0xff : 0x7ff;
  const biased = r.weighted([
    [6, (exponents >> 1) + r.int(41) - 20],
    [2, r.int(exponents + 1)],
    [1, 0],
    [1, exponents],
    [1, exponents - 1],
    [1, r.int(4)],
  ]);
  const width = r.pick([0n, 1n, 4n, fraction, fraction, fraction]);
  const mantissa = (r.u64() & ((1n << width) - 1n)) << (fraction - width);
  const sign = r.oneIn(2) ? 1n << (single ? 31n : 63n) : 0n;
  const bits = sign | (BigInt(biased) << fraction) | mantissa;
  return single && !r.oneIn(12) ? bits | 0xffff_ffff_0000_0000n : bits;
}

const unit = (size: 2 | 4, word: number): Unit => ({ size, word: size === 2 ? word & 0xffff : word >>> 0 });
const plain = (text: string, ...units: Unit[]): Item => {
  return { size: units.reduce((sum, u) => sum + u.size, 0), encode: () => units, reach: 1, text };
};

/** Everything a generator of items needs. */
interface Context {
  readonly r: Random;
  readonly rows: readonly Row[];
  readonly mode: Mode;
  readonly bare: boolean;
}

const show = (row: Row, operands: Operands): string => {
  const list = Object.entries(operands).map(([field, value]) => `${field}=${value}`);
  return `${row.name} ${list.join(" ")}`;
};

/** Random values of all fields of `row`, but for those given. */
function randomOperands(r: Random, row: Row, given: Operands): Operands {
  const random = operandsOf(row, (row.match | (r.u32() & ~row.mask)) >>> 0);
  const operands: Operands = {};
  for (const [field, value] of Object.entries(random)) {
    // The immediate stands for the fields that hold its bits.
    if (!/^[sbj]?imm\d/.test(field)) operands[field as FieldName] = value;
  }
  // Not for the sake of f registers: one bit further on the field may be an integer register.
  for (const field of ["rd", "frd"] as const)
    if (row.fields.has(field)) operands[field] = r.pick(DESTINATIONS);
  if (row.fields.has("rm")) operands.rm = r.weighted(ROUNDING);
  if (row.immediate !== undefined && row.immediate !== "U" && r.oneIn(3)) operands.imm = r.int(17) - 8;
  return { ...operands, ...given };
}

/** Dynamic, the five modes, and the two that are reserved. */
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

function fixedRow(row: Row, operands: Operands): Item {
  return plain(show(row, operands), unit(4, encode(row, operands)));
}

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

/** Rows that compute in registers only. QEMU 7.2's ctzw counts beyond a low word of zero. */
function computations(rows: readonly Row[]): readonly Row[] {
  return rows.filter((row) => !CONTROL.has(opcode(row)) && row.name !== "ctzw");
}

function computation({ r, rows }: Context): Item {
  const row = r.pick(computations(rows));
  return fixedRow(row, randomOperands(r, row, {}));
}

function floatComputation({ r, rows }: Context): Item {
  const row = r.pick(
    rows.filter((candidate) => /^[FD]$/.test(candidate.extension) && !CONTROL.has(opcode(candidate))),
  );
  return fixedRow(row, randomOperands(r, row, {}));
}

/**
 * With no translation the wrong pointer's address is no memory. There QEMU reports an AMO as a load, and does
 * misaligned accesses in parts with addresses of their own: only aligned loads and stores.
 */
const pointer = (r: Random): number => (r.oneIn(16) ? WRONG_POINTER : r.pick(POINTERS));

function access({ r, rows, bare }: Context): Item {
  const kinds = [OPCODE.LOAD, OPCODE.LOAD_FP, OPCODE.STORE, OPCODE.STORE_FP];
  const row = r.pick(rows.filter((candidate) => kinds.includes(opcode(candidate))));
  const size = 1 << ((row.match >> 12) & 3);
  const offset = r.int(4096) - 2048;
  const rs1 = pointer(r);
  const aligned = (bare && rs1 === WRONG_POINTER) || !r.oneIn(5);
  return fixedRow(row, randomOperands(r, row, { rs1, imm: aligned ? offset & -size : offset }));
}

function atomic({ r, rows, bare }: Context): Item {
  const row = r.pick(
    rows.filter((candidate) => opcode(candidate) === OPCODE.AMO && !/^(lr|sc)\./.test(candidate.name)),
  );
  return fixedRow(row, randomOperands(r, row, { rs1: bare ? r.pick(POINTERS) : pointer(r) }));
}

/**
 * Load-reserved, perhaps something between, store-conditional to the same or another place, which is
 * accessible: QEMU lets a store-conditional that fails for its address not fault, Wherry does not.
 */
function reservation(context: Context): Item {
  const { r, rows } = context;
  const width = r.pick(["w", "d"]);
  const lr = rows.find((row) => row.name === `lr.${width}`);
  const sc = rows.find((row) => row.name === `sc.${width}`);
  if (lr === undefined || sc === undefined) return computation(context);
  const rs1 = SAFE_POINTER;
  const parts = [fixedRow(lr, randomOperands(r, lr, { rs1 }))];
  if (r.oneIn(3)) parts.push(computation(context));
  if (r.oneIn(8)) parts.push(access(context));
  if (r.oneIn(8)) {
    const addi = rows.find((row) => row.name === "addi") as Row;
    parts.push(fixedRow(addi, { rd: 18, rs1, imm: 8 * r.int(4) }));
    parts.push(fixedRow(sc, randomOperands(r, sc, { rs1: 18 })));
  }
  parts.push(fixedRow(sc, randomOperands(r, sc, { rs1 })));
  return joined(parts);
}

function joined(parts: readonly Item[]): Item {
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

/** Moves x18 about scratch memory, sometimes to an address that is not aligned. */
function movePointer({ r, rows }: Context): Item {
  const addi = rows.find((row) => row.name === "addi") as Row;
  const imm = r.int(4096) - 2048;
  return fixedRow(addi, { rd: 18, rs1: 8, imm: r.oneIn(4) ? imm : imm & -8 });
}

function branch({ r, rows }: Context): Item {
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

function jump({ r, rows }: Context): Item {
  const name = (wanted: string): Row => rows.find((row) => row.name === wanted) as Row;
  const rd = r.pick(DESTINATIONS);
  const reach = 1 + r.int(4);
  if (r.oneIn(2)) {
    const text = `jal rd=${rd}`;
    return {
      size: 4,
      reach,
      text,
      encode: (pc, target) => [unit(4, encode(name("jal"), { rd, imm: Number(target - pc) }))],
    };
  }
  const rs1 = r.pick(DESTINATIONS.filter((x) => x !== 0));
  return {
    size: 8,
    reach,
    text: `auipc rd=${rs1}; jalr rd=${rd} rs1=${rs1}`,
    encode: (pc, target) => [
      unit(4, encode(name("auipc"), { rd: rs1, imm: 0 })),
      // Bit 0 of the target is ignored.
      unit(4, encode(name("jalr"), { rd, rs1, imm: Number(target - pc) + (rd & 1) })),
    ],
  };
}

// CSRs that a program may write as it likes; the runner owns mtvec, mscratch and mepc.
const USER_CSRS = [0x001, 0x002, 0x003];
const SUPERVISOR_CSRS = [...USER_CSRS, 0x10a, 0x140, 0x142, 0x143];
const MACHINE_CSRS = [...SUPERVISOR_CSRS, 0x342, 0x343];

/**
 * CSRs that hold more in QEMU than in Wherry (the hypervisor extension's bits, 64 bits of a counter
 * enable or inhibit, an odd sepc), and bits of them that both hold. sie, sip, scounteren, sepc; mie, mip, …
 */
const MASKED_SUPERVISOR: readonly [number, number][] = [
  [0x104, 0x222],
  [0x144, 0x222],
  [0x106, 0x7f7],
];
const MASKED_MACHINE: readonly [number, number][] = [
  ...MASKED_SUPERVISOR,
  [0x304, 0x2aa],
  [0x344, 0x222],
  [0x302, 0x3f7],
  [0x303, 0x222],
  [0x320, 0x5],
  [0x306, 0x7f7],
];

/** Counters, read-only, other privileges, absent: read or written for the trap, result dropped. */
const OTHER_CSRS = [
  0xc00, 0xc01, 0xc02, 0xc03, 0xf11, 0xf14, 0x301, 0x100, 0x300, 0x180, 0x305, 0x3a0, 0x3a1, 0x3b0, 0x5a8,
  0x007, 0x4ff, 0xbff, 0x600, 0x200,
];

function maskedCsr({ r, rows, mode }: Context): Item {
  const [number, mask] = r.pick(mode === "M" ? MASKED_MACHINE : MASKED_SUPERVISOR);
  const name = (wanted: string): Row => rows.find((row) => row.name === wanted) as Row;
  const rs1 = r.pick(DESTINATIONS.filter((x) => x !== 0));
  return joined([
    fixedRow(name("addi"), { rd: rs1, imm: r.u32() & mask }),
    fixedRow(name(r.pick(["csrrw", "csrrs", "csrrc"])), { rd: r.pick(DESTINATIONS), rs1, csr: number }),
  ]);
}

function csr({ r, rows, mode }: Context): Item {
  const all = rows.filter((candidate) => candidate.fields.has("csr"));
  const own = mode === "M" ? MACHINE_CSRS : mode === "S" ? SUPERVISOR_CSRS : USER_CSRS;
  if (r.oneIn(5)) {
    const row = r.pick(all.filter((candidate) => /^csrr[sc]i?$/.test(candidate.name)));
    return fixedRow(row, randomOperands(r, row, { csr: r.pick(OTHER_CSRS), rd: 0, rs1: 0, uimm5: 0 }));
  }
  const row = r.pick(all);
  return fixedRow(row, randomOperands(r, row, { csr: r.oneIn(12) ? r.pick(MACHINE_CSRS) : r.pick(own) }));
}

/**
 * Bits of mstatus or sstatus that a program may change: not MPRV, not the previous modes; FS as a whole,
 * since QEMU leaves it as it is when only fflags change.
 */
const STATUS_BITS = [0x2, 0x8, 0x20, 0x80, 0x6000, 0x40000, 0x80000, 0x100000, 0x200000, 0x400000];

function status({ r, rows, mode }: Context): Item {
  const name = (wanted: string): Row => rows.find((row) => row.name === wanted) as Row;
  const bit = r.pick(STATUS_BITS);
  const rd = r.pick(DESTINATIONS.filter((x) => x !== 0));
  return joined([
    fixedRow(name("lui"), { rd, imm: (bit + 0x800) & ~0xfff }),
    fixedRow(name("addi"), { rd, rs1: rd, imm: (bit << 20) >> 20 }),
    fixedRow(name(r.pick(["csrrs", "csrrc"])), { rd: 0, rs1: rd, csr: mode === "M" ? 0x300 : 0x100 }),
  ]);
}

const SYSTEM_WORDS: readonly [string, number][] = [
  ["ecall", 0x00000073],
  ["ebreak", 0x00100073],
  ["fence", 0x0ff0000f],
  ["fence.tso", 0x8330000f],
  ["pause", 0x0100000f],
  ["fence.i", 0x0000100f],
  ["sfence.vma", 0x12000073],
  ["sfence.vma x8", 0x12040073],
  ["sfence.vma x0, x5", 0x12500073],
];

function system({ r, mode }: Context): Item {
  // Returns from traps that were not taken: only where they are illegal.
  const [text, word] = r.pick([
    ...SYSTEM_WORDS,
    ...(mode === "U"
      ? ([
          ["mret", 0x30200073],
          ["sret", 0x10200073],
        ] as const)
      : []),
    ...(mode === "S" ? ([["mret", 0x30200073]] as const) : []),
  ]);
  return plain(text, unit(4, word));
}

const CTZW = { mask: 0xfff0707f, match: 0x6010101b };
const isCtzw = (word: number): boolean => (word & CTZW.mask) >>> 0 === CTZW.match;

/** Any word of an opcode that cannot jump, access memory or change CSRs. */
function rawWord(context: Context): Item {
  const { r } = context;
  const rd = r.pick(DESTINATIONS);
  const op = r.pick([
    0x13, 0x1b, 0x33, 0x3b, 0x43, 0x47, 0x4b, 0x4f, 0x53, 0x0b, 0x2b, 0x57, 0x5b, 0x6b, 0x77, 0x7b, 0x1f,
    0x3f,
  ]);
  const word = ((r.u32() & ~0xfff) | (rd << 7) | op) >>> 0;
  return isCtzw(word) ? rawWord(context) : plain(`raw ${word.toString(16)}`, unit(4, word));
}

/** Like a known instruction but for one bit. */
function nearlyRow(context: Context): Item {
  const { r, rows } = context;
  const row = r.pick(computations(rows));
  const bit = 12 + r.int(20);
  const word = (encode(row, randomOperands(r, row, {})) ^ (1 << bit)) >>> 0;
  return isCtzw(word) ? nearlyRow(context) : plain(`nearly ${row.name} ${word.toString(16)}`, unit(4, word));
}

/** Register fields of a compressed instruction: three bits (x8 to x15) without x8, our pointer. */
const short = (r: Random): number => 1 + r.int(7);

function compressed(context: Context): Item {
  const { r } = context;
  const rd = r.pick(DESTINATIONS) << 7;
  const any = r.int(0x2000);
  // imm[5] and imm[4:0] around a register field.
  const imm6 = any & 0x107c;
  const text = (name: string, word: number): Item => plain(`c.${name} ${word.toString(16)}`, unit(2, word));
  const rs2 = (1 + r.int(31)) << 2;
  const stackOffset = any & 0x1f80;
  return r.weighted<() => Item>([
    [1, () => text("addi4spn", (any & 0x1fe0) | (short(r) << 2))],
    [2, () => text("load", (r.pick([1, 2, 3]) << 13) | (any & 0x1c60) | (short(r) << 2))],
    [2, () => text("store", (r.pick([5, 6, 7]) << 13) | (any & 0x1c60) | (r.int(8) << 2))],
    [1, () => text("reserved", 0x8000 | (any & 0x1fe0) | (short(r) << 2))],
    [2, () => text("addi", 0x0001 | rd | imm6)],
    [2, () => text("addiw", 0x2001 | rd | imm6)],
    [2, () => text("li", 0x4001 | rd | imm6)],
    [2, () => text("lui", 0x6001 | rd | imm6)],
    [4, () => text("alu", 0x8001 | (any & 0x1c7c) | (short(r) << 7))],
    [2, () => text("slli", 0x0002 | rd | imm6)],
    [2, () => text("loadsp", (r.pick([1, 2, 3]) << 13) | 2 | imm6 | rd)],
    [2, () => text("storesp", (r.pick([5, 6, 7]) << 13) | 2 | stackOffset | (r.int(32) << 2))],
    [2, () => text("mv", 0x8002 | rd | rs2)],
    [2, () => text("add", 0x9002 | rd | rs2)],
    [1, () => text("zero", 0)],
    [1, () => text("ebreak", 0x9002)],
    [3, () => compressedBranch(r)],
  ])();
}

function compressedBranch(r: Random): Item {
  const kind = r.pick(["j", "beqz", "bnez"]);
  const rs = r.int(8) << 7;
  return {
    size: 2,
    reach: 1 + r.int(4),
    text: `c.${kind} rs=${8 + (rs >> 7)}`,
    encode: (pc, target) => {
      const v = Number(target - pc);
      const part = (from: number, width: number, to: number): number =>
        ((v >> from) & ((1 << width) - 1)) << to;
      if (kind === "j") {
        const high = part(11, 1, 12) | part(4, 1, 11) | part(8, 2, 9) | part(10, 1, 8);
        return [unit(2, 0xa001 | high | part(6, 1, 7) | part(7, 1, 6) | part(1, 3, 3) | part(5, 1, 2))];
      }
      const offset = part(8, 1, 12) | part(3, 2, 10) | part(6, 2, 5) | part(1, 2, 3) | part(5, 1, 2);
      return [unit(2, (kind === "beqz" ? 0xc001 : 0xe001) | rs | offset)];
    },
  };
}

const GENERATORS: readonly (readonly [number, (context: Context) => Item])[] = [
  [14, computation],
  [10, floatComputation],
  [14, access],
  [4, atomic],
  [3, reservation],
  [4, movePointer],
  [6, branch],
  [3, jump],
  [14, compressed],
  [5, csr],
  [2, maskedCsr],
  [1, status],
  [2, system],
  [2, rawWord],
  [2, nearlyRow],
];

/** Addresses that fault, or nearly. */
function wrongPointer(r: Random, bare: boolean, ramEnd: bigint): bigint {
  if (bare)
    return r.pick([
      0x50n,
      ramEnd,
      ramEnd - 8n,
      1n << 40n,
      1n << 63n,
      (1n << 64n) - 8n,
      (1n << 56n) + RAM_BASE,
    ]);
  return r.pick([
    0n,
    SCRATCH_VIRT - 4n,
    SCRATCH_VIRT + 0x200000n,
    SCRATCH_VIRT + 0x400010n,
    SCRATCH_VIRT + 0x600010n,
    SCRATCH_VIRT + 0x800000n + BigInt(r.int(512) * 4096 + 8),
    SCRATCH_VIRT + BigInt((16 + r.int(496)) * 4096 + 16),
    1n << 38n,
    (1n << 38n) | SCRATCH_VIRT,
    0xffff_ffff_ffff_fff0n,
    1n << 47n,
    1n << 56n,
    1n << 63n,
    5n << 30n,
  ]);
}

/** Generates program number `slot` of a batch. Deterministic in `seed` and `slot`. */
export function randomProgram(seed: number, slot: number, rows: readonly Row[], ramEnd: bigint): Program {
  const r = new Random(seed);
  const mode = r.weighted<Mode>([
    [4, "M"],
    [3, "S"],
    [3, "U"],
  ]);
  const satpMode = mode === "M" || r.oneIn(4) ? 0 : r.pick([8, 8, 9, 10] as const);
  const bare = satpMode === 0;
  const context: Context = { r, rows, mode, bare };
  const items = Array.from({ length: 40 + r.int(80) }, () => r.weighted(GENERATORS)(context));
  const base = bare ? slotAddress(slot) + BigInt(SCRATCH) : SCRATCH_VIRT;
  const x = Array.from({ length: 32 }, () => integer(r));
  for (const p of POINTERS) x[p] = base + BigInt(SCRATCH_SIZE / 2 - 0x1000 + 8 * r.int(0x400));
  x[SAFE_POINTER] = base + BigInt(SAFE_PAGE * 4096 + 8 * r.int(0x1f0));
  x[WRONG_POINTER] = wrongPointer(r, bare, ramEnd);
  const scratch = new Uint8Array(SCRATCH_SIZE);
  const words = new DataView(scratch.buffer);
  for (let i = 0; i < SCRATCH_SIZE; i += 8) {
    words.setBigUint64(
      i,
      r.weighted([
        [2, integer],
        [2, float],
      ] as const)(r),
      true,
    );
  }
  const mpp = { U: 0n, S: 1n, M: 3n }[mode] << 11n;
  const fs = BigInt(r.pick([0, 1, 2, 3, 3, 3, 3, 3])) << 13n;
  const flag = (bit: number, oneIn: number): bigint => (r.oneIn(oneIn) ? 1n << BigInt(bit) : 0n);
  // SUM, MXR; TVM, TW, TSR.
  const others = flag(18, 2) | flag(19, 3) | flag(20, 6) | flag(21, 6) | flag(22, 6);
  const delegate = mode !== "M" && r.oneIn(2);
  return {
    mode,
    satpMode,
    mstatus: mpp | fs | others | flag(7, 3) | flag(5, 3),
    tables: bare ? undefined : randomPageTables(r, slotAddress(slot), mode),
    // All but breakpoints, which end the program in the M-mode handler.
    medeleg: delegate ? r.u64() & 0xb3f7n : 0n,
    mideleg: delegate && r.oneIn(2) ? 0x222n : 0n,
    counteren: r.u64() & 0x7n,
    menvcfg: r.oneIn(2) ? 0n : 0x71n,
    fcsr: BigInt(
      (r.weighted([
        [6, 0],
        [1, 1],
        [1, 2],
        [1, 3],
        [1, 4],
        [1, 5],
      ]) <<
        5) |
        r.pick([0, 1, 31, r.int(32)]),
    ),
    x,
    f: Array.from({ length: 32 }, () => float(r)),
    scratch,
    items,
  };
}

/** The program's code at its slot, closed by the ebreak that ends it; `keep` items only, if given. */
export function assembleProgram(program: Program, slot: number, keep = program.items.length) {
  const start = slotAddress(slot) + BigInt(CODE);
  const starts: bigint[] = [];
  let at = start;
  for (const item of program.items.slice(0, keep)) {
    starts.push(at);
    at += BigInt(item.size);
  }
  const end = at;
  const code = new Uint8Array(Number(end - start) + 4);
  const view = new DataView(code.buffer);
  const listing: string[] = [];
  for (const [i, pc] of starts.entries()) {
    const item = program.items[i] as Item;
    let offset = Number(pc - start);
    const units = item.encode(pc, starts[i + item.reach] ?? end);
    listing.push(`${i}: ${pc.toString(16)} ${units.map((u) => u.word.toString(16)).join(" ")}  ${item.text}`);
    for (const { size, word } of units) {
      if (size === 2) view.setUint16(offset, word, true);
      else view.setUint32(offset, word, true);
      offset += size;
    }
  }
  view.setUint32(Number(end - start), 0x00100073, true);
  return { start, end, code, listing };
}
