// The progress of a move: what query-migrate shows, and the measurements that decide when to stop the guest.
import { PAGE_SIZE } from "../../memory/guest-memory.ts";

/**
 * QEMU's MigrationStatus for precopy, and `unresolved`. The source's states in docs/migration.md: `setup` is
 * CONNECT, `active` ROUNDS, `device` SWITCHOVER, COMMITTED (OutgoingMove.committed) and RESOLVING,
 * `unresolved` UNRESOLVED, `completed` MOVED, `failed` and `cancelled` HERE. The destination's states are
 * DestinationState.
 */
export type MigrationStatus =
  | "setup"
  | "active"
  | "device"
  | "cancelling"
  | "unresolved"
  | "completed"
  | "failed"
  | "cancelled";

/** Bytes and pages since the start; a page has 4096 bytes. */
export interface MigrationProgress {
  readonly status: MigrationStatus;
  readonly totalBytes: number;
  readonly transferredBytes: number;
  /** Part of transferredBytes: sent over multifd channels. */
  readonly multifdBytes: number;
  readonly remainingBytes: number;
  readonly normalPages: number;
  readonly zeroPages: number;
  /** Rounds so far; each fetches the dirty log. */
  readonly rounds: number;
  /** Pages that the guest dirtied per second in the last round. */
  readonly dirtyPagesPerSecond: number;
  readonly megabitsPerSecond: number;
  readonly pagesPerSecond: number;
  /** Bytes sent while the guest ran, and after it was stopped. */
  readonly precopyBytes: number;
  readonly downtimeBytes: number;
  readonly totalTimeMs: number;
  readonly setupTimeMs: number | undefined;
  readonly expectedDowntimeMs: number | undefined;
  /** From the stop of the guest to the destination's SHUT. */
  readonly downtimeMs: number | undefined;
  /** Reason of a failed or unresolved move. */
  readonly error: string | undefined;
  readonly advice: string | undefined;
}

/** Bandwidth in bytes per millisecond, over windows of at least 50 ms; 0 before the first. */
export class Bandwidth {
  static readonly #windowMs = 50;
  #sinceMs: number;
  #sinceBytes = 0;
  #rate = 0;

  constructor(nowMs: number) {
    this.#sinceMs = nowMs;
  }

  /** `bytes` is the total that the channels have accepted. */
  sample(nowMs: number, bytes: number): void {
    const elapsed = nowMs - this.#sinceMs;
    if (elapsed < Bandwidth.#windowMs) return;
    const rate = (bytes - this.#sinceBytes) / elapsed;
    this.#rate = this.#rate === 0 ? rate : (this.#rate + rate) / 2;
    this.#sinceMs = nowMs;
    this.#sinceBytes = bytes;
  }

  /** Bytes per millisecond; before the first window, the average so far. */
  at(nowMs: number, bytes: number): number {
    if (this.#rate > 0) return this.#rate;
    return (bytes - this.#sinceBytes) / Math.max(nowMs - this.#sinceMs, 1);
  }
}

/** A round is progress if it leaves at most this part of the least number of dirty pages before. */
const PROGRESS = 0.9;
/** Above this part of max-bandwidth, the limit and not the network is what holds the move back. */
const AT_LIMIT = 0.8;

const megabytes = (bytes: number) => `${(bytes / 1e6).toFixed(1)} MB/s`;

/**
 * Detects a move that does not converge: for `patience` rounds, the dirty pages have not shrunk by a tenth
 * below the least number before.
 */
export class Convergence {
  readonly #patience: number;
  #least = Number.POSITIVE_INFINITY;
  #since = 0;

  constructor(patience: number) {
    this.#patience = patience;
  }

  /** Call after each round. Returns advice if the move does not converge. */
  round(
    dirtyPages: number,
    dirtyPagesPerMs: number,
    bytesPerMs: number,
    limits: { readonly downtimeLimitMs: number; readonly maxBandwidthBytesPerSecond: number },
  ): string | undefined {
    const isProgress = dirtyPages <= this.#least * PROGRESS;
    this.#least = Math.min(this.#least, dirtyPages);
    this.#since = isProgress ? 0 : this.#since + 1;
    if (this.#since < this.#patience) return undefined;
    const { downtimeLimitMs, maxBandwidthBytesPerSecond: limit } = limits;
    const wouldTake = Math.ceil((this.#least * PAGE_SIZE) / Math.max(bytesPerMs, 0.001));
    const faster =
      limit > 0 && bytesPerMs * 1000 > limit * AT_LIMIT
        ? `raise max-bandwidth (now ${limit} bytes/s)`
        : "use a faster network or destination";
    return (
      `the move does not converge: the guest dirties ${megabytes(dirtyPagesPerMs * PAGE_SIZE * 1000)}, ` +
      `${megabytes(bytesPerMs * 1000)} are sent, and for ${this.#since} rounds no less than ${this.#least} pages were ` +
      `left; ${faster}, raise downtime-limit (now ${downtimeLimitMs} ms) to ${wouldTake} ms or more, slow the guest, ` +
      "or cancel"
    );
  }
}
