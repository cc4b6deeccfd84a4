// The interrupt controller as guests and devices see it, and its migratable state (RISC-V PLIC specification
// 1.0.0).
import { describe, expect, test } from "vitest";
import { CTL_LINES, CTL_SLEEPING, CTL_WAKE, hartBase } from "../shared/memory-map.ts";
import { Plic, PlicError, plicState } from "./plic.ts";
import { REQ, VcpuRequests } from "../requests/vcpu-requests.ts";

const SEIP = 1 << 9;
const MEIP = 1 << 11;
const enableAt = (context: number, word = 0): number => 0x2000 + context * 0x80 + word * 4;
const thresholdAt = (context: number): number => 0x200000 + context * 0x1000;
const claimAt = (context: number): number => thresholdAt(context) + 4;

function controller(harts = 2): { plic: Plic; vcpus: VcpuRequests[]; lines: () => number[] } {
  const buffer = new SharedArrayBuffer(hartBase(harts));
  const vcpus = Array.from({ length: harts }, (_, i) => new VcpuRequests(buffer, i));
  return { plic: new Plic(buffer, vcpus), vcpus, lines: () => vcpus.map((v) => v.load(CTL_LINES)) };
}
/** Set a source's priority, and enable it for these contexts. */
function enable(plic: Plic, source: number, priority: number, ...contexts: number[]): void {
  plic.write(source * 4, priority);
  for (const context of contexts) {
    const at = enableAt(context, source >>> 5);
    plic.write(at, plic.read(at) | (1 << (source & 31)));
  }
}

describe("claim and complete", () => {
  test("a level is pending until claimed, and again after completion if it is still high", () => {
    const { plic, lines } = controller();
    enable(plic, 10, 1, 1);
    plic.setLine(10, true);
    expect([plic.read(0x1000), lines()]).toEqual([1 << 10, [SEIP, 0]]);
    expect(plic.read(claimAt(1))).toBe(10);
    expect([plic.read(0x1000), lines()]).toEqual([0, [0, 0]]);
    expect(plic.read(claimAt(1))).toBe(0);
    // The gateway forwards no further request before completion.
    plic.setLine(10, true);
    expect([plic.read(0x1000), lines()]).toEqual([0, [0, 0]]);
    plic.write(claimAt(1), 10);
    expect(lines()).toEqual([SEIP, 0]);
    expect(plic.read(claimAt(1))).toBe(10);
    plic.setLine(10, false);
    plic.write(claimAt(1), 10);
    expect([plic.read(claimAt(1)), lines()]).toEqual([0, [0, 0]]);
  });

  test("a level that falls before the claim is no interrupt", () => {
    const { plic, lines } = controller();
    enable(plic, 1, 1, 1);
    plic.setLine(1, true);
    plic.setLine(1, false);
    expect([plic.read(claimAt(1)), lines()]).toEqual([0, [0, 0]]);
  });

  test("an edge is pending until claimed, and waits for the completion of the one before", () => {
    const { plic, lines } = controller();
    enable(plic, 12, 1, 1);
    plic.edge(12);
    expect([plic.read(0x1000), lines()]).toEqual([1 << 12, [SEIP, 0]]);
    expect([plic.read(claimAt(1)), lines()]).toEqual([12, [0, 0]]);
    plic.edge(12);
    expect([plic.read(claimAt(1)), lines()]).toEqual([0, [0, 0]]);
    plic.write(claimAt(1), 12);
    expect([plic.read(claimAt(1)), lines()]).toEqual([12, [0, 0]]);
    plic.write(claimAt(1), 12);
    expect([plic.read(claimAt(1)), lines()]).toEqual([0, [0, 0]]);
    plic.edge(12);
    plic.reset();
    expect(plic.read(0x1000)).toBe(0);
    for (const source of [0, 96, -1]) expect(() => plic.edge(source)).toThrow(RangeError);
  });

  test("of two contexts only one claims it", () => {
    const { plic, lines } = controller();
    enable(plic, 5, 3, 1, 3);
    plic.setLine(5, true);
    expect(lines()).toEqual([SEIP, SEIP]);
    expect([plic.read(claimAt(3)), plic.read(claimAt(1))]).toEqual([5, 0]);
    expect(lines()).toEqual([0, 0]);
  });

  test("completion is accepted only from a context for which the source is enabled", () => {
    const { plic, lines } = controller();
    enable(plic, 5, 3, 1);
    plic.setLine(5, true);
    plic.read(claimAt(1));
    plic.write(claimAt(3), 5);
    expect(lines()).toEqual([0, 0]);
    for (const nothing of [0, 96, 0xffffffff]) plic.write(claimAt(1), nothing);
    expect(lines()).toEqual([0, 0]);
    plic.write(claimAt(1), 5);
    expect(lines()).toEqual([SEIP, 0]);
  });
});

