// What Node gives: time and randomness.
import { randomFillSync } from "node:crypto";
import type { Clock } from "../base/clock.ts";

/** Monotonic and the same in all threads of all processes of this host: CLOCK_MONOTONIC. */
export function monotonicNs(): number {
  const [s, ns] = process.hrtime();
  return s * 1e9 + ns;
}

export function wallNs(): bigint {
  return BigInt(Date.now()) * 1_000_000n;
}

export const clock: Clock = { monotonicNs, wallNs };

export function randomBytes(length: number): Uint8Array<ArrayBuffer> {
  return randomFillSync(new Uint8Array(length));
}
