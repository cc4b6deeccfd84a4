// A clock that a test moves by hand, with timers that fire when it passes them.
import type { SetTimer } from "../../src/base/clock.ts";

export class FakeClock {
  nowNs = 1_000_000_000n;
  readonly #timers = new Set<{ at: bigint; fire: () => void }>();

  readonly setTimer: SetTimer = (delayMs, fire) => {
    const timer = { at: this.nowNs + BigInt(Math.round(delayMs * 1e6)), fire };
    this.#timers.add(timer);
    return { cancel: () => void this.#timers.delete(timer) };
  };

  get timers(): number {
    return this.#timers.size;
  }

  advanceNs(ns: bigint): void {
    const end = this.nowNs + ns;
    for (;;) {
      const next = [...this.#timers].sort((a, b) => (a.at < b.at ? -1 : 1))[0];
      if (next === undefined || next.at > end) break;
      if (next.at > this.nowNs) this.nowNs = next.at;
      this.#timers.delete(next);
      next.fire();
    }
    this.nowNs = end;
  }
}
