// Ghost variables of the stress test: what its threads record in addition to the protocol's own words, to
// judge it; and the bugs that can be planted in it. One i32 for each hart and ghost, after the VM's memory.
import { CTL_KICK, CTL_MODE, CTL_SLEEPING, CTL_WAKE } from "../../src/hypervisor/shared/memory-map.ts";
import { VCPU_MODE, VcpuRequests } from "../../src/hypervisor/requests/vcpu-requests.ts";

export const GHOST_BYTES = 0x10000;

const GHOSTS = [
  /** Odd while guest instructions execute. */
  "epoch",
  /** 1 while the VMM relies on the vCPU being paused. */
  "paused",
  /** Every flush with WAIT has invalidated translations older than this. */
  "floor",
  /** IPIs sent, and how many of them the guest had taken last. */
  "sent",
  "handled",
  /** Guest instructions. */
  "count",
] as const;
const MAX_HARTS = 8;
const GENERATION = GHOSTS.length * MAX_HARTS;
const STOP = GENERATION + 1;
const VIOLATION_LENGTH = GENERATION + 2;
const VIOLATION_TEXT = GENERATION + 4;

export class Ghosts {
  readonly #words: Int32Array<SharedArrayBuffer>;

  constructor(buffer: SharedArrayBuffer, offset: number) {
    this.#words = new Int32Array(buffer, offset, GHOST_BYTES / 4);
  }
  #at(name: (typeof GHOSTS)[number], hart: number): number {
    return GHOSTS.indexOf(name) * MAX_HARTS + hart;
  }
  get(name: (typeof GHOSTS)[number], hart: number): number {
    return Atomics.load(this.#words, this.#at(name, hart));
  }
  set(name: (typeof GHOSTS)[number], hart: number, value: number): void {
    Atomics.store(this.#words, this.#at(name, hart), value);
  }
  /** The new value. */
  increment(name: (typeof GHOSTS)[number], hart: number): number {
    return Atomics.add(this.#words, this.#at(name, hart), 1) + 1;
  }

  /** The page tables behind all translations have changed: returns the new generation. */
  changeTables(): number {
    return Atomics.add(this.#words, GENERATION, 1) + 1;
  }
  get generation(): number {
    return Atomics.load(this.#words, GENERATION);
  }
  /** A flush of these harts has completed: none may use what it read before that generation. */
  flushed(harts: Iterable<number>, generation: number): void {
    for (const hart of harts) {
      const at = this.#at("floor", hart);
      for (let old = Atomics.load(this.#words, at); old < generation; ) {
        const seen = Atomics.compareExchange(this.#words, at, old, generation);
        if (seen === old) break;
        old = seen;
      }
    }
  }

  stop(): void {
    Atomics.store(this.#words, STOP, 1);
  }
  get stopped(): boolean {
    return Atomics.load(this.#words, STOP) !== 0;
  }

  /** The first violation counts, and ends the run. */
  violation(text: string): void {
    if (Atomics.compareExchange(this.#words, VIOLATION_LENGTH, 0, text.length) !== 0) return;
    for (let i = 0; i < text.length; i++) this.#words[VIOLATION_TEXT + i] = text.charCodeAt(i);
    this.stop();
  }
  get found(): string | undefined {
    const length = Atomics.load(this.#words, VIOLATION_LENGTH);
    if (length === 0) return undefined;
    return String.fromCharCode(...this.#words.subarray(VIOLATION_TEXT, VIOLATION_TEXT + length));
  }
}

export const BUGS = [
  "checks-before-entry",
  "block-checks-before-mark",
  "exiting-is-outside",
  "sleeper-not-woken",
] as const;
export type Bug = (typeof BUGS)[number];

/** How long a planted bug's window is held open, in turns. */
const TURNS = 16;

/** Plants a bug in this thread's protocol. */
export function plant(bug: Bug | undefined): void {
  // Threads that run truly in parallel meet a window of nanoseconds; on a host with one core hardly any do.
  const window = new Int32Array(new SharedArrayBuffer(4));
  let turn = 0;
  const holdOpen = (): void => void (++turn % TURNS === 0 && Atomics.wait(window, 0, 0, 1));
  const protocol = VcpuRequests.prototype;
  const { enterGuestMode, pending, kick } = protocol;
  const early = new WeakMap<VcpuRequests, boolean>();
  switch (bug) {
    case undefined:
      return;
    case "checks-before-entry":
      protocol.enterGuestMode = function (this: VcpuRequests) {
        early.set(this, pending.call(this));
        holdOpen();
        enterGuestMode.call(this);
      };
      protocol.pending = function (this: VcpuRequests) {
        const seen = early.get(this);
        early.delete(this);
        return seen ?? pending.call(this);
      };
      return;
    case "block-checks-before-mark":
      protocol.block = function (this: VcpuRequests, runnable, timeoutMs) {
        if (runnable()) return;
        holdOpen();
        this.store(CTL_SLEEPING, 1);
        this.wait(CTL_WAKE, this.load(CTL_WAKE), timeoutMs);
        this.store(CTL_SLEEPING, 0);
      };
      return;
    case "exiting-is-outside":
      protocol.kick = function (this: VcpuRequests, noWakeup = false) {
        if (!noWakeup && this.load(CTL_SLEEPING) !== 0) this.wake();
        const { IN_GUEST_MODE, EXITING_GUEST_MODE } = VCPU_MODE;
        const was = this.compareExchange(CTL_MODE, IN_GUEST_MODE, EXITING_GUEST_MODE) === IN_GUEST_MODE;
        if (was) this.store(CTL_KICK, 1);
        return was;
      };
      return;
    case "sleeper-not-woken":
      protocol.kick = function (this: VcpuRequests) {
        return kick.call(this, true);
      };
  }
}
