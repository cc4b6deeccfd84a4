// Clocks and one-shot timers of devices (QEMU_CLOCK_VIRTUAL and QEMU_CLOCK_HOST). A timer fires only while
// the machine runs: `stop` suspends all timers of a clock, `start` arms them again. A deadline is state and
// part of the device's schema; the timer object is the host's side only.
import { ALL_ONES } from "../base/uint64.ts";
import type { SetTimer } from "../base/clock.ts";

/** Expiry of a timer that is not armed, as in QEMU's streams. */
export const TIMER_OFF = ALL_ONES;

export class DeviceClock {
  readonly nowNs: () => bigint;
  readonly #setTimer: SetTimer;
  readonly #timers: DeviceTimer[] = [];
  #running = false;

  constructor(nowNs: () => bigint, setTimer: SetTimer) {
    this.nowNs = nowNs;
    this.#setTimer = setTimer;
  }

  get running(): boolean {
    return this.#running;
  }

  /** `deadline` returns the expiry in ns of this clock, or TIMER_OFF; `fire` must clear or renew it. */
  timer(deadline: () => bigint, fire: () => void): DeviceTimer {
    const timer = new DeviceTimer(this, this.#setTimer, deadline, fire);
    this.#timers.push(timer);
    return timer;
  }

  start(): void {
    this.#running = true;
    for (const timer of this.#timers) timer.update();
  }

  stop(): void {
    this.#running = false;
    for (const timer of this.#timers) timer.update();
  }
}

export class DeviceTimer {
  readonly #clock: DeviceClock;
  readonly #setTimer: SetTimer;
  readonly #deadline: () => bigint;
  readonly #fire: () => void;
  #armed: { cancel(): void; at: bigint } | undefined;

  constructor(clock: DeviceClock, setTimer: SetTimer, deadline: () => bigint, fire: () => void) {
    this.#clock = clock;
    this.#setTimer = setTimer;
    this.#deadline = deadline;
    this.#fire = fire;
  }

  /**
   * Call after the deadline has changed. A host timer that is too early is kept: it checks the deadline when
   * it fires.
   */
  update(): void {
    const at = this.#deadline();
    const wanted = this.#clock.running && at !== TIMER_OFF;
    if (wanted && this.#armed !== undefined && this.#armed.at <= at) return;
    this.#armed?.cancel();
    this.#armed = wanted ? this.#arm(at) : undefined;
  }

  #arm(at: bigint): { cancel(): void; at: bigint } {
    const ns = at - this.#clock.nowNs();
    // Host timers count milliseconds in 32 bits; a longer wait is split.
    const delayMs = ns <= 0n ? 0 : Math.min(Math.ceil(Number(ns) / 1e6), 0x7fff_ffff);
    const { cancel } = this.#setTimer(delayMs, () => this.#expire());
    return { cancel, at };
  }

  #expire(): void {
    this.#armed = undefined;
    const at = this.#deadline();
    if (this.#clock.running && at <= this.#clock.nowNs()) this.#fire();
    this.update();
  }
}
