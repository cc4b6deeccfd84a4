// Privileged items of a random program: CSRs, status bits, interrupts, returns to lower modes, MPRV, edits of
// page tables, self-modifying code. Where QEMU 7.2 deviates from the specification, or precedes it, items
// avoid the difference.
import { rows } from "../../../src/hypervisor/isa/isa.ts";
import {
  access,
  type Context,
  computation,
  DESTINATIONS,
  fixedRow,
  type Item,
  joined,
  op,
  plain,
  POINTERS,
  randomOperands,
  unit,
} from "./items.ts";
import { SCRATCH_VIRT } from "./layout.ts";
import { SAFE_PAGE, TABLE_WINDOW_PAGE } from "./page-tables.ts";
import type { Random } from "../random.ts";

const CSR = {
  sstatus: 0x100,
  sepc: 0x141,
  mstatus: 0x300,
  sie: 0x104,
  mie: 0x304,
  sip: 0x144,
  mip: 0x344,
  mepc: 0x341,
};

// CSRs that a program may write freely; the runner owns mtvec, mscratch and mepc.
const USER_CSRS = [0x001, 0x002, 0x003];
const SUPERVISOR_CSRS = [...USER_CSRS, 0x10a, 0x140, 0x142, 0x143];
const MACHINE_CSRS = [...SUPERVISOR_CSRS, 0x342, 0x343];

/**
 * Counters and CSRs that are read-only, privileged or absent: accessed only for the trap; the result is not
 * used.
 */
const OTHER_CSRS = [
  0xc00, 0xc01, 0xc02, 0xc03, 0xf11, 0xf14, 0x301, 0x100, 0x300, 0x180, 0x305, 0x3a0, 0x3a1, 0x3b0, 0x5a8,
  0x007, 0x4ff, 0xbff, 0x600, 0x200,
];

const temporary = (r: Random): number => r.pick(DESTINATIONS.filter((x) => x !== 0));

/** rd = a 32-bit value. */
function load32(rd: number, value: number): Item[] {
  const low = (value << 20) >> 20;
  return [op("lui", { rd, imm: (value - low) | 0 }), op("addiw", { rd, rs1: rd, imm: low })];
}

/** auipc and addi: rd = the start of the next item. */
function loadTarget(rd: number, laterBytes: number): Item {
  return {
    size: 8,
    reach: 1,
    text: `x${rd} = next item`,
    encode: () => [
      { size: 4, word: op("auipc", { rd, imm: 0 }).encode(0n, 0n)[0]?.word ?? 0 },
      { size: 4, word: op("addi", { rd, rs1: rd, imm: 8 + laterBytes }).encode(0n, 0n)[0]?.word ?? 0 },
    ],
  };
}

/**
 * CSRs that have more writable bits in QEMU than in Wherry (the hypervisor extension's bits, 64 bits in a
 * counter enable or inhibit, bit 0 of sepc), with the bits that both have. A program uses one interrupt only:
 * QEMU takes the lowest number first, not the highest priority.
 */
export function maskedCsr({ r, mode, interrupt }: Context): Item {
  const supervisor = [
    [CSR.sie, interrupt],
    [CSR.sip, interrupt],
    [0x106, 0x7f7],
    [CSR.sepc, 0x7fe],
  ] as const;
  const machine = [
    ...supervisor,
    [CSR.mie, interrupt],
    [CSR.mip, interrupt],
    [0x302, 0x3f7],
    [0x303, interrupt],
    [0x320, 0x5],
    [0x306, 0x7f7],
  ] as const;
  const [csr, mask] = r.pick(mode === "M" ? machine : supervisor);
  const rs1 = temporary(r);
  const value = op("addi", { rd: rs1, imm: r.u32() & mask });
  return joined([value, op(r.pick(["csrrw", "csrrs", "csrrc"]), { rd: r.pick(DESTINATIONS), rs1, csr })]);
}

const CSR_ROWS = rows.filter((row) => row.fields.has("csr"));

