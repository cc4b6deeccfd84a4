// A monotonic clock with one origin for all threads, where each thread has its own: `performance.now()`
// starts at zero in each; adding `performance.timeOrigin` gives one clock (High Resolution Time §4).
import type { MonotonicNs } from "./clock.ts";
import { runtimeGlobals } from "./runtime-globals.ts";

const { performance } = runtimeGlobals;

/** This thread's origin, in ms since 1970. */
export const { timeOrigin } = performance;

/**
 * Nanoseconds since `originMs`, the timeOrigin of the VMM's thread: the same in all threads of a machine, and
 * small enough for a double (a time since 1970 would be exact to 256 ns only).
 */
export function monotonicSince(originMs: number): MonotonicNs {
  const startMs = timeOrigin - originMs;
  return () => (startMs + performance.now()) * 1e6;
}
