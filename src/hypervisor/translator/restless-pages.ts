// Pages whose code changes again and again (a guest that keeps patching its code, a compiler in the guest
// that fills a page piece by piece): translating them after each change costs more than it saves. After each
// change such a page is only interpreted for a while, longer the more often it has changed.

/** Changes that are nothing special: a loader writes a page, a kernel patches it. */
const FREE_CHANGES = 4;
const MAX_REST_MS = 256;
/** A page that did not change for this long starts over. */
const FORGET_MS = 10_000;
/** Pages that are kept; beyond, those that may be forgotten are looked for. */
const MAX_KEPT = 4096;

export class RestlessPages {
  readonly #pages = new Map<number, { changes: number; last: number }>();

  /** `now`: ms of any monotonic clock, the same in all calls. */
  changed(page: number, now: number): void {
    const known = this.#pages.get(page);
    if (known === undefined || now - known.last >= FORGET_MS)
      this.#pages.set(page, { changes: 1, last: now });
    else {
      known.changes++;
      known.last = now;
    }
    if (this.#pages.size > MAX_KEPT) this.#forgetSettled(now);
  }

  /** Not to be translated now. */
  rests(page: number, now: number): boolean {
    const known = this.#pages.get(page);
    if (known === undefined || known.changes <= FREE_CHANGES) return false;
    return now - known.last < Math.min(2 ** (known.changes - FREE_CHANGES), MAX_REST_MS);
  }

  #forgetSettled(now: number): void {
    for (const [page, { last }] of this.#pages) if (now - last >= FORGET_MS) this.#pages.delete(page);
    // All of them change: any will do.
    for (const page of this.#pages.keys()) {
      if (this.#pages.size <= MAX_KEPT) break;
      this.#pages.delete(page);
    }
  }
}
