// Items of lock-step programs only, checked by one engine against the other: loops, calls, returns,
// recursion, jump tables, code that is overwritten through several addresses, data among code, CSRs of all
// kinds, switches of address space. Items that QEMU can judge too are in ../support/programs.
import { encode } from "../../src/hypervisor/isa/instruction-encoding.ts";
import { CSRS } from "../../src/riscv/registers.ts";
import { expandCompressed, rowNamed, rowOf, rows } from "../../src/hypervisor/isa/isa.ts";
import { RAM_BASE } from "../support/hart-harness.ts";
import {
  computation,
  type Context,
  DESTINATIONS,
  fixedRow,
  type Item,
  joined,
  op,
  plain,
  POINTERS,
  randomOperands,
  type Unit,
  unit,
  WRONG_POINTER,
} from "../support/programs/items.ts";
import type { Random } from "../support/random.ts";
import { PROGRAM_ALIAS, SCRATCH, SCRATCH_SIZE } from "./layout.ts";
import type { Space } from "./spaces.ts";

/** Return address, stack pointer, loop counters, saved return address: no other item writes them. */
export const LINK = 1;
export const STACK_POINTER = 3;
export const COUNTERS = [24, 25] as const;
export const DEPTH = 26;
export const SAVED_LINK = 27;
const RESERVED: readonly number[] = [LINK, STACK_POINTER, ...COUNTERS, DEPTH, SAVED_LINK];

export interface LockstepContext extends Context {
  readonly spaces: readonly Space[];
}

/** Registers for short-lived values. */
export const temporary = (r: Random): number =>
  r.pick(DESTINATIONS.filter((x) => x !== 0 && !RESERVED.includes(x)));

/** The x register that a unit writes, if it is an instruction of the table. */
function destination({ size, word }: Unit): number | undefined {
  const full = size === 4 ? word : expandCompressed(word)?.word;
  const row = full === undefined ? undefined : rowOf(full);
  return row?.fields.has("rd") ? ((full as number) >>> 7) & 31 : undefined;
}

/** True if the item writes no reserved register. */
export function isHarmless(item: Item): boolean {
  return item.encode(RAM_BASE, RAM_BASE).every((u) => !RESERVED.includes(destination(u) ?? 0));
}

const FIRST_PRIVILEGED_CSR = 0x100;
const READ_ONLY_USER = 0xc00;
const EBREAK = 0x00100073;

/**
 * True if an instruction of the item traps in all modes or in U-mode. A trap takes as long as many
 * instructions.
 */
export function isCostly(item: Item): boolean {
  return item.encode(RAM_BASE, RAM_BASE).some(({ size, word }) => {
    const full = size === 4 ? word : expandCompressed(word)?.word;
    const row = full === undefined ? undefined : rowOf(full);
    if (full === undefined || row === undefined || full === EBREAK) return true;
    if (row.fields.has("rm")) return [5, 6].includes((full >>> 12) & 7);
    const csr = full >>> 20;
    return row.fields.has("csr") && csr >= FIRST_PRIVILEGED_CSR && csr >>> 8 !== READ_ONLY_USER >>> 8;
  });
}

/** rd = a 32-bit constant. */
export function load32(rd: number, value: number): Item {
  const low = (value << 20) >> 20;
  return joined([op("lui", { rd, imm: (value - low) | 0 }), op("addiw", { rd, rs1: rd, imm: low })]);
}

/** rd = a 64-bit constant; overwrites `spare`. */
function load64(rd: number, spare: number, value: bigint): Item {
  const low = BigInt.asIntN(32, value);
  const high = BigInt.asIntN(32, (value - low) >> 32n);
  return joined([
    load32(rd, Number(high)),
    op("slli", { rd, rs1: rd, shamt6: 32 }),
    load32(spare, Number(low)),
    op("add", { rd, rs1: rd, rs2: spare }),
  ]);
}

const two = (r: Random): [number, number] => {
  const first = temporary(r);
  const second = temporary(r);
  return first === second ? two(r) : [first, second];
};

