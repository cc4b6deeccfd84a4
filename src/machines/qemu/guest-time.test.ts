// The offset between mtime and the virtual clock, if the stream states it and if not.
import { expect, it } from "vitest";
import { mtimerDefinition } from "./board-state.ts";
import { timeOffset } from "./guest-time.ts";
import { TIMER_OFF } from "../../devices/device-clock.ts";
import { hartDefinition, type QemuHart } from "./qemu-hart-state.ts";
import { RELEASES } from "./qemu-releases.ts";

const SECOND = 10_000_000n;
const NS = 100n;
const STCE = 1n << 63n;
const mtimer = (timecmp: bigint[] = []) => ({
  ...mtimerDefinition(1, 2).create(),
  timecmp: BigUint64Array.from(timecmp),
});
const hart = (fields: Partial<QemuHart>): QemuHart => ({
  ...hartDefinition(RELEASES[0]!).create(),
  stimer: TIMER_OFF,
  ...fields,
});

it("is stated by version 3", () => {
  const state = { ...mtimer(), delta: BigInt.asUintN(64, -7n) };
  expect(timeOffset(3, 50n * SECOND * NS, state, [])).toBe(-7n);
});

it("is 0 where nothing speaks against it", () => {
  const clock = 50n * SECOND * NS;
  const waiting = hart({ menvcfg: STCE, stimecmp: 51n * SECOND });
  expect(timeOffset(1, clock, mtimer(), [waiting])).toBe(0n);
  // Due, and about to be handled.
  expect(timeOffset(1, clock, mtimer(), [hart({ menvcfg: STCE, stimecmp: 50n * SECOND - 1000n })])).toBe(0n);
  // Long past and raised: a guest that polls the time without interrupts.
  const raised = hart({ menvcfg: STCE, stimecmp: 5n, mip: 0x20n });
  expect(timeOffset(1, clock, mtimer(), [raised])).toBe(0n);
  // A machine comparator that firmware does not wait for.
  expect(timeOffset(1, clock, mtimer([5n, 5n]), [waiting, waiting])).toBe(0n);
});

it("follows from an armed timer", () => {
  const armed = hart({ menvcfg: STCE, stimecmp: 12n * SECOND, stimer: 52n * SECOND * NS });
  const late = hart({ menvcfg: STCE, stimecmp: 12n * SECOND, stimer: 52n * SECOND * NS + 90_000n });
  expect(timeOffset(1, 50n * SECOND * NS, mtimer(), [late, armed])).toBe(-40n * SECOND + 10_000n);
  expect(timeOffset(1, 50n * SECOND * NS, mtimer(), [hart({ ...armed, stimecmp: 52n * SECOND - 30n })])).toBe(
    0n,
  );
});

it("is estimated from a comparator that is long past and has raised nothing", () => {
  const clock = 50n * SECOND * NS;
  const one = hart({ menvcfg: STCE, stimecmp: 12n * SECOND });
  const other = hart({ menvcfg: STCE, stimecmp: 11n * SECOND });
  expect(timeOffset(1, clock, mtimer(), [one, other])).toBe(-39n * SECOND);
  const firmware = hart({ mie: 0x80n });
  expect(timeOffset(1, clock, mtimer([13n * SECOND]), [firmware])).toBe(-37n * SECOND);
});
