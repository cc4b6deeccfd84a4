// Guest time derived from instructions (QEMU's -icount, docs/devel/tcg-icount): each takes 2^shift ns, so the
// time that a guest sees does not depend on the host. While a hart idles, it executes no instructions: time
// then follows the host's clock (sleep=on), or jumps to the event that the hart waits for (sleep=off). One
// hart only: two would have to take turns. Leaves out shift=auto, which follows the host's clock.
import type { MonotonicNs } from "../../base/clock.ts";
import { hartBase, VM_ICOUNT, VM_ICOUNT_IDLE_SINCE, VM_ICOUNT_WARP } from "../shared/memory-map.ts";
import { SCRATCH } from "../shared/hart-scratch.ts";

/** Guest time derived from instructions (QEMU's `-icount`); one hart only. */
export interface IcountOptions {
  /** An instruction takes 2^shift ns. */
  readonly shift: number;
  /** Whether an idle hart sleeps until its timer is due, as it would without --icount. */
  readonly sleep: boolean;
}

export const MAX_ICOUNT_SHIFT = 10;
/** 8 ns: a hart of 125 MHz, about the speed of the interpreter. */
export const DEFAULT_ICOUNT_SHIFT = 3;
const SLEEP_OFF = 1 << 8;

export class InstructionClock {
  readonly sleeps: boolean;
  readonly #nsPerInstruction: number;
  readonly #executed: BigUint64Array<SharedArrayBuffer>;
  /** Idle time so far, in ns. */
  readonly #warp: Float64Array<SharedArrayBuffer>;
  /** The host's time when the hart began to sleep; 0 while it is awake. */
  readonly #idleSince: Float64Array<SharedArrayBuffer>;
  readonly #hostNs: MonotonicNs;

  /** The VM's instruction clock, if it has one. The instances of all threads agree. */
  static of(buffer: SharedArrayBuffer, hostNs: MonotonicNs): InstructionClock | undefined {
    const word = new Int32Array(buffer)[VM_ICOUNT >>> 2] as number;
    return word === 0 ? undefined : new InstructionClock(buffer, word, hostNs);
  }

  static configure(buffer: SharedArrayBuffer, { shift, sleep }: IcountOptions): void {
    new Int32Array(buffer)[VM_ICOUNT >>> 2] = (shift + 1) | (sleep ? 0 : SLEEP_OFF);
  }

  private constructor(buffer: SharedArrayBuffer, word: number, hostNs: MonotonicNs) {
    this.sleeps = (word & SLEEP_OFF) === 0;
    this.#nsPerInstruction = 2 ** ((word & 0xff) - 1);
    this.#executed = new BigUint64Array(buffer, hartBase(0) + SCRATCH.executed, 1);
    this.#warp = new Float64Array(buffer, VM_ICOUNT_WARP, 1);
    this.#idleSince = new Float64Array(buffer, VM_ICOUNT_IDLE_SINCE, 1);
    this.#hostNs = hostNs;
  }

  /** Guest time in ns; exact below 2^53 (104 days). */
  now(): number {
    const since = this.#idleSince[0] as number;
    const idle = since === 0 ? 0 : Math.max(0, this.#hostNs() - since);
    const executed = Number(Atomics.load(this.#executed, 0));
    return executed * this.#nsPerInstruction + (this.#warp[0] as number) + idle;
  }

  /** The number of instructions, at least 1, that take this time. */
  instructions(ns: number): number {
    return Math.max(1, Math.ceil(ns / this.#nsPerInstruction));
  }

  // Called only by the hart's own thread:

  /** The hart idles: advance time at once. Whole ns, so that sums stay exact. */
  advance(ns: number): void {
    this.#warp[0] = (this.#warp[0] as number) + Math.ceil(ns);
  }

  startIdle(): void {
    this.#idleSince[0] = this.#hostNs();
  }

  /**
   * Add the time that has passed on the host's clock, at most `limitNs`, so that a deadline is met to the ns.
   */
  endIdle(limitNs: number): void {
    const slept = Math.max(0, this.#hostNs() - (this.#idleSince[0] as number));
    this.#idleSince[0] = 0;
    this.advance(Math.min(slept, limitNs));
  }
}