/** A pc-relative jump or call to the target: jal, or auipc and jalr. */
export function transfer(r: Random, rd: number): Item {
  if (r.oneIn(2)) {
    return {
      size: 4,
      reach: 1,
      text: `jal x${rd}`,
      encode: (pc, target) => [unit(4, encode(rowNamed("jal"), { rd, imm: Number(target - pc) }))],
    };
  }
  const through = rd === 0 || r.oneIn(2) ? temporary(r) : rd;
  return {
    size: 8,
    reach: 1,
    text: `auipc x${through}; jalr x${rd}`,
    encode: (pc, target) => {
      const offset = Number(target - pc);
      const low = (offset << 20) >> 20;
      return [
        unit(4, encode(rowNamed("auipc"), { rd: through, imm: offset - low })),
        unit(4, encode(rowNamed("jalr"), { rd, rs1: through, imm: low })),
      ];
    },
  };
}

/** A return, by a 16-bit or a 32-bit instruction. */
export const ret = (r: Random): Item =>
  r.oneIn(2)
    ? plain("c.jr ra", unit(2, 0x8082))
    : plain("jalr x0, ra", unit(4, encode(rowNamed("jalr"), { rd: 0, rs1: LINK })));

/** The end of a loop. The loop ends for any value of the counter, since code may jump into it. */
export function loopEnd(r: Random, counter: number): Item {
  const limit = r.pick([3, 7, 15, 63]);
  const word = (imm: number): number => encode(rowNamed("bne"), { rs1: counter, rs2: 0, imm });
  return {
    size: 12,
    reach: 1,
    text: `loop x${counter}`,
    encode: (pc, target) => [
      unit(4, encode(rowNamed("addi"), { rd: counter, rs1: counter, imm: -1 })),
      unit(4, encode(rowNamed("andi"), { rd: counter, rs1: counter, imm: limit })),
      unit(4, word(Number(target - pc) - 8)),
    ],
  };
}

/** A function that calls itself (the target) until the depth counter is 0. */
export function recursion(): Item {
  const link = LINK;
  const [sp, depth] = [STACK_POINTER, DEPTH];
  const before = [
    encode(rowNamed("andi"), { rd: depth, rs1: depth, imm: 7 }),
    encode(rowNamed("beq"), { rs1: depth, rs2: 0, imm: 28 }),
    encode(rowNamed("addi"), { rd: depth, rs1: depth, imm: -1 }),
    encode(rowNamed("addi"), { rd: sp, rs1: sp, imm: -16 }),
    encode(rowNamed("sd"), { rs1: sp, rs2: link, imm: 0 }),
  ];
  const after = [
    encode(rowNamed("ld"), { rd: link, rs1: sp, imm: 0 }),
    encode(rowNamed("addi"), { rd: sp, rs1: sp, imm: 16 }),
  ];
  return {
    size: 32,
    reach: 1,
    text: "recursion",
    encode: (pc, target) => [
      ...before.map((word) => unit(4, word)),
      unit(4, encode(rowNamed("jal"), { rd: link, imm: Number(target - pc) - 20 })),
      ...after.map((word) => unit(4, word)),
    ],
  };
}

/** Jumps to one of four places, selected by a register; each continues after the item. */
export function jumpTable({ r }: LockstepContext): Item {
  const [index, at] = two(r);
  const source = r.pick(DESTINATIONS);
  const link = r.oneIn(3) ? LINK : 0;
  const words = [
    encode(rowNamed("andi"), { rd: index, rs1: source, imm: 3 }),
    encode(rowNamed("slli"), { rd: index, rs1: index, shamt6: 3 }),
    encode(rowNamed("auipc"), { rd: at, imm: 0 }),
    encode(rowNamed("add"), { rd: at, rs1: at, rs2: index }),
    encode(rowNamed("jalr"), { rd: link, rs1: at, imm: 12 }),
  ];
  for (let i = 0; i < 4; i++) {
    words.push(encode(rowNamed("addi"), { rd: source === 0 ? index : source, rs1: source, imm: i - 2 }));
    words.push(encode(rowNamed("jal"), { rd: 0, imm: (4 - i) * 8 - 4 }));
  }
  return plain(`jump table by x${source}`, ...words.map((word) => unit(4, word)));
}

/** Moves x18 to another page of scratch memory. */
export function movePage({ r }: LockstepContext): Item {
  const rd = temporary(r);
  const pages = r.int(27) - 13;
  return joined([op("lui", { rd, imm: pages * 4096 }), op("add", { rd: 18, rs1: 8, rs2: rd })]);
}

const ACCESS_OPCODES = [0x03, 0x07, 0x23, 0x27];
const ACCESS_ROWS = rows.filter((row) => ACCESS_OPCODES.includes(row.match & 0x7f));