describe("priorities", () => {
  test("the highest is first, among equals the lowest number; 0 never interrupts", () => {
    const { plic } = controller();
    for (const [source, priority] of [
      [7, 2],
      [40, 5],
      [33, 5],
      [90, 7],
      [3, 0],
    ] as const) {
      enable(plic, source, priority, 1);
      plic.setLine(source, true);
    }
    expect(Array.from({ length: 5 }, () => plic.read(claimAt(1)))).toEqual([90, 33, 40, 7, 0]);
  });

  test("a threshold masks priorities that are not above it, in its context", () => {
    const { plic, lines } = controller();
    enable(plic, 7, 3, 1, 3);
    plic.setLine(7, true);
    plic.write(thresholdAt(1), 3);
    expect([lines(), plic.read(claimAt(1)), plic.read(thresholdAt(1))]).toEqual([[0, SEIP], 0, 3]);
    plic.write(thresholdAt(1), 2);
    expect([lines(), plic.read(claimAt(1))]).toEqual([[SEIP, SEIP], 7]);
  });

  test("priorities and thresholds have three bits; source 0 does not exist", () => {
    const { plic } = controller();
    plic.write(4, 0xff);
    plic.write(0, 7);
    plic.write(thresholdAt(0), 0xf);
    plic.write(enableAt(0), 0xffffffff);
    expect([plic.read(4), plic.read(0), plic.read(thresholdAt(0)), plic.read(enableAt(0))]).toEqual([
      7, 0, 7, 0xfffffffe,
    ]);
    for (const source of [0, 96, -1]) expect(() => plic.setLine(source, true)).toThrow(RangeError);
  });
});

test("machine mode's contexts drive MEIP", () => {
  const { plic, lines } = controller();
  enable(plic, 95, 1, 2);
  plic.setLine(95, true);
  expect(lines()).toEqual([0, MEIP]);
  expect(plic.read(0x1008) >>> 0).toBe(0x80000000);
});

test("a rising line wakes its hart once; a line that is already high does not", () => {
  const { plic, vcpus } = controller();
  const [, hart] = vcpus as [VcpuRequests, VcpuRequests];
  hart.store(CTL_SLEEPING, 1);
  enable(plic, 5, 1, 3);
  enable(plic, 6, 1, 3);
  plic.setLine(5, true);
  expect([hart.check(REQ.UNBLOCK), hart.load(CTL_WAKE)]).toEqual([true, 1]);
  plic.setLine(6, true);
  expect([hart.check(REQ.UNBLOCK), hart.load(CTL_WAKE)]).toEqual([false, 1]);
  expect(vcpus[0]?.pending()).toBe(false);
});

test("addresses between registers, and contexts of harts that do not exist, read 0 and ignore writes", () => {
  const { plic } = controller(1);
  const before = plic.get();
  for (const at of [
    0x180,
    0x100c,
    enableAt(0, 3),
    enableAt(2),
    thresholdAt(0) + 8,
    thresholdAt(2),
    0x5ffffc,
  ]) {
    plic.write(at, 0xffffffff);
    expect([at, plic.read(at)]).toEqual([at, 0]);
  }
  plic.write(0x1000, 0xffffffff);
  expect(plic.get()).toEqual(before);
});

test("reset clears everything except the wires", () => {
  const { plic, lines } = controller();
  enable(plic, 5, 1, 1);
  enable(plic, 6, 1, 1);
  plic.setLine(5, true);
  plic.read(claimAt(1));
  plic.setLine(6, true);
  plic.reset();
  expect(lines()).toEqual([0, 0]);
  expect(plic.get()).toMatchObject({
    claimed: Uint32Array.of(0, 0, 0),
    pending: Uint32Array.of(0x60, 0, 0),
    level: Uint32Array.of(0x60, 0, 0),
  });
  enable(plic, 5, 1, 1);
  expect(lines()).toEqual([SEIP, 0]);
});

describe("its state", () => {
  test("is restored in another machine: claimed, pending, masked", () => {
    const from = controller();
    const { plic } = from;
    for (const source of [5, 33, 64]) {
      enable(plic, source, source % 8 || 1, 1, 2);
      plic.setLine(source, true);
    }
    expect(plic.read(claimAt(1))).toBe(5);
    plic.write(thresholdAt(2), 7);
    const to = controller();
    to.plic.set(plic.get());
    expect(to.plic.get()).toEqual(plic.get());
    expect(to.lines()).toEqual(from.lines());
    expect(to.vcpus[0]?.test(REQ.UNBLOCK)).toBe(true);
    to.plic.write(claimAt(1), 5);
    expect([to.plic.read(claimAt(1)), to.plic.read(claimAt(1)), to.plic.read(claimAt(1))]).toEqual([
      5, 33, 64,
    ]);
  });

  test("lowers the lines that were high in the previous state", () => {
    const { plic, lines } = controller();
    const quiet = plic.get();
    enable(plic, 5, 1, 1);
    plic.setLine(5, true);
    plic.set(quiet);
    expect(lines()).toEqual([0, 0]);
  });

  test("for another number of harts is refused and nothing changes", () => {
    const { plic } = controller();
    const before = plic.get();
    const other = controller(3).plic.get();
    expect(() => plic.check(other)).toThrow(PlicError);
    expect(() => plic.set(other)).toThrow("start it with 3 harts");
    expect(() => plic.check({ ...plicState.create(), ...before, numEnableWords: 9 })).toThrow(PlicError);
    expect(plic.get()).toEqual(before);
  });
});
