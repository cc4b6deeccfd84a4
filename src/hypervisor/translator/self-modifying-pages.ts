// Back-off for self-modifying code: translating a page after each change costs more than it saves if its code
// changes repeatedly (a guest that keeps patching its code, a compiler in the guest that fills a page piece
// by piece). After each change the page is only interpreted for a time that grows with the number of changes.

/** Normal changes without back-off: a loader writes a page, a kernel patches it. */
const FREE_CHANGES = 4;
const MAX_BACKOFF_MS = 256;
/** The changes of a page are forgotten after this time without one. */
const QUIET_MS = 10_000;
/** Maximum number of tracked pages; above it, settled pages are removed. */
const MAX_PAGES = 4096;

export class SelfModifyingPages {
  readonly #pages = new Map<number, { changes: number; last: number }>();

  /** `now`: ms of any monotonic clock, the same in all calls. */
  changed(page: number, now: number): void {
    const known = this.#pages.get(page);
    if (known === undefined || now - known.last >= QUIET_MS) this.#pages.set(page, { changes: 1, last: now });
    else {
      known.changes++;
      known.last = now;
    }
    if (this.#pages.size > MAX_PAGES) this.#dropQuiet(now);
  }

  /** Whether the page must not be translated now. */
  isBackedOff(page: number, now: number): boolean {
    const known = this.#pages.get(page);
    if (known === undefined || known.changes <= FREE_CHANGES) return false;
    return now - known.last < Math.min(2 ** (known.changes - FREE_CHANGES), MAX_BACKOFF_MS);
  }

  #dropQuiet(now: number): void {
    for (const [page, { last }] of this.#pages) if (now - last >= QUIET_MS) this.#pages.delete(page);
    // All of them still change: remove any.
    for (const page of this.#pages.keys()) {
      if (this.#pages.size <= MAX_PAGES) break;
      this.#pages.delete(page);
    }
  }
}
