// Guest time: mtime ticks at 10 MHz = host ticks + delta. Stopping freezes it, so a pause or a move is not
// seen by the guest (QEMU's virtual clock). delta is in shared memory because the engine's rdtime adds it.
import type { MonotonicNs } from "../base/clock.ts";
import { VM_CLOCK_DELTA } from "./layout.ts";

export const TIMEBASE_HZ = 10_000_000;

/** Host ticks of 100 ns, whole, as a double. */
export function hostTicks(monotonicNs: MonotonicNs): number {
  return Math.floor(monotonicNs() / 100);
}

export class GuestClock {
  readonly frequencyHz = TIMEBASE_HZ;
  readonly #delta: BigInt64Array<SharedArrayBuffer>;
  readonly #monotonicNs: MonotonicNs;
  /** Only the VMM's instance stops and starts; undefined while guest time runs. */
  #frozen: number | undefined;

  constructor(buffer: SharedArrayBuffer, monotonicNs: MonotonicNs, frozen: boolean) {
    this.#delta = new BigInt64Array(buffer, VM_CLOCK_DELTA, 1);
    this.#monotonicNs = monotonicNs;
    this.#frozen = frozen ? 0 : undefined;
  }

  /** Ticks now; exact below 2^53 (28 years). */
  now(): number {
    return this.#frozen ?? hostTicks(this.#monotonicNs) + Number(Atomics.load(this.#delta, 0));
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
