// Order among the requests of an image: one at a time, or by range, shared or exclusive. Who came first is
// served first.

/** Runs tasks one after the other. */
export class Turns {
  #last: Promise<unknown> = Promise.resolve();

  run<T>(task: () => Promise<T>): Promise<T> {
    const done = this.#last.then(task);
    this.#last = done.catch(() => {});
    return done;
  }
}

interface Claim {
  readonly first: number;
  readonly last: number;
  readonly isExclusive: boolean;
}

const excludes = (a: Claim, b: Claim): boolean =>
  a.first <= b.last && b.first <= a.last && (a.isExclusive || b.isExclusive);

export class RangeLock {
  readonly #held = new Set<Claim>();
  readonly #waiting: { readonly claim: Claim; readonly grant: () => void }[] = [];

  /** Claims the clusters `first` to `last` while `task` runs. */
  async during<T>(first: number, last: number, isExclusive: boolean, task: () => Promise<T>): Promise<T> {
    const claim = { first, last, isExclusive };
    if (this.#isFree(claim, this.#waiting.length)) this.#held.add(claim);
    else await new Promise<void>((grant) => this.#waiting.push({ claim, grant }));
    try {
      return await task();
    } finally {
      this.#held.delete(claim);
      for (let i = 0; i < this.#waiting.length; ) {
        const next = this.#waiting[i];
        if (next !== undefined && this.#isFree(next.claim, i)) {
          this.#waiting.splice(i, 1);
          this.#held.add(next.claim);
          next.grant();
        } else i++;
      }
    }
  }

  /** True if a task could claim these clusters now: one that ends before anything else runs need not. */
  isFree(first: number, last: number, isExclusive: boolean): boolean {
    return this.#isFree({ first, last, isExclusive }, this.#waiting.length);
  }

  /** True if nothing that is held, or waits among the first `before`, excludes it. */
  #isFree(claim: Claim, before: number): boolean {
    for (const held of this.#held) if (excludes(claim, held)) return false;
    for (let i = 0; i < before; i++) {
      const other = this.#waiting[i]?.claim;
      if (other !== undefined && excludes(claim, other)) return false;
    }
    return true;
  }
}