/**
 * Several accesses near one address, within a page or across its end, through one register, which may be
 * incremented.
 */
export function nearby(context: LockstepContext): Item {
  const { r } = context;
  const [base, spare] = two(r);
  const from = r.pick([18, 18, 8, 2]);
  const parts = [op("addi", { rd: base, rs1: from, imm: 8 * (r.int(64) - 32) })];
  if (r.oneIn(3)) {
    parts.push(op("lui", { rd: spare, imm: -4096 }), op("and", { rd: base, rs1: base, rs2: spare }));
    if (r.oneIn(2)) parts.push(op("addi", { rd: base, rs1: base, imm: r.int(33) - 16 }));
  }
  const other = (): number => r.pick(DESTINATIONS.filter((x) => x !== base && !RESERVED.includes(x)));
  const count = 2 + r.int(8);
  for (let i = 0; i < count; i++) {
    const row = r.pick(ACCESS_ROWS);
    const size = 1 << ((row.match >> 12) & 3);
    const offset = r.int(r.pick([17, 129, 4096])) - 64;
    const imm = Math.max(-2048, Math.min(2040, r.oneIn(6) ? offset : offset & -size));
    const rd = i === count - 1 && r.oneIn(4) ? base : other();
    parts.push(
      fixedRow(row, randomOperands(r, row, { rs1: base, imm, ...(row.fields.has("rd") ? { rd } : {}) })),
    );
    const between = r.int(24);
    if (between === 0) parts.push(op("addi", { rd: base, rs1: base, imm: r.pick([1, 4, 8, -8, 64, 512]) }));
    if (between === 1) parts.push(op("amoadd.d", { rd: other(), rs1: base, rs2: r.pick(DESTINATIONS) }));
    if (between === 2) parts.push(op("addi", { rd: other(), rs1: base, imm: 0 }));
    if (between === 3) parts.push(op(r.pick(["ecall", "sfence.vma"]), {}));
    if (between === 4) parts.push(op("csrrwi", { rd: other(), uimm5: 0, csr: 1 }));
    if (between === 5) parts.push(op("fence.i", {}));
  }
  return joined(parts);
}

/** Bytes of data within the code of `walk`. */
const AREA = 64;

/**
 * A loop of accesses through pointers that are constant, incremented or indexed: across page boundaries,
 * mixed with instructions that may change a page, and to data within its own code.
 */
export function walk({ r }: LockstepContext): Item {
  const [base, counter] = two(r);
  const free = DESTINATIONS.filter((x) => x !== 0 && ![...RESERVED, base, counter].includes(x));
  const inCode = r.oneIn(5);
  const isWrong = r.oneIn(12);
  const fixed = inCode ? base : isWrong ? WRONG_POINTER : r.pick([18, 18, 8, 2]);
  const step = inCode ? 0 : r.pick([0, 1, 2, 4, 8, 8, 8, -8, 16, -24, 64, 256, -512, 1024]);
  const count = Math.min(isWrong ? 3 : r.pick([3, 20, 60]), Math.floor(0x1800 / Math.max(1, Math.abs(step))));
  const parts: Item[] = [];
  if (inCode) {
    parts.push(op("auipc", { rd: base, imm: 0 }), op("jal", { rd: 0, imm: AREA + 4 }));
    for (let i = 0; i < AREA; i += 4) parts.push(plain("data", unit(4, r.u32())));
  } else parts.push(op("addi", { rd: base, rs1: r.pick([18, 18, 8]), imm: 8 * (r.int(512) - 256) }));
  if (!inCode && r.oneIn(4)) parts.push(op("addi", { rd: base, rs1: base, imm: r.int(8) }));
  parts.push(op("addi", { rd: counter, imm: count }));

  const access = (rs1: number, rows = ACCESS_ROWS, range = r.pick([17, 129, 1200, 4096])): Item => {
    const row = r.pick(rows);
    const size = 1 << ((row.match >> 12) & 3);
    const offset = inCode ? 8 + r.int(AREA - 8) : r.int(range) - 64;
    const imm = Math.max(-2048, Math.min(2040, r.oneIn(6) && !inCode ? offset : offset & -size));
    return fixedRow(
      row,
      randomOperands(r, row, { rs1, imm, ...(row.fields.has("rd") ? { rd: r.pick(free) } : {}) }),
    );
  };
  const pieces: readonly (readonly [number, () => Item[]])[] = [
    [8, () => [access(base)]],
    [4, () => [access(fixed)]],
    [2, () => ["I", "S"].flatMap((kind) => (r.oneIn(2) ? [] : together(kind)))],
    [
      3,
      () => {
        const at = r.pick(free);
        return [
          op("andi", { rd: at, rs1: counter, imm: r.pick([1, 7, 15]) }),
          op("bne", { rs1: at, rs2: 0, imm: 8 }),
          access(r.oneIn(2) ? base : fixed),
        ];
      },
    ],
    [
      inCode ? 0 : 3,
      () => {
        const at = r.pick(free);
        return [
          op("andi", { rd: at, rs1: r.pick(free), imm: r.pick([7, 255, 1016]) }),
          op("add", { rd: at, rs1: at, rs2: fixed }),
          access(at),
        ];
      },
    ],
    [1, () => [op(r.pick(["sfence.vma", "fence.i", "ecall"]), {})]],
    [1, () => [op("csrrwi", { rd: r.pick(free), uimm5: 0, csr: 1 })]],
  ];
  /** Loads or stores that can share one TLB lookup. */
  const together = (kind: string): Item[] =>
    [0, 1, 2].map(() =>
      access(
        base,
        ACCESS_ROWS.filter((row) => row.immediate === kind),
        300,
      ),
    );
  const body = Array.from({ length: 1 + r.int(6) }, () => r.weighted(pieces)()).flat();
  if (step !== 0) body.splice(r.int(2) * body.length, 0, op("addi", { rd: base, rs1: base, imm: step }));
  // The loop ends for any value of the counter.
  body.push(op("addi", { rd: counter, rs1: counter, imm: -1 }));
  body.push(op("andi", { rd: counter, rs1: counter, imm: 63 }));
  const back = body.reduce((sum, { size }) => sum + size, 0);
  return joined([...parts, ...body, op("bne", { rs1: counter, rs2: 0, imm: -back })]);
}

