// Physical memory protection for a random program (privileged specification, 3.7): entries 0 to 2 cover parts
// of its scratch memory and page tables, entry 3 mostly allows the rest. None is locked, since locked entries
// would outlast the program; none has W without R, which is reserved.
import { SCRATCH, SCRATCH_SIZE, TABLE_PAGES, TABLES } from "./layout.ts";
import { SAFE_PAGE } from "./page-tables.ts";
import type { Random } from "../random.ts";

export interface PmpEntry {
  readonly cfg: number;
  readonly address: bigint;
}

const MODE = { OFF: 0, TOR: 1 << 3, NA4: 2 << 3, NAPOT: 3 << 3 };
const ALL: PmpEntry = { cfg: MODE.NAPOT | 7, address: (1n << 54n) - 1n };

/** Entries cover scratch memory from here on. */
const FIRST = SCRATCH + (SAFE_PAGE + 1) * 4096;

function entry(r: Random, slot: bigint, previous: bigint | undefined): PmpEntry {
  const isTable = previous === undefined && r.oneIn(6);
  const start = isTable ? TABLES : FIRST;
  const size = isTable ? TABLE_PAGES * 4096 : SCRATCH + SCRATCH_SIZE - FIRST;
  const at = (slot + BigInt(start + r.int(size / 4) * 4)) >> 2n;
  // In read-only tables QEMU updates A and D bits; Wherry raises an access fault.
  const permissions = r.pick(isTable ? [0, 3, 7] : [0, 1, 3, 4, 5, 7]);
  // A TOR range starts at the previous entry's address.
  const canBeTop = previous !== undefined && previous >= (slot + BigInt(FIRST)) >> 2n;
  const mode = r.pick([MODE.OFF, canBeTop ? MODE.TOR : MODE.NA4, MODE.NA4, MODE.NAPOT, MODE.NAPOT]);
  if (mode !== MODE.NAPOT) return { cfg: mode | permissions, address: at };
  // 8 bytes to 16 KiB: the number of trailing ones gives the size.
  const ones = (1n << BigInt(r.pick([0, 1, 3, 5, 9, 9, 10, 11]))) - 1n;
  return { cfg: mode | permissions, address: (at & ~(ones * 2n + 1n)) | ones };
}

/** Entries 0 to 3. If not `active`, all accesses are allowed. */
export function randomPmp(r: Random, slot: bigint, active: boolean): PmpEntry[] {
  const none: PmpEntry = { cfg: 0, address: 0n };
  if (!active) return [none, none, none, ALL];
  const last = r.weighted([
    [12, ALL],
    // An entry for an unused address: without any active entry QEMU refuses mret to a lower mode.
    [1, { cfg: MODE.NA4, address: 0n }],
  ]);
  const first = entry(r, slot, undefined);
  const second = entry(r, slot, first.address);
  return [first, second, entry(r, slot, second.address), last];
}
