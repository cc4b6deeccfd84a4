// Guest time: mtime ticks at 10 MHz = host ticks + delta (under --icount, ticks derived from instructions).
// Stopping the clock freezes it, so the guest does not notice a pause or a move (QEMU's virtual clock). delta
// is in shared memory because the engine's rdtime adds it.
import type { MonotonicNs } from "../../base/clock.ts";
import { VM_CLOCK_DELTA } from "../shared/memory-map.ts";

export const TIMEBASE_HZ = 10_000_000;

const NS_PER_TICK = 100;

/** Whole host ticks of 100 ns, as a double. */
export function hostTicks(monotonicNs: MonotonicNs): number {
  return Math.floor(monotonicNs() / NS_PER_TICK);
}

export class GuestClock {
  readonly frequencyHz = TIMEBASE_HZ;
  readonly #delta: BigInt64Array<SharedArrayBuffer>;
  readonly #monotonicNs: MonotonicNs;
  /** Only the VMM's instance is stopped and started; undefined while guest time runs. */
  #frozen: number | undefined;

  /** `monotonicNs`: the host's clock, or an InstructionClock. */
  constructor(buffer: SharedArrayBuffer, monotonicNs: MonotonicNs, frozen: boolean) {
    this.#delta = new BigInt64Array(buffer, VM_CLOCK_DELTA, 1);
    this.#monotonicNs = monotonicNs;
    this.#frozen = frozen ? 0 : undefined;
  }

  /** Ticks now; exact below 2^53 (28 years). */
  now(): number {
    return this.#frozen ?? hostTicks(this.#monotonicNs) + Number(Atomics.load(this.#delta, 0));
  }

  /** ns until guest time reaches `ticks`; negative if it has passed. Not valid while the clock is stopped. */
  nsUntil(ticks: number): number {
    return (ticks - Number(Atomics.load(this.#delta, 0))) * NS_PER_TICK - this.#monotonicNs();
  }

  read(): bigint {
    return BigInt(this.now());
  }

  write(ticks: bigint): void {
    if (this.#frozen !== undefined) this.#frozen = Number(ticks);
    else this.#setDelta(Number(ticks));
  }

  stop(): void {
    this.#frozen ??= this.now();
  }

  start(): void {
    if (this.#frozen === undefined) return;
    this.#setDelta(this.#frozen);
    this.#frozen = undefined;
  }

  #setDelta(ticks: number): void {
    Atomics.store(this.#delta, 0, BigInt(ticks - hostTicks(this.#monotonicNs)));
  }
}
