// A random program: the initial state of a slot, and its code (items*.ts). Deterministic in its seed;
// addresses follow from its slot.
import { MENVCFG_ADUE } from "../../../src/riscv/envcfg.ts";
import {
  access,
  atomic,
  branch,
  type Context,
  computation,
  floatComputation,
  type Item,
  jump,
  type Mode,
  movePointer,
  nearlyRow,
  POINTERS,
  rawWord,
  reservation,
  SAFE_POINTER,
  WRONG_POINTER,
} from "./items.ts";
import { compressed } from "./items-compressed.ts";
import {
  burst,
  csr,
  editPageTable,
  interrupt,
  lowerMode,
  maskedCsr,
  mprv,
  selfModify,
  status,
  system,
} from "./items-system.ts";
import { CODE, RAM_BASE, SCRATCH, SCRATCH_SIZE, SCRATCH_VIRT, SLOT_SIZE, SLOTS } from "./layout.ts";
import { type PageTables, randomPageTables, SAFE_PAGE } from "./page-tables.ts";
import { type PmpEntry, randomPmp } from "./pmp.ts";
import { Random } from "../random.ts";

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
  readonly pmp: readonly PmpEntry[];
  /** Start in the code area, near the end of a page: the code crosses into the next page. */
  readonly codeOffset: number;
  readonly items: readonly Item[];
}

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

export function integer(r: Random): bigint {
  return r.weighted([
    [3, () => r.u64()],
    [3, () => r.pick(INTERESTING)],
    [2, () => BigInt.asUintN(64, BigInt.asIntN(8, r.u64()))],
    [1, () => BigInt.asUintN(64, BigInt.asIntN(32, r.u64()))],
    [1, () => r.u64() >> BigInt(r.int(64))],
  ])();
}

/**
 * A value of an f register: numbers near one another, few bits, corner cases, NaNs; binary16 and binary32
 * mostly NaN-boxed.
 */
export function float(r: Random): bigint {
  const width = r.weighted([
    [1, 16n],
    [2, 32n],
    [2, 64n],
  ]);
  const fraction = width === 16n ? 10n : width === 32n ? 23n : 52n;
  const exponents = 2 ** Number(width - fraction - 1n) - 1;
  const spread = Math.min(20, exponents >> 2);
  const biased = r.weighted([
    [6, (exponents >> 1) + r.int(2 * spread + 1) - spread],
    [2, r.int(exponents + 1)],
    [1, 0],
    [1, exponents],
    [1, exponents - 1],
    [1, r.int(4)],
  ]);
  const length = r.pick([0n, 1n, 4n, fraction, fraction, fraction]);
  const mantissa = (r.u64() & ((1n << length) - 1n)) << (fraction - length);
  const sign = r.oneIn(2) ? 1n << (width - 1n) : 0n;
  const bits = sign | (BigInt(biased) << fraction) | mantissa;
  return width < 64n && !r.oneIn(12) ? BigInt.asUintN(64, bits | (-1n << width)) : bits;
}

/** Addresses that fault, or nearly do. */
function wrongPointer(r: Random, slot: bigint, bare: boolean, ramEnd: bigint): bigint {
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
    // The superpage that contains the program.
    SCRATCH_VIRT + 0x200000n + ((slot + BigInt(SCRATCH) + 0x1000n) & 0x1fffffn),
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
  [1, burst],
  [1, selfModify],
  [2, rawWord],
  [2, nearlyRow],
];

/** The generators of a context, with their weights. */
function generators({ mode, paged, tvm }: Context): typeof GENERATORS {
  return [
    ...GENERATORS,
    ...(mode === "U" ? [] : ([[1, interrupt]] as const)),
    ...(mode === "M" ? ([[3, mprv]] as const) : []),
    ...(mode === "S" && paged && !tvm ? ([[2, editPageTable]] as const) : []),
  ];
}

/** Generates the program of this seed for a slot of a batch whose RAM ends at `ramEnd`. */
export function randomProgram(seed: number, slot: number, ramEnd: bigint): Program {
  const r = new Random(seed);
  const mode = r.weighted<Mode>([
    [4, "M"],
    [3, "S"],
    [3, "U"],
  ]);
  const satpMode = r.oneIn(mode === "M" ? 2 : 4) ? 0 : r.pick([8, 8, 9, 10] as const);
  const paged = satpMode !== 0;
  const bare = mode === "M" || !paged;
  const [tvm, tw] = [r.oneIn(6), r.oneIn(6)];
  const usesPmp = r.oneIn(3);
  const context: Context = { r, mode, bare, paged, interrupt: r.pick([0x2, 0x20, 0x200]), tvm, tw, usesPmp };
  // With PMP, no delegation and no S-mode after M-mode: PMP could deny the S-mode handler its accesses.
  const lowers = (mode === "S" || (mode === "M" && !usesPmp)) && r.oneIn(3);
  const available = generators(context);
  const items = Array.from({ length: 40 + r.int(80) }, () => r.weighted(available)(context));
  if (lowers) items.splice(10 + r.int(items.length - 10), 0, lowerMode(context));
  const base = bare ? slotAddress(slot) + BigInt(SCRATCH) : SCRATCH_VIRT;
  const x = Array.from({ length: 32 }, () => integer(r));
  for (const p of POINTERS) x[p] = base + BigInt(SCRATCH_SIZE / 2 - 0x1000 + 8 * r.int(0x400));
  x[SAFE_POINTER] = base + BigInt(SAFE_PAGE * 4096 + 8 * r.int(0x1f0));
  x[WRONG_POINTER] = wrongPointer(r, slotAddress(slot), bare, ramEnd);
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
  const others = flag(18, 2) | flag(19, 3) | (tvm ? 1n << 20n : 0n) | (tw ? 1n << 21n : 0n) | flag(22, 6);
  const delegate = mode !== "M" && !usesPmp && r.oneIn(2);
  return {
    mode,
    satpMode,
    mstatus: mpp | fs | others | flag(7, 3) | flag(5, 3),
    tables: paged ? randomPageTables(r, slotAddress(slot), mode) : undefined,
    // All exceptions except breakpoints, which end the program in the M-mode handler.
    medeleg: delegate ? r.u64() & 0xb3f7n : 0n,
    mideleg: delegate && r.oneIn(2) ? BigInt(context.interrupt) : 0n,
    counteren: r.u64() & 0x7n,
    // QEMU 7.2 ignores ADUE and always updates A and D.
    menvcfg: MENVCFG_ADUE | (r.oneIn(2) ? 0n : 0x71n),
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
    pmp: randomPmp(r, slotAddress(slot), usesPmp),
    codeOffset: r.oneIn(3) ? 0x1000 - 2 * (10 + r.int(200)) : 0,
    items,
  };
}

/** The program's code at its slot: the first `keep` items, and the final ebreak. */
export function assembleProgram(program: Program, slot: number, keep = program.items.length) {
  const start = slotAddress(slot) + BigInt(CODE + program.codeOffset);
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
