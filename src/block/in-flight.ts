// Requests under way: who must know that no earlier one still uses something waits for their end.

/** Requests that began between two calls of `drain`. */
export interface Epoch {
  count: number;
  ended: () => void;
}

export class InFlight {
  #now: Epoch = { count: 0, ended: () => {} };

  /** A request begins; `end` takes what this returns. */
  begin(): Epoch {
    this.#now.count++;
    return this.#now;
  }

  end(epoch: Epoch): void {
    if (--epoch.count === 0) epoch.ended();
  }

  /** Resolves when all that began before this call, and since the last one, has ended. */
  drain(): Promise<void> {
    const epoch = this.#now;
    this.#now = { count: 0, ended: () => {} };
    if (epoch.count === 0) return Promise.resolve();
    return new Promise((resolve) => {
      epoch.ended = resolve;
    });
  }
}
