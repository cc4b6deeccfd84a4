// Clocks and timers of the platform. They are injected, so that no layer below the platforms depends on
// one.

/** Monotonic time in ns, with one origin for all threads of the process. A double is exact for 104 days. */
export type MonotonicNs = () => number;

/** Wall-clock time in ns since 1970, for the RTC only. */
export type WallClockNs = () => bigint;

/** The host's two clocks, in ns. */
export interface Clock {
  readonly monotonicNs: MonotonicNs;
  readonly wallNs: WallClockNs;
}

/** Starts a one-shot timer of the VMM thread, which the caller can cancel. `delayMs` ≥ 0. */
export type SetTimer = (delayMs: number, fire: () => void) => { cancel(): void };
