// Limits a stream to a number of bytes per second (QEMU's max-bandwidth), which may change at any time.
import { type MigrationEnvironment, sleep } from "../environment/migration-environment.ts";

/**
 * Longest sleep, so that a cancel or a new limit takes effect soon; also the longest burst of unused time.
 */
const MAX_SLEEP_MS = 100;

export class RateLimiter {
  readonly #environment: MigrationEnvironment;
  /** Bytes sent in excess of the rate. */
  #debt = 0;
  #sinceMs: number;

  constructor(environment: MigrationEnvironment) {
    this.#environment = environment;
    this.#sinceMs = environment.nowMs();
  }

  /**
   * Resolves when `bytes` more may be sent. Calls `bytesPerSecond` each time (0: no limit). `check` may
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