/** Data within code: stored and loaded between instructions, without a fence. */
export function literal({ r }: LockstepContext): Item {
  const base = temporary(r);
  const size = r.pick(["b", "h", "w", "d"]);
  const rs2 = r.pick(DESTINATIONS);
  const rd = temporary(r);
  const words = [
    encode(rowNamed("auipc"), { rd: base, imm: 0 }),
    encode(rowNamed(`s${size}`), { rs1: base, rs2, imm: 16 }),
    encode(rowNamed("ld"), { rd, rs1: base, imm: 16 }),
    encode(rowNamed("jal"), { rd: 0, imm: 12 }),
    r.u32(),
    r.u32(),
  ];
  return plain(`literal s${size}`, ...words.map((word) => unit(4, word)));
}

const FENCE_I = unit(4, 0x0000100f);

/** The word of a computation that writes no reserved register, or of two compressed instructions. */
function newWord(context: LockstepContext, short: boolean): number {
  const { r } = context;
  if (short) return (shortWord(r) << 16) | shortWord(r) | 0;
  for (;;) {
    const item = computation(context);
    if (isHarmless(item)) return (item.encode(0n, 0n)[0]?.word ?? 0x13) | 0;
  }
}
/** c.li or c.addi on a temporary register. */
const shortWord = (r: Random): number => r.pick([0x4001, 0x0001]) | (temporary(r) << 7) | (r.int(32) << 2);

/**
 * Overwrites the next instruction with one of two, selected by a bit of a register, and executes it after a
 * fence. The address is relative to pc or in the alias; the store is one word or two halves. A mix of halves
 * of the two is a computation or an illegal instruction.
 */
