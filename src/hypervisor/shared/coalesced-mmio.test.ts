// Coalesced writes: which writes are queued, their order, the ring's end and its wrap; and, through vCPU
// threads, that the ring is drained before every answer, at the end of a slice, and at a pause.
import { expect, test } from "vitest";
import { ScriptedVm } from "../../../test/support/scripted-vm.ts";
import { CoalescedMmio } from "./coalesced-mmio.ts";
import { Ioeventfds } from "./ioeventfd.ts";
import { COALESCED_CAPACITY, HART_AREA_BASE } from "./memory-map.ts";
import { EXIT } from "../hart/engine-interface.ts";

const UART = 0x10000000;

function ring(): { ring: CoalescedMmio; drained: () => string[] } {
  const buffer = new SharedArrayBuffer(HART_AREA_BASE);
  const ring = new CoalescedMmio(buffer);
  ring.addZone(UART, 2);
  ring.addZone(0x4_0000_0000, 8);
  const drained = (): string[] => {
    const out: string[] = [];
    ring.drain((gpa, size, value) => out.push(`${gpa.toString(16)} ${size} ${value}`));
    return out;
  };
  return { ring, drained };
}

test("only writes of 1 to 4 bytes that a zone wholly contains are queued", () => {
  const { ring: r, drained } = ring();
  expect(r.push(UART - 1, 1, 1n)).toBe(false);
  expect(r.push(UART - 1, 2, 1n)).toBe(false);
  expect(r.push(UART, 4, 1n)).toBe(false);
  expect(r.push(UART + 1, 2, 1n)).toBe(false);
  expect(r.push(UART + 2, 1, 1n)).toBe(false);
  expect(r.push(0x4_0000_0000, 8, 1n)).toBe(false);
  expect(r.push(0, 1, 1n)).toBe(false);
  expect(drained()).toEqual([]);
  expect(r.push(UART + 1, 1, 0xffff_ffff_ffff_ff80n)).toBe(true);
  expect(r.push(UART, 2, 0x1_2345n)).toBe(true);
  expect(r.push(0x4_0000_0004, 4, 0xfedc_ba98n)).toBe(true);
  expect(drained()).toEqual(["10000001 1 128", "10000000 2 9029", `400000004 4 ${0xfedcba98}`]);
});

test("a full ring accepts nothing, and it wraps in order", () => {
  const { ring: r, drained } = ring();
  for (let round = 0; round < 5; round++) {
    for (let i = 0; i < COALESCED_CAPACITY; i++) expect(r.push(UART, 1, BigInt(i & 0xff))).toBe(true);
    expect(r.push(UART, 1, 0n)).toBe(false);
    expect(drained()).toEqual(Array.from({ length: COALESCED_CAPACITY }, (_, i) => `10000000 1 ${i & 0xff}`));
    for (let i = 0; i < 7 * round; i++) r.push(UART, 1, 1n);
    drained();
  }
});

test("a write during the drain follows the writes queued before it", () => {
  const { ring: r } = ring();
  const seen: bigint[] = [];
  r.push(UART, 1, 1n);
  r.push(UART, 1, 2n);
  r.drain((_gpa, _size, value) => {
    seen.push(value);
    if (value === 1n) r.push(UART, 1, 3n);
  });
  expect(seen).toEqual([1n, 2n, 3n]);
});

function scripted(harts = 1): ScriptedVm {
  const s = new ScriptedVm({ harts });
  s.vm.coalesceMmio(UART, 1);
  for (let hart = 0; hart < harts; hart++) s.run(hart, () => EXIT.SLICE);
  s.log.length = 0;
  return s;
}

test("the device receives the writes before their vCPU's exit is answered, and soon after its slice", () => {
  const s = scripted();
  s.run(0, ({ mmioWrite, mmioRead }) => {
    expect(mmioWrite(BigInt(UART), 1, 65n)).toBe(1);
    expect(mmioWrite(BigInt(UART), 1, 66n)).toBe(1);
    expect(s.log).toEqual(["run"]);
    mmioRead(BigInt(UART + 5), 1);
    mmioWrite(BigInt(UART), 1, 67n);
    return EXIT.SLICE;
  });
  expect(s.log).toEqual([
    ...["run", "write 10000000 1 65", "write 10000000 1 66", "read 10000005 1"],
    "write 10000000 1 67",
  ]);
});

test("the device receives the writes of one vCPU before an exit of another is answered", () => {
  const s = scripted(2);
  s.run(1, ({ mmioRead }) => {
    // Hart 0 prints and passes its lock to hart 1, whose exit is the first that the VMM thread learns of.
    new CoalescedMmio(s.vm.buffer).push(UART, 1, 65n);
    mmioRead(BigInt(UART + 5), 1);
    return EXIT.SLICE;
  });
  expect(s.log).toEqual(["run", "write 10000000 1 65", "read 10000005 1"]);
});

test("the write that finds the ring full drains it", () => {
  const s = scripted();
  s.run(0, ({ mmioWrite }) => {
    for (let i = 0; i <= COALESCED_CAPACITY; i++) mmioWrite(BigInt(UART), 1, BigInt(i & 0x7f));
    return EXIT.SLICE;
  });
  const writes = Array.from({ length: COALESCED_CAPACITY + 1 }, (_, i) => `write 10000000 1 ${i & 0x7f}`);
  expect(s.log).toEqual(["run", ...writes]);
});

test("the device receives writes that arrive while the VMM thread has not yet reached the exit", () => {
  const s = scripted();
  const doorbell = 0x10001050;
  // The VMM thread has drained the ring; the vCPU continues to write until the ring is full, and posts that
  // write.
  s.vm.ioeventfd(doorbell, 0, () => new CoalescedMmio(s.vm.buffer).push(UART, 1, 66n));
  s.run(0, ({ mmioWrite }) => {
    new Ioeventfds(s.vm.buffer).match(doorbell, 0);
    mmioWrite(BigInt(UART + 1), 1, 67n);
    return EXIT.SLICE;
  });
  expect(s.log).toEqual(["run", "write 10000000 1 66", "write 10000001 1 67"]);
});

test("nothing is queued when a pause is complete", async () => {
  const s = scripted();
  new CoalescedMmio(s.vm.buffer).push(UART, 1, 65n);
  await s.vm.vcpus[0]?.pause();
  expect(s.log).toEqual(["write 10000000 1 65"]);
});
