// Four address spaces with ASIDs 1 to 4 (two of Sv39, Sv48, Sv57): each maps RAM four times into a window of
// 4 KiB pages, data pages in its own order, some pages with random flags. Two superpages are common to all
// spaces. Privileged specification, 12.3 to 12.6.
import { satpOf } from "../support/satp.ts";
import { RAM_BASE } from "../support/hart-harness.ts";
import type { Random } from "../support/random.ts";
import {
  CODE,
  COPY,
  KERNEL_ALIAS,
  PROGRAM_ALIAS,
  RAM_SIZE,
  SCRATCH,
  STACK,
  TABLES,
  TABLES_END,
  WINDOW_COUNT,
} from "./layout.ts";

export interface Space {
  readonly satp: bigint;
  /** Virtual address of its window, 2 MiB. */
  readonly window: bigint;
  /** Place of the window's last-level page tables. */
  readonly leaves: number;
  /** True if the window maps the copy of the code. */
  readonly hasCopy: boolean;
}

export const PTE = { V: 1n, R: 2n, W: 4n, X: 8n, U: 16n, G: 32n, A: 64n, D: 128n };
const PAGES = RAM_SIZE / 4096;
const DATA_PAGES = (RAM_SIZE - SCRATCH) / 4096;
const MEGAPAGE = 1;

/** Canonical in Sv39, the last two only in Sv48 or Sv57. Includes both ends of the address space. */
const WINDOWS = [
  0x4000_0000n,
  0x3f_ffe0_0000n,
  0xffff_ffc0_0000_0000n,
  0xffff_ffff_ffe0_0000n,
  0x20_0000n,
  // RAM's own addresses: with the copy mapped, M-mode finds other code at the same addresses.
  0x8000_0000n,
  0x7fff_ffe0_0000n,
  0xffff_8000_0000_0000n,
];

/** The numbers from 0 to n - 1 in random order. */
function shuffled(r: Random, n: number): number[] {
  const list: number[] = [];
  for (let i = 0; i < n; i++) list.splice(r.int(i + 1), 0, i);
  return list;
}

/** Good PTE flags, with which the kernel repairs a page: code and data pages of S-mode, then of U-mode. */
export function goodFlags(r: Random): bigint[] {
  const accessed = r.oneIn(2) ? PTE.A : 0n;
  const code = PTE.V | PTE.R | PTE.X | accessed | (r.oneIn(10) ? 0n : PTE.W) | (r.oneIn(2) ? PTE.D : 0n);
  const data = PTE.V | PTE.R | PTE.W | accessed | (r.oneIn(2) ? PTE.D : 0n) | (r.oneIn(4) ? PTE.X : 0n);
  return [code, data, code | PTE.U, data | PTE.U];
}

/** Writes the page tables into `ram`. `landing` is a place on the only code page that keeps good flags. */
export function buildSpaces(
  r: Random,
  ram: DataView,
  good: readonly bigint[],
  landing: number,
): readonly Space[] {
  let free = TABLES;
  const newTable = (): number => {
    const at = free;
    free += 4096;
    if (free > TABLES_END) throw new RangeError("page tables do not fit");
    return at;
  };
  const pte = (place: number, flags: bigint): bigint => (((RAM_BASE + BigInt(place)) >> 12n) << 10n) | flags;
  /** The table of `level` for an address; missing tables are created. */
  const tableOf = (root: number, top: number, va: bigint, level: number): number => {
    let table = root;
    for (let l = top; l > level; l--) {
      const at = table + Number((va >> BigInt(12 + 9 * l)) & 511n) * 8;
      const entry = ram.getBigUint64(at, true);
      if (entry !== 0n) table = Number(((entry >> 10n) << 12n) - RAM_BASE);
      else {
        table = newTable();
        ram.setBigUint64(at, pte(table, PTE.V), true);
      }
    }
    return table;
  };
  const map = (root: number, top: number, va: bigint, level: number, value: bigint): void => {
    const at = tableOf(root, top, va, level) + Number((va >> BigInt(12 + 9 * level)) & 511n) * 8;
    ram.setBigUint64(at, value, true);
  };
  const kernel = PTE.V | PTE.R | PTE.W | PTE.X | PTE.A | PTE.D | PTE.G;
  const program =
    PTE.V | PTE.R | PTE.G | PTE.A | (r.oneIn(3) ? PTE.U : 0n) | (r.oneIn(3) ? 0n : PTE.W | PTE.D);
  const modes = [8n, 8n, 9n, 10n];
  return modes.map((mode, i) => {
    const top = Number(mode) - 6;
    const root = newTable();
    const window = r.pick(WINDOWS.slice(0, mode === 8n ? 6 : 8));
    map(root, top, KERNEL_ALIAS, MEGAPAGE, pte(0, kernel));
    map(root, top, PROGRAM_ALIAS, MEGAPAGE, pte(0, program));
    const leaves = tableOf(root, top, window, 0);
    // Consecutive pages of the window are not consecutive in memory.
    const pages = shuffled(r, DATA_PAGES);
    const hasCopy = r.oneIn(2);
    for (let n = 0; n < WINDOW_COUNT * PAGES; n++) {
      const place = (n % PAGES) * 4096;
      const isUser = n >= 2 * PAGES;
      const isData = place >= SCRATCH;
      if (place !== STACK && place < CODE) continue;
      const flags = good[(isUser ? 2 : 0) + (isData || place === STACK ? 1 : 0)] as bigint;
      const steady = place === STACK || place >> 12 === landing >> 12;
      const given = steady || !r.oneIn(6) ? flags : (r.u64() & 0xdfn) | (r.oneIn(6) ? 0n : PTE.V);
      const isCode = place >= CODE && !isData;
      const data = (): number => SCRATCH + (pages[(place - SCRATCH) / 4096] as number) * 4096;
      const target = isData ? data() : isCode && hasCopy ? place + COPY : place;
      ram.setBigUint64(leaves + n * 8, pte(target, given), true);
    }
    return {
      satp: satpOf(Number(mode), RAM_BASE + BigInt(root), i + 1),
      window,
      leaves,
      hasCopy,
    };
  });
}