export function rewrite(context: LockstepContext): Item {
  const { r } = context;
  const [value, base] = two(r);
  const spare = r.pick(
    DESTINATIONS.filter((x) => x !== 0 && x !== value && x !== base && !RESERVED.includes(x)),
  );
  const isShort = r.oneIn(3);
  const words = [newWord(context, isShort), newWord(context, isShort && r.oneIn(2))] as const;
  const inHalves = !isShort && r.oneIn(3);
  const pointer = [op("auipc", { rd: base, imm: 0 })];
  if (r.oneIn(3)) {
    pointer.push(
      op("slli", { rd: base, rs1: base, shamt6: 45 }),
      op("srli", { rd: base, rs1: base, shamt6: 45 }),
    );
    pointer.push(op("lui", { rd: value, imm: Number(PROGRAM_ALIAS) }));
    pointer.push(op("add", { rd: base, rs1: base, rs2: value }));
  }
  const choice = [
    load32(value, words[0] ^ words[1]),
    op("andi", { rd: spare, rs1: r.pick(DESTINATIONS), imm: 1 }),
    op("sub", { rd: spare, rs2: spare }),
    op("and", { rd: value, rs1: value, rs2: spare }),
    load32(spare, words[0]),
    op("xor", { rd: value, rs1: value, rs2: spare }),
  ];
  const stores = (imm: number): Item[] =>
    inHalves
      ? [
          op("sh", { rs1: base, rs2: value, imm }),
          op("srli", { rd: value, rs1: value, shamt6: 16 }),
          op("sh", { rs1: base, rs2: value, imm: imm + 2 }),
        ]
      : [op("sw", { rs1: base, rs2: value, imm })];
  const before = (imm: number): Item[] => [...pointer, ...choice, ...stores(imm), plain("fence.i", FENCE_I)];
  const size = joined(before(0)).size;
  return joined([...before(size), plain("slot", unit(4, words[0]))]);
}

const CSR = {
  sstatus: 0x100,
  satp: 0x180,
  mstatus: 0x300,
  mcountinhibit: 0x320,
  mcycle: 0xb00,
  minstret: 0xb02,
};
/** CSRs to which programs write any value; the kernel needs the others. */
const WRITABLE = [
  "fflags frm fcsr scounteren senvcfg sscratch scause stval sie sip stimecmp",
  "mcounteren menvcfg mideleg mie mip mscratch mcause mtval mhpmcounter3 mhpmevent4 cycle misa mhartid tdata1",
]
  .join(" ")
  .split(" ");
const WRITABLE_NUMBERS = CSRS.filter((row) => WRITABLE.includes(row.name)).map((row) => row.number);
const CSR_ROWS = rows.filter((row) => row.fields.has("csr"));

/** Reads of any CSR, also of CSRs that do not exist; writes of WRITABLE. */
export function anyCsr({ r }: LockstepContext): Item {
  const rd = r.oneIn(6) ? 0 : temporary(r);
  const kind = r.int(6);
  if (kind < 2) {
    const csr = r.oneIn(8) ? r.int(4096) : r.pick(CSRS).number;
    const name = r.pick(["csrrs", "csrrc", "csrrsi", "csrrci"]);
    return op(name, name.endsWith("i") ? { rd, csr, uimm5: 0 } : { rd, csr, rs1: 0 });
  }
  if (kind === 2) {
    // Often time and the counters.
    return op("csrrs", { rd, rs1: 0, csr: r.pick([0xc00, 0xc01, 0xc02, CSR.mcycle, CSR.minstret]) });
  }
  if (kind === 3) {
    if (r.oneIn(2)) return op(r.pick(["csrrsi", "csrrci"]), { rd, uimm5: r.int(8), csr: CSR.mcountinhibit });
    const row = r.pick(CSR_ROWS);
    return fixedRow(row, randomOperands(r, row, { rd, csr: r.pick([CSR.mcycle, CSR.minstret]) }));
  }
  const row = r.pick(CSR_ROWS);
  return fixedRow(row, randomOperands(r, row, { rd, csr: r.pick(WRITABLE_NUMBERS) }));
}

/** Bits of mstatus or sstatus: SIE, MIE, SPIE, MPIE, FS, SUM, MXR, TW. */
const STATUS_BITS = [0x2, 0x8, 0x20, 0x80, 0x2000, 0x6000, 0x40000, 0x80000, 0x200000];

export function statusBits({ r }: LockstepContext): Item {
  const rd = temporary(r);
  const csr = r.pick([CSR.sstatus, CSR.mstatus]);
  return joined([load32(rd, r.pick(STATUS_BITS)), op(r.pick(["csrrs", "csrrc"]), { rd: 0, rs1: rd, csr })]);
}

/** Switches to another address space, without a fence: each has its own ASID. */
export function switchSpace({ r, spaces }: LockstepContext): Item {
  const [rd, spare] = two(r);
  return joined([load64(rd, spare, r.pick(spaces).satp), op("csrrw", { rd: 0, rs1: rd, csr: CSR.satp })]);
}