export function csr({ r, mode }: Context): Item {
  const own = mode === "M" ? MACHINE_CSRS : mode === "S" ? SUPERVISOR_CSRS : USER_CSRS;
  if (r.oneIn(5)) {
    const row = r.pick(CSR_ROWS.filter((candidate) => /^csrr[sc]i?$/.test(candidate.name)));
    return fixedRow(row, randomOperands(r, row, { csr: r.pick(OTHER_CSRS), rd: 0, rs1: 0, uimm5: 0 }));
  }
  const row = r.pick(CSR_ROWS);
  return fixedRow(row, randomOperands(r, row, { csr: r.oneIn(12) ? r.pick(MACHINE_CSRS) : r.pick(own) }));
}

/**
 * Bits of mstatus or sstatus that a program may change: not MPRV, MPP or SPP; FS as a whole, since QEMU does
 * not update it when only fflags change; not TVM if the program edits its page tables.
 */
const STATUS_BITS = [0x2, 0x8, 0x20, 0x80, 0x6000, 0x40000, 0x80000, 0x200000, 0x400000];

export function status({ r, mode, paged }: Context): Item {
  const rd = temporary(r);
  const bit = r.pick(paged ? STATUS_BITS : [...STATUS_BITS, 0x100000]);
  const status = mode === "M" ? CSR.mstatus : CSR.sstatus;
  return joined([...load32(rd, bit), op(r.pick(["csrrs", "csrrc"]), { rd: 0, rs1: rd, csr: status })]);
}

/** Makes an interrupt pending and enables it. */
export function interrupt({ r, mode, interrupt: bit }: Context): Item {
  const rd = temporary(r);
  const [enable, pending, status, global] =
    mode === "M" ? [CSR.mie, CSR.mip, CSR.mstatus, 8] : [CSR.sie, CSR.sip, CSR.sstatus, 2];
  const steps = [
    op("csrrs", { rd: 0, rs1: rd, csr: enable }),
    op("csrrs", { rd: 0, rs1: rd, csr: pending }),
    op("csrrsi", { uimm5: global, csr: status }),
  ];
  const first = r.int(steps.length);
  return joined([op("addi", { rd, imm: bit }), ...steps.slice(first), ...steps.slice(0, first)]);
}

