// XBZRLE, a page as a delta to its former contents: alternating runs of unchanged and new bytes, each with
// its length as ULEB128 of at most 14 bits; a last unchanged run is omitted. Only decoding: the base is the
// page in memory. Format: QEMU's docs/devel/migration and the streams it writes.
import { MigrationError } from "./migration-error.ts";

/** The byte before the delta's length. No other encoding exists. */
export const XBZRLE_ENCODING = 1;

/**
 * Turns `page` from its old contents to the new. Throws MigrationError if `delta` is damaged; the contents of
 * `page` are undefined then.
 */
export function applyXbzrle(delta: Uint8Array, page: Uint8Array): void {
  let from = 0;
  let to = 0;
  const damaged = (what: string): never => {
    throw new MigrationError("migration.xbzrle", `XBZRLE byte ${from} of ${delta.length}: ${what}`);
  };
  const length = (): number => {
    const low = delta[from++] ?? damaged("expected the length of a run, found the end");
    if (low < 0x80) return low;
    const high = delta[from++] ?? damaged("the length of a run is cut");
    if (high >= 0x80) damaged("the length of a run has more than two bytes");
    return (low & 0x7f) | (high << 7);
  };
  while (from < delta.length) {
    const first = from === 0;
    const same = length();
    if (same === 0 && !first) damaged("a run of no bytes");
    to += same;
    const changed = length();
    if (changed === 0) damaged("a run of no bytes");
    if (from + changed > delta.length) damaged(`${changed} new bytes are announced, fewer follow`);
    if (to + changed > page.length) damaged(`the runs reach beyond a page of ${page.length} bytes`);
    page.set(delta.subarray(from, from + changed), to);
    from += changed;
    to += changed;
  }
}

/** Applies a delta. False if it is damaged; the contents of the page are then undefined. */
export function tryApplyXbzrle(delta: Uint8Array, page: Uint8Array): boolean {
  try {
    applyXbzrle(delta, page);
    return true;
  } catch {
    return false;
  }
}
