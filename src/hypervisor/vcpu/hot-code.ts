// Where the guest executes its instructions (--perf): the pc at each end of a slice is a sample. A table of
// counters in the hart's area holds the most frequent places; a new place takes the row with the smallest
// count and continues that count (Metwally, Agrawal and El Abbadi's Space-Saving, 2005), so counts are never
// too small. Samples are by instructions, not by time, and translated code ends its slices where loops begin.
import { HART_HOT, hartBase, HOT_ROWS } from "../shared/memory-map.ts";

/** Samples within this distance, in bytes, count as one place. */
export const PLACE_SHIFT = 6n;

export interface HotPlace {
  /** Guest-virtual address of the first sample there. */
  readonly address: bigint;
  readonly count: number;
}

/** {u64 address, u64 count}; a count of 0 is the end of the table. */
function rowsOf(buffer: SharedArrayBuffer, hart: number): BigUint64Array<SharedArrayBuffer> {
  return new BigUint64Array(buffer, hartBase(hart) + HART_HOT, 2 * HOT_ROWS);
}

/** Samples on the hart's own thread; starts with empty counters. */
export class HotCode {
  readonly #rows: BigUint64Array<SharedArrayBuffer>;
  readonly #rowOf = new Map<bigint, number>();

  constructor(buffer: SharedArrayBuffer, hart: number) {
    this.#rows = rowsOf(buffer, hart);
    this.#rows.fill(0n);
  }

  sample(pc: bigint): void {
    const rows = this.#rows;
    const place = pc >> PLACE_SHIFT;
    let row = this.#rowOf.get(place);
    if (row === undefined) {
      row = this.#freeRow();
      this.#rowOf.set(place, row);
      rows[2 * row] = pc;
    }
    rows[2 * row + 1] = (rows[2 * row + 1] as bigint) + 1n;
  }

  #freeRow(): number {
    if (this.#rowOf.size < HOT_ROWS) return this.#rowOf.size;
    let least = 0;
    for (let row = 1; row < HOT_ROWS; row++) {
      if ((this.#rows[2 * row + 1] as bigint) < (this.#rows[2 * least + 1] as bigint)) least = row;
    }
    this.#rowOf.delete((this.#rows[2 * least] as bigint) >> PLACE_SHIFT);
    return least;
  }
}

/** The places with the most samples, at most `most`. */
export function hotPlaces(buffer: SharedArrayBuffer, hart: number, most: number): HotPlace[] {
  const rows = rowsOf(buffer, hart);
  const places: HotPlace[] = [];
  for (let row = 0; row < HOT_ROWS && rows[2 * row + 1] !== 0n; row++) {
    places.push({ address: rows[2 * row] as bigint, count: Number(rows[2 * row + 1]) });
  }
  return places.sort((a, b) => b.count - a.count).slice(0, most);
}
