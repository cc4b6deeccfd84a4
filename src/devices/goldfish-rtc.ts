// Goldfish RTC (Android's GOLDFISH-VIRTUAL-HARDWARE document): nanoseconds since 1970 and one alarm. State:
// QEMU's `goldfish_rtc` version 3. The time is the host's wall clock plus an offset that the guest may set,
// so it advances while a machine is paused or moved.
import { ALL_ONES } from "../base/uint64.ts";
import type { IrqLine } from "../memory/irq-line.ts";
import type { MmioDevice } from "../memory/mmio.ts";
import { defineState, u32, u64 } from "../state/schema.ts";
import { type DeviceClock, type DeviceTimer, TIMER_OFF } from "./device-clock.ts";

export const GOLDFISH_RTC_SIZE = 0x24;

const RTC_TIME_LOW = 0x00;
const RTC_TIME_HIGH = 0x04;
const RTC_ALARM_LOW = 0x08;
const RTC_ALARM_HIGH = 0x0c;
const RTC_IRQ_ENABLED = 0x10;
const RTC_CLEAR_ALARM = 0x14;
const RTC_ALARM_STATUS = 0x18;
const RTC_CLEAR_INTERRUPT = 0x1c;

const LOW_32 = 0xffff_ffffn;

export const goldfishRtcState = defineState(
  "goldfish_rtc",
  { version: 3, minimumVersion: 1 },
  {
    /** Offset from QEMU's virtual clock; used only by versions before 3. */
    tickOffsetVmstate: u64,
    alarmNext: u64,
    alarmRunning: u32.range(0, 1),
    irqPending: u32.range(0, 1),
    irqEnabled: u32.range(0, 1),
    timeHigh: u32,
    tickOffset: u64.since(3),
  },
);

export interface GoldfishRtcParts {
  readonly irq: IrqLine;
  /** The wall clock, ns since 1970. */
  readonly wallClock: DeviceClock;
}

/** Clocks of a machine that arrives from QEMU, in ns. */
export interface QemuClocks {
  readonly virtual: bigint;
  /** The host's wall clock. */
  readonly host: bigint;
  /** What the RTC here is an offset from: `host`, or guest time, which is not loaded yet. */
  readonly base: bigint;
}

export class GoldfishRtc implements MmioDevice {
  readonly state = goldfishRtcState.create();
  readonly #irq: IrqLine;
  readonly #wallClock: DeviceClock;
  readonly #alarm: DeviceTimer;

  constructor(parts: GoldfishRtcParts) {
    this.#irq = parts.irq;
    this.#wallClock = parts.wallClock;
    this.#alarm = parts.wallClock.timer(
      () => this.#alarmAt(),
      () => this.#fire(),
    );
  }

  /** A reset keeps the time. */
  reset(): void {
    const s = this.state;
    s.alarmNext = 0n;
    s.alarmRunning = 0;
    s.irqPending = 0;
    s.irqEnabled = 0;
    this.#alarm.update();
    this.#updateIrq();
  }

  afterLoad(): void {
    this.#alarm.update();
    this.#updateIrq();
  }

  /** After a load of QEMU's state. */
  fromQemu({ virtual, host, base }: QemuClocks): void {
    const s = this.state;
    const isOld = s.tickOffset === 0n && s.tickOffsetVmstate !== 0n;
    const time = isOld ? s.tickOffsetVmstate + virtual : s.tickOffset + host;
    s.tickOffset = (time - base) & ALL_ONES;
    s.tickOffsetVmstate = 0n;
    this.#alarm.update();
  }

  read(offset: number): number {
    const s = this.state;
    switch (offset) {
      case RTC_TIME_LOW: {
        const now = this.#now();
        s.timeHigh = Number(now >> 32n);
        return Number(now & LOW_32);
      }
      case RTC_TIME_HIGH:
        return s.timeHigh;
      case RTC_ALARM_LOW:
        return Number(s.alarmNext & LOW_32);
      case RTC_ALARM_HIGH:
        return Number(s.alarmNext >> 32n);
      case RTC_IRQ_ENABLED:
        return s.irqEnabled;
      case RTC_ALARM_STATUS:
        return s.alarmRunning;
      default:
        return 0;
    }
  }

  write(offset: number, _size: number, value: number): void {
    const s = this.state;
    switch (offset) {
      case RTC_TIME_LOW:
        this.setTime((this.#now() & ~LOW_32) | BigInt(value));
        break;
      case RTC_TIME_HIGH:
        this.setTime((this.#now() & LOW_32) | (BigInt(value) << 32n));
        break;
      case RTC_ALARM_LOW:
        s.alarmNext = (s.alarmNext & ~LOW_32) | BigInt(value);
        s.alarmRunning = 1;
        if (s.alarmNext <= this.#now()) this.#fire();
        this.#alarm.update();
        break;
      case RTC_ALARM_HIGH:
        s.alarmNext = (s.alarmNext & LOW_32) | (BigInt(value) << 32n);
        break;
      case RTC_IRQ_ENABLED:
        s.irqEnabled = value & 1;
        this.#updateIrq();
        break;
      case RTC_CLEAR_ALARM:
        s.alarmRunning = 0;
        this.#alarm.update();
        break;
      case RTC_CLEAR_INTERRUPT:
        s.irqPending = 0;
        this.#updateIrq();
        break;
      default:
        break;
    }
  }

  #now(): bigint {
    return (this.state.tickOffset + this.#wallClock.nowNs()) & ALL_ONES;
  }

  /** `time` is in ns since 1970. */
  setTime(time: bigint): void {
    this.state.tickOffset = (time - this.#wallClock.nowNs()) & ALL_ONES;
    this.#alarm.update();
  }

  /** The alarm as wall-clock time. */
  #alarmAt(): bigint {
    const { alarmRunning, alarmNext, tickOffset } = this.state;
    if (alarmRunning === 0) return TIMER_OFF;
    const at = BigInt.asIntN(64, alarmNext - tickOffset);
    return at < 0n ? 0n : at;
  }

  #fire(): void {
    this.state.alarmRunning = 0;
    this.state.irqPending = 1;
    this.#updateIrq();
  }

  #updateIrq(): void {
    this.#irq.set((this.state.irqPending & this.state.irqEnabled) !== 0);
  }
}