const SYSTEM_WORDS: readonly (readonly [string, number])[] = [
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
const MRET = ["mret", 0x30200073] as const;
const SRET = ["sret", 0x10200073] as const;
const WFI = ["wfi", 0x10500073] as const;

/**
 * mret, sret and wfi only where they are illegal: otherwise a return would leave the program, and wfi would
 * wait.
 */
export function system({ r, mode, tw }: Context): Item {
  const illegal = mode === "U" ? [MRET, SRET, WFI] : mode === "S" ? (tw ? [MRET, WFI] : [MRET]) : [];
  const [text, word] = r.pick([...SYSTEM_WORDS, ...illegal]);
  return plain(text, unit(4, word));
}

/** Continues in a lower mode (or the same) by mret or sret; later items that need the higher mode trap. */
export function lowerMode({ r, mode }: Context): Item {
  const rd = temporary(r);
  if (mode === "M" && !r.oneIn(3)) {
    const toS = r.oneIn(2);
    const clear = [...load32(rd, 0x1800), op("csrrc", { rd: 0, rs1: rd, csr: CSR.mstatus })];
    const set = toS ? [...load32(rd, 0x800), op("csrrs", { rd: 0, rs1: rd, csr: CSR.mstatus })] : [];
    const leave = [op("csrrw", { rd: 0, rs1: rd, csr: CSR.mepc }), plain("mret", unit(4, MRET[1]))];
    return joined([...clear, ...set, loadTarget(rd, 8), ...leave]);
  }
  const spp = [
    op("addi", { rd, imm: 0x100 }),
    op(r.pick(["csrrc", "csrrs"]), { rd: 0, rs1: rd, csr: CSR.sstatus }),
  ];
  const leave = [op("csrrw", { rd: 0, rs1: rd, csr: CSR.sepc }), plain("sret", unit(4, SRET[1]))];
  return joined([...spp, loadTarget(rd, 8), ...leave]);
}

/**
 * In M-mode: one load or store with MPRV set, as in S-mode or U-mode. Only one, since the handler clears
 * MPRV.
 */
export function mprv(context: Context): Item {
  const { r, paged, usesPmp } = context;
  const [rd, base] = [temporary(r), 18];
  const mpp = r.pick([0, 0x800]);
  const steps = [...load32(rd, 0x1800), op("csrrc", { rd: 0, rs1: rd, csr: CSR.mstatus })];
  if (mpp !== 0) steps.push(...load32(rd, mpp), op("csrrs", { rd: 0, rs1: rd, csr: CSR.mstatus }));
  // Until the end of the item, x18 has a virtual address.
  if (paged) steps.push(op("lui", { rd: base, imm: Number(SCRATCH_VIRT) + 0x1000 * (5 + r.int(6)) }));
  steps.push(...load32(rd, 0x20000), op("csrrs", { rd: 0, rs1: rd, csr: CSR.mstatus }));
  const kinds = rows.filter((row) =>
    ["lw", "sw", "ld", "sb", "lhu", "fld", "fsw", "amoadd.w"].includes(row.name),
  );
  const row = r.pick(kinds);
  const given = {
    rs1: paged ? base : r.pick(POINTERS),
    ...(row.fields.has("rd") ? { rd: rd === 5 ? 6 : 5 } : {}),
  };
  const imm =
    row.immediate === undefined ? {} : { imm: (r.int(4096) - 2048) & (usesPmp || !r.oneIn(4) ? -8 : -1) };
  steps.push(fixedRow(row, { ...randomOperands(r, row, {}), ...given, ...imm }));
  steps.push(op("csrrc", { rd: 0, rs1: rd, csr: CSR.mstatus }), op("addi", { rd: base, rs1: 8 }));
  return joined(steps);
}

/** In S-mode: swaps two entries of the scratch pages' table, and fences all addresses or these two. */
export function editPageTable({ r }: Context): Item {
  const [base, first, second] = [5, 6, 7];
  const pages = Array.from({ length: TABLE_WINDOW_PAGE }, (_, n) => n).filter((n) => n !== SAFE_PAGE);
  const [i, j] = [r.pick(pages), r.pick(pages)];
  const window = Number(SCRATCH_VIRT) + TABLE_WINDOW_PAGE * 4096;
  const address = (page: number): Item[] => [
    op("lui", { rd: first, imm: Number(SCRATCH_VIRT) + page * 4096 }),
    op("sfence.vma", { rs1: first }),
  ];
  return joined([
    op("lui", { rd: base, imm: window }),
    op("ld", { rd: first, rs1: base, imm: 8 * i }),
    op("ld", { rd: second, rs1: base, imm: 8 * j }),
    op("sd", { rs2: first, rs1: base, imm: 8 * j }),
    op("sd", { rs2: second, rs1: base, imm: 8 * i }),
    ...(r.oneIn(2) ? [op("sfence.vma", {})] : [...address(i), ...address(j)]),
  ]);
}

/** Overwrites a following nop with an instruction, fences, and executes it. */
export function selfModify(context: Context): Item {
  const { r } = context;
  const [value, base] = [temporary(r), 5];
  const rd = value === base ? 6 : value;
  const word = computation(context).encode(0n, 0n)[0]?.word ?? 0;
  return joined([
    ...load32(rd, word | 0),
    op("auipc", { rd: base, imm: 0 }),
    op("sw", { rs2: rd, rs1: base, imm: 12 }),
    plain("fence.i", unit(4, 0x0000100f)),
    op("addi", {}),
  ]);
}

/** Several accesses in a row. */
export function burst(context: Context): Item {
  return joined(Array.from({ length: 2 + context.r.int(4) }, () => access(context)));
}
