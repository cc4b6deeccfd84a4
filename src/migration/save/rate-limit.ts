// Limits a stream to a number of bytes per second (QEMU's max-bandwidth), which may change at any time.
import { type MigrationEnvironment, sleep } from "../environment/migration-environment.ts";

/**
 * Longest sleep at once, so that a cancel or a new limit is noticed; and how much unused time is saved up.
 */
const MAX_SLEEP_MS = 100;

export class RateLimiter {
  readonly #environment: MigrationEnvironment;
  /** Bytes let through that the time since has not paid for. */
  #debt = 0;
  #sinceMs: number;

  constructor(environment: MigrationEnvironment) {
    this.#environment = environment;
    this.#sinceMs = environment.nowMs();
  }

  /**
   * Resolves when `bytes` more may be sent. `bytesPerSecond` is read each time (0: no limit); `check` may
   * throw.
   */
  async take(bytes: number, bytesPerSecond: () => number, check: () => void): Promise<void> {
    for (;;) {
      const now = this.#environment.nowMs();
      const perMs = bytesPerSecond() / 1000;
      this.#debt =
        perMs === 0 ? 0 : Math.max(this.#debt - (now - this.#sinceMs) * perMs, -MAX_SLEEP_MS * perMs);
      this.#sinceMs = now;
      if (this.#debt <= 0) {
        this.#debt += bytes;
        return;
      }
      await sleep(this.#environment, Math.min(this.#debt / perMs, MAX_SLEEP_MS));
      check();
    }
  }
}
