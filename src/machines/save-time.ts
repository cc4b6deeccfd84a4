// How long a restored machine lay, and its guest time. A stream has the wall-clock time of its save, in the
// section wherry/machine. Left out: QEMU's streams, which do not have it, and those of machines whose runs
// repeat (--icount), whose bytes must not depend on the wall clock.
import type { AcceleratorVm } from "../accelerator/accelerator.ts";
import type { WallClockNs } from "../base/clock.ts";

/** Guest time counts exactly up to this: 28 years. */
const LAST_TICK = 2n ** 53n - 1n;

export class SaveTime {
  /** The wall-clock time of the save, from the loaded stream; 0 if it does not tell. */
  loadedNs = 0n;
  readonly #wallNs: WallClockNs | undefined;

  /** Without `wallNs`, no stream tells when it was written. */
  constructor(wallNs: WallClockNs | undefined) {
    this.#wallNs = wallNs;
  }

  /** What a stream tells; 0 for nothing. */
  nowNs(): bigint {
    return this.#wallNs?.() ?? 0n;
  }

  /** Adds the time since the save to guest time. Returns why it did not. */
  catchUp(clock: Pick<AcceleratorVm["clock"], "frequencyHz" | "read" | "write">): string | undefined {
    const { loadedNs } = this;
    if (this.#wallNs === undefined) return "guest time counts instructions";
    if (loadedNs === 0n) {
      return "the state does not tell when it was saved (QEMU's do not, nor those of an older Wherry or of --icount)";
    }
    const nowNs = this.#wallNs();
    const ticks = ((nowNs - loadedNs) * BigInt(clock.frequencyHz)) / 1_000_000_000n;
    const dates = () => `it was saved at ${date(loadedNs)}, and this computer's clock shows ${date(nowNs)}`;
    if (ticks < 0n) return `${dates()}: one of the two clocks is wrong`;
    const guestTicks = clock.read() + ticks;
    if (guestTicks > LAST_TICK) return `${dates()}: that is too long for the guest's clock`;
    clock.write(guestTicks);
    return undefined;
  }
}

const date = (ns: bigint): string => new Date(Number(ns / 1_000_000n)).toISOString();
