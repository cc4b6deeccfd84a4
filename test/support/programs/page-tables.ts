// Page tables for a random program (privileged specification, 12.3 to 12.6): identity-mapped code, all of RAM
// at an alias for the S-mode handler, scratch pages with random permissions, superpages, misaligned
// superpages and entries with reserved bits.
import { CODE, HANDLER_ALIAS, RAM_BASE, SCRATCH, SCRATCH_VIRT, TABLE_PAGES, TABLES } from "./layout.ts";
import type { Random } from "../random.ts";

export interface PageTables {
  /** TABLE_PAGES pages; for Sv39 the root is page 0, for Sv48 page 4, for Sv57 page 5. */
  readonly bytes: Uint8Array;
}

export const ROOT_PAGE = { 8: 0, 9: 4, 10: 5 } as const;

/** Scratch page with all permissions, which no PMP entry restricts. */
export const SAFE_PAGE = 3;

/** Here the scratch pages' table itself is mapped instead of a scratch page. */
export const TABLE_WINDOW_PAGE = 15;

const PTE = { V: 1n, R: 2n, W: 4n, X: 8n, U: 16n, G: 32n, A: 64n, D: 128n };
const RWXAD = PTE.V | PTE.R | PTE.W | PTE.X | PTE.A | PTE.D;

const pte = (address: bigint, flags: bigint): bigint => ((address >> 12n) << 10n) | flags;
const gigapage = (virt: bigint): number => Number((virt >> 30n) & 0x1ffn);

/** Flags of a leaf: mostly all permissions, otherwise random flags (reserved combinations too). */
function leafFlags(r: Random, user: bigint): bigint {
  if (!r.oneIn(3)) return RWXAD | (r.oneIn(8) ? PTE.U ^ user : user);
  return (r.u64() & 0xffn) | (r.oneIn(8) ? 0n : PTE.V) | (r.oneIn(2) ? user : 0n);
}

/** `slot` is the address of the program's slot. */
export function randomPageTables(r: Random, slot: bigint, mode: "U" | "S" | "M"): PageTables {
  const bytes = new Uint8Array(TABLE_PAGES * 4096);
  const view = new DataView(bytes.buffer);
  const page = (n: number): bigint => slot + BigInt(TABLES + n * 4096);
  const set = (table: number, index: number, value: bigint): void => {
    view.setBigUint64(table * 4096 + index * 8, BigInt.asUintN(64, value), true);
  };
  const user = mode === "U" ? PTE.U : 0n;
  // Page 0: Sv39's root.
  set(0, gigapage(RAM_BASE), pte(RAM_BASE, RWXAD | user));
  set(0, gigapage(RAM_BASE + HANDLER_ALIAS), pte(RAM_BASE, RWXAD));
  set(0, gigapage(SCRATCH_VIRT), pte(page(1), PTE.V));
  set(0, 5, pte(RAM_BASE + 0x1000n, RWXAD | user));
  set(0, 511, pte(page(1), PTE.V));
  // Page 1, 2 MiB per entry: scratch pages; superpages, one misaligned; a non-leaf entry with reserved bits.
  set(1, 0, pte(page(2), PTE.V));
  set(1, 1, pte((slot >> 21n) << 21n, leafFlags(r, user)));
  set(1, 2, pte(slot, RWXAD | user));
  set(1, 3, pte(page(2), PTE.V | r.pick([PTE.U, PTE.A, PTE.D])));
  set(1, 4, pte(page(3), PTE.V));
  set(1, 511, pte(page(2), PTE.V));
  // Page 2: scratch pages in random order, then random entries; page 3: random entries.
  for (let i = 0; i < 512; i++) {
    const target = slot + BigInt(SCRATCH + r.int(16) * 4096);
    set(2, i, pte(target, leafFlags(r, user)) | (r.oneIn(40) ? 1n << BigInt(54 + r.int(10)) : 0n));
    set(3, i, r.u64() & r.u64() & ~PTE.V);
  }
  set(2, SAFE_PAGE, pte(slot + BigInt(SCRATCH + SAFE_PAGE * 4096), RWXAD | user));
  set(2, TABLE_WINDOW_PAGE, pte(page(2), PTE.V | PTE.R | PTE.W | PTE.A | PTE.D | user));
  if (r.oneIn(2)) smallCodePages(r, slot, user, set, page);
  // Pages 4 and 5: the roots of Sv48 and Sv57.
  set(4, 0, pte(page(0), PTE.V));
  set(4, 511, pte(page(0), PTE.V));
  set(5, 0, pte(page(4), PTE.V));
  set(5, 511, pte(page(4), PTE.V));
  return { bytes };
}

/**
 * Pages 6 and 7: RAM identity-mapped, with 4 KiB pages around the program; later pages of its code have
 * random flags.
 */
function smallCodePages(
  r: Random,
  slot: bigint,
  user: bigint,
  set: (table: number, index: number, value: bigint) => void,
  page: (n: number) => bigint,
): void {
  set(0, gigapage(RAM_BASE), pte(page(6), PTE.V));
  const region = (slot >> 21n) << 21n;
  for (let i = 0; i < 512; i++) {
    set(6, i, pte(RAM_BASE + BigInt(i) * 0x200000n, RWXAD | user));
    set(7, i, pte(region + BigInt(i) * 4096n, RWXAD | user));
  }
  set(6, Number((slot >> 21n) & 0x1ffn), pte(page(7), PTE.V));
  const code = Number((slot + BigInt(CODE) - region) >> 12n);
  set(7, code, pte(slot + BigInt(CODE), (RWXAD & ~(r.oneIn(2) ? PTE.A | PTE.D : 0n)) | user));
  for (const n of [1, 2]) {
    // No user pages for S-mode: QEMU fetches from one if a store with SUM has loaded it into the TLB.
    const flags = user === 0n ? leafFlags(r, 0n) & ~PTE.U : leafFlags(r, user);
    set(7, code + n, pte(slot + BigInt(CODE + n * 4096), flags));
  }
}
