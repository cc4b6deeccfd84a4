// The ACLINT as guests see it (RISC-V ACLINT specification 1.0-rc4), and its migratable state.
import { expect, test } from "vitest";
import { Aclint, AclintError, MIP_MSIP } from "./aclint.ts";
import { GuestClock } from "../requests/guest-clock.ts";
import { HartPending } from "../requests/hart-pending.ts";
import { CTL_KICK, CTL_LINES, CTL_SLEEPING, CTL_WAKE, hartBase } from "../shared/memory-map.ts";
import { REQ, VcpuRequests } from "../requests/vcpu-requests.ts";
import { hartLayout } from "../hart/hart-layout.ts";

const NEVER = 2n ** 64n - 1n;

function device(harts = 2): {
  aclint: Aclint;
  vcpus: VcpuRequests[];
  pending: HartPending[];
  clock: GuestClock;
} {
  const buffer = new SharedArrayBuffer(hartBase(harts));
  const vcpus = Array.from({ length: harts }, (_, i) => new VcpuRequests(buffer, i));
  const pending = vcpus.map((v, i) => new HartPending(buffer, hartBase(i) + hartLayout.offsetOf("mip"), v));
  const clock = new GuestClock(buffer, () => 0, true);
  const aclint = new Aclint(buffer, vcpus, pending, clock);
  aclint.reset();
  return { aclint, vcpus, pending, clock };
}

test("msip of each hart is bit 0, and wakes it", () => {
  const { aclint, vcpus } = device();
  const [first, second] = vcpus as [VcpuRequests, VcpuRequests];
  second.store(CTL_SLEEPING, 1);
  aclint.write(4, 4, 0xffffffffn);
  expect([aclint.read(0, 4), aclint.read(4, 4)]).toEqual([0n, 1n]);
  expect([first.load(CTL_LINES), second.load(CTL_LINES)]).toEqual([0, MIP_MSIP]);
  expect([first.test(REQ.UNBLOCK), second.test(REQ.UNBLOCK), second.load(CTL_WAKE)]).toEqual([
    false,
    true,
    1,
  ]);
  aclint.write(4, 4, 0xfffffffen);
  expect([aclint.read(4, 4), second.load(CTL_LINES)]).toEqual([0n, 0]);
  aclint.write(8, 4, 1n);
  expect(aclint.read(8, 4)).toBe(0n);
});

test("mtimecmp is written whole or in halves, and the hart re-evaluates its timer", () => {
  const { aclint, vcpus } = device();
  const [, hart] = vcpus as [VcpuRequests, VcpuRequests];
  expect(aclint.read(0x4008, 8)).toBe(NEVER);
  hart.enterGuestMode();
  aclint.write(0x4008, 8, 0x1122334455667788n);
  expect([hart.test(REQ.UNBLOCK), hart.load(CTL_KICK)]).toEqual([true, 1]);
  aclint.write(0x400c, 4, 0xaabbccddn);
  expect(aclint.read(0x4008, 8)).toBe(0xaabbccdd55667788n);
  aclint.write(0x4008, 4, 1n);
  expect([aclint.read(0x4008, 4), aclint.read(0x400c, 4)]).toEqual([1n, 0xaabbccddn]);
  expect(aclint.deadline(1)).toBe(Number(0xaabbccdd00000001n));
  expect(aclint.read(0x4000, 8)).toBe(NEVER);
  aclint.write(0x4010, 8, 1n);
  expect(aclint.read(0x4010, 8)).toBe(0n);
});

test("mtime is the guest's clock; a write does not change it", () => {
  const { aclint, clock } = device();
  clock.write(0x5_0000_0007n);
  expect([aclint.read(0xbff8, 8), aclint.read(0xbff8, 4), aclint.read(0xbffc, 4)]).toEqual([
    0x5_0000_0007n,
    7n,
    5n,
  ]);
  aclint.write(0xbff8, 8, 0n);
  expect(aclint.read(0xbff8, 8)).toBe(0x5_0000_0007n);
});

test("setssip sets supervisor software interrupts, and never clears them", () => {
  const { aclint, pending, vcpus } = device();
  aclint.writeSswi(4, 2n);
  expect(pending[1]?.bits).toBe(0);
  aclint.writeSswi(4, 1n);
  expect([pending[0]?.bits, pending[1]?.bits, vcpus[1]?.test(REQ.UNBLOCK)]).toEqual([0, 2, true]);
  aclint.writeSswi(4, 0n);
  expect(pending[1]?.bits).toBe(2);
  aclint.writeSswi(8, 1n);
});

test("its state is restored in another machine, replacing the previous state", () => {
  const { aclint } = device();
  aclint.write(0x4000, 8, 1234n);
  aclint.write(4, 4, 1n);
  const other = device();
  other.aclint.write(0, 4, 1n);
  other.aclint.set(aclint.get());
  expect(other.aclint.get()).toEqual(aclint.get());
  expect(other.vcpus.map((v) => v.load(CTL_LINES))).toEqual([0, MIP_MSIP]);
  expect(other.vcpus[1]?.test(REQ.UNBLOCK)).toBe(true);
});

test("state for another number of harts is refused and nothing changes", () => {
  const { aclint } = device();
  const before = aclint.get();
  const other = device(3).aclint.get();
  expect(() => aclint.check(other)).toThrow(AclintError);
  expect(() => aclint.set(other)).toThrow("start it with 3 harts");
  expect(aclint.get()).toEqual(before);
});

test("reset: no deadline, no software interrupt", () => {
  const { aclint, vcpus } = device();
  aclint.write(0x4000, 8, 1n);
  aclint.write(0, 4, 1n);
  aclint.reset();
  expect([aclint.read(0x4000, 8), aclint.read(0, 4), vcpus[0]?.load(CTL_LINES)]).toEqual([NEVER, 0n, 0]);
});
