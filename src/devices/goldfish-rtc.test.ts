// The RTC: time, alarm, and the state kept over a reset and a move.
import { beforeEach, expect, it } from "vitest";
import { FakeClock } from "../../test/support/fake-clock.ts";
import { DeviceClock } from "./device-clock.ts";
import { GoldfishRtc } from "./goldfish-rtc.ts";

let time: FakeClock;
let clock: DeviceClock;
let level: boolean;
let rtc: GoldfishRtc;

beforeEach(() => {
  time = new FakeClock();
  time.nowNs = 1_700_000_000_000_000_000n;
  clock = new DeviceClock(() => time.nowNs, time.setTimer);
  clock.start();
  level = false;
  const irq = {
    set: (on: boolean) => {
      level = on;
    },
  };
  rtc = new GoldfishRtc({ irq, wallClock: clock });
});

const now = (): bigint => BigInt(rtc.read(0x00)) | (BigInt(rtc.read(0x04)) << 32n);
function setAlarm(at: bigint): void {
  rtc.write(0x0c, 4, Number(at >> 32n));
  rtc.write(0x08, 4, Number(at & 0xffff_ffffn));
}

it("returns the host's time and latches the high half", () => {
  expect(now()).toBe(time.nowNs);
  const low = rtc.read(0x00);
  time.advanceNs(1n << 33n);
  expect((BigInt(rtc.read(0x04)) << 32n) | BigInt(low)).toBe(1_700_000_000_000_000_000n);
});

it("fires once at the alarm time, and at once for an alarm in the past", () => {
  rtc.write(0x10, 4, 1);
  setAlarm(time.nowNs + 2_500_000_000n);
  expect(rtc.read(0x18)).toBe(1);
  time.advanceNs(2_499_000_000n);
  expect(level).toBe(false);
  time.advanceNs(2_000_000n);
  expect(level).toBe(true);
  expect(rtc.read(0x18)).toBe(0);
  rtc.write(0x1c, 4, 1);
  expect(level).toBe(false);
  setAlarm(1n);
  expect(level).toBe(true);
});

it("does not fire a cleared alarm", () => {
  rtc.write(0x10, 4, 1);
  setAlarm(time.nowNs + 1_000_000n);
  rtc.write(0x14, 4, 1);
  time.advanceNs(10_000_000n);
  expect(level).toBe(false);
  expect(time.timers).toBe(0);
});

it("keeps the time that the guest sets, over a reset too", () => {
  rtc.write(0x04, 4, 1);
  rtc.write(0x00, 4, 500);
  expect(now()).toBe((1n << 32n) + 500n);
  rtc.write(0x10, 4, 1);
  setAlarm((1n << 32n) + 3_000_000_500n);
  time.advanceNs(3_001_000_000n);
  expect(level).toBe(true);
  rtc.reset();
  expect(level).toBe(false);
  expect(now()).toBe((1n << 32n) + 3_001_000_500n);
});

it("fires on resume if the alarm time passed during a pause", () => {
  rtc.write(0x10, 4, 1);
  setAlarm(time.nowNs + 1_000_000n);
  clock.stop();
  time.advanceNs(10_000_000n);
  expect(level).toBe(false);
  clock.start();
  time.advanceNs(0n);
  expect(level).toBe(true);
});

it("goes on with QEMU's time, of each version, by the host's clock or by guest time", () => {
  const host = time.nowNs;
  for (const [tickOffset, tickOffsetVmstate, expected] of [
    [0n, host - 7_000_000_000n, host - 6_999_995_000n],
    [60_000_000_000n, 0n, host + 60_000_000_000n],
  ] as const) {
    for (const base of [host, 900n]) {
      Object.assign(rtc.state, { tickOffset, tickOffsetVmstate });
      rtc.afterLoad();
      rtc.fromQemu({ virtual: 5_000n, host, base });
      time.nowNs = base;
      expect(now()).toBe(expected);
    }
  }
});
