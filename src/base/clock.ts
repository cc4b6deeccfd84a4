// Time that the platform gives. Injected, so that no layer below the hosts names a platform.

/** Monotonic nanoseconds, the same origin in all threads of the process. A double: exact to 104 days. */
export type MonotonicNs = () => number;

/** Wall-clock nanoseconds since 1970 (for the RTC only). */
export type WallClockNs = () => bigint;

export interface Clock {
  readonly monotonicNs: MonotonicNs;
  readonly wallNs: WallClockNs;
}

/** A cancellable one-shot timer of the VMM thread. `delayMs` ≥ 0. */
export type SetTimer = (delayMs: number, fire: () => void) => { cancel(): void };