/** Clears, sets or swaps fflags, frm or fcsr. */
export function floatCsr({ r }: LockstepContext): Item {
  const row = r.pick(CSR_ROWS);
  const csr = r.pick([1, 1, 1, 2, 3]);
  const value = r.oneIn(3) ? {} : { rs1: 0, uimm5: csr === 2 ? r.int(5) : r.pick([0, 1, r.int(32)]) };
  return fixedRow(row, randomOperands(r, row, { rd: r.oneIn(3) ? 0 : temporary(r), csr, ...value }));
}

const SYSTEM = 0x73;
const MISC_MEM = 0x0f;
const RETURNS = ["mret", "sret"];
const SYSTEM_ROWS = rows.filter(
  (row) =>
    !row.fields.has("csr") && !RETURNS.includes(row.name) && [SYSTEM, MISC_MEM].includes(row.match & 0x7f),
);
const RETURN_ROWS = rows.filter((row) => RETURNS.includes(row.name));

/** Mostly ecalls, fences, wfi and cache-block operations; sometimes mret or sret. */
export function anySystem({ r }: LockstepContext): Item {
  if (r.oneIn(4)) return op("ecall", {});
  if (r.oneIn(8)) return op(r.pick(RETURN_ROWS).name, {});
  const row = r.pick(SYSTEM_ROWS);
  const pointer = row.name.startsWith("cbo.") ? { rs1: r.pick([...POINTERS, 19]) } : {};
  return fixedRow(row, randomOperands(r, row, pointer));
}

/** In M-mode: an access with MPRV set, at the privilege of another mode and in some address space. */
export function modifyPrivilege(context: LockstepContext): Item {
  const { r, spaces } = context;
  const [rd, spare] = two(r);
  const user = r.oneIn(2);
  const place = 0x70000n + BigInt(r.int(0x4000)) + (user ? 0x100000n : 0n);
  const row = rowNamed(r.pick(["lw", "sw", "ld", "sb", "lhu", "fld", "fsw", "amoadd.w", "lr.d", "sc.d"]));
  const imm = row.immediate === undefined ? {} : { imm: r.int(4096) - 2048 };
  const given = { rs1: 18, ...(row.fields.has("rd") ? { rd } : {}), ...imm };
  const mstatus = { rd: 0, rs1: rd, csr: CSR.mstatus };
  return joined([
    load64(18, spare, BigInt.asUintN(64, r.pick(spaces).window + place)),
    load32(rd, 0x1800),
    op("csrrc", mstatus),
    ...(user ? [] : [load32(rd, 0x800), op("csrrs", mstatus)]),
    load32(rd, 0x20000),
    op("csrrs", mstatus),
    ...(r.oneIn(2) ? [op("jal", { rd: 0, imm: 4 })] : []),
    fixedRow(row, randomOperands(r, row, given)),
    ...(r.oneIn(2) ? [op("jal", { rd: 0, imm: 4 })] : []),
    load32(rd, 0x20000),
    op("csrrc", mstatus),
    op("addi", { rd: 18, rs1: 8, imm: 0 }),
  ]);
}

/**
 * In M-mode: gives one of the first two PMP entries another range in scratch memory and other permissions,
 * then fences, as the specification requires.
 */
export function protect({ r }: LockstepContext): Item {
  const [rd, spare] = two(r);
  const entry = r.int(2);
  const at = (RAM_BASE + BigInt(SCRATCH + r.int(SCRATCH_SIZE / 8) * 8)) >> 2n;
  const ones = (1n << BigInt(r.pick([0, 1, 3, 5, 9, 10, 11]))) - 1n;
  const bits = r.int(8) << (8 * entry);
  return joined([
    load64(rd, spare, (at & ~(ones * 2n + 1n)) | ones),
    op("csrrw", { rd: 0, rs1: rd, csr: PMPADDR0 + entry }),
    load32(rd, (0x18 << (8 * entry)) | bits),
    op(r.pick(["csrrs", "csrrc"]), { rd: 0, rs1: rd, csr: PMPCFG0 }),
    op("sfence.vma", {}),
  ]);
}
const [PMPCFG0, PMPADDR0] = [0x3a0, 0x3b0];

/** Loads new numbers into f registers, which otherwise all become NaN. */
export function refresh({ r }: LockstepContext): Item {
  const row = r.pick(FROM_INTEGER);
  return fixedRow(
    row,
    randomOperands(r, row, row.fields.has("rm") ? { rm: r.pick([0, 0, 7, r.int(5)]) } : {}),
  );
}
const FROM_INTEGER = rows.filter(
  (row) => row.fields.has("frd") && row.fields.has("rs1") && !row.fields.has("imm12"),
);
