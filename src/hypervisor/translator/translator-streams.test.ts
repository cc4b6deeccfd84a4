// A stream (tlb-streams.ts) must not use a page longer than allowed: loops on the translator, and on the
// interpreter, which has no streams, with every kind of invalidation between slices and in the loops
// themselves.
import { describe, expect, test } from "vitest";
import {
  V,
  R,
  W,
  X,
  U,
  A,
  D,
  ALL,
  RAM_SIZE,
  CODE,
  CODE2,
  ELSEWHERE,
  frame,
  pteOf,
  satp,
  executed,
  MODES,
  Both,
} from "../../../test/support/both-engines.ts";
import { type HartHarness, RAM_BASE } from "../../../test/support/hart-harness.ts";
import { CodeCache } from "../shared/code-cache.ts";
import { hartBase } from "../shared/memory-map.ts";
import { CodePageSet } from "../shared/memory-slots.ts";
import { ALL_SPACES, EXIT } from "../hart/engine-interface.ts";
import { PRIV } from "../../riscv/privilege.ts";

/** Loads, increments and stores the value at a0, and adds up the values behind it. */
const COUNTING = `
  loop:
    ld a1, 0(a0)
    addi a1, a1, 1
    sd a1, 0(a0)
    ld a2, 8(a0)
    add a3, a3, a2
    addi a4, a4, 1
    j loop
`;

/** Three loads and three stores, each set of which shares a lookup. */
const WINDOW = [0, 8, 16]
  .flatMap((at) => [`ld t${at / 8}, ${at}(a0)`, `sd t${at / 8}, ${16 - at}(a0)`])
  .join("\n");

type Flush = (h: HartHarness) => void;
const FLUSHES: readonly (readonly [string, Flush])[] = [
  ["all", (h) => h.engine.flushTlb(hartBase(0))],
  ["the page", (h) => h.engine.flushTlbPage(hartBase(0), 0x18n, ALL_SPACES)],
  ["the page of the space", (h) => h.engine.flushTlbPage(hartBase(0), 0x18n, 1)],
  ["the space", (h) => h.engine.flushSpace(hartBase(0), 1)],
  ["all spaces", (h) => h.engine.flushSpace(hartBase(0), ALL_SPACES)],
];

describe.each(MODES)("%s", (_, mode) => {
  // Like a remote sfence.vma: a vCPU handles a request when run() has returned.
  test.each(FLUSHES)("the page's entry changes between slices, and %s is flushed", (_name, flush) => {
    const both = new Both(mode);
    both.code(COUNTING);
    both.map(0, frame(0), ALL);
    both.start(PRIV.S, { x10: 0x18n });
    expect(both.streams()).toBe(3);
    both.warm();
    const { steps, translated: its } = both.run(20_000);
    expect(its / steps).toBeGreaterThan(0.9);
    const changes: [bigint, bigint][] = [
      [frame(1), ALL],
      [frame(2), ALL & ~W],
      [frame(2), ALL & ~D],
      [frame(3), ALL & ~(A | D)],
      [frame(3), 0n],
      [frame(3), ALL & ~R & ~W],
      [frame(0), ALL | U],
      [frame(0), V | R],
      [frame(0), ALL],
    ];
    for (const [pa, flags] of changes) {
      both.map(0, pa, flags);
      both.each(flush);
      both.run(2500);
    }
    expect(both.tested.read64(frame(0) + 0x18n)).toBeGreaterThan(3000n);
    expect(both.tested.read64(pteOf(0)) & (A | D)).toBe(A | D);
  });

  // A fence in the loop itself invalidates all streams.
  test.each([
    ["another frame", "sfence.vma", (frame(0) ^ frame(1)) >> 2n],
    ["another frame", "sfence.vma a0, zero", (frame(0) ^ frame(1)) >> 2n],
    ["another frame", "sfence.vma a0, s2", (frame(0) ^ frame(1)) >> 2n],
    ["another frame", "sfence.vma zero, s2", (frame(0) ^ frame(1)) >> 2n],
    ["another frame", "csrw satp, s5; csrw satp, s4", (frame(0) ^ frame(1)) >> 2n],
    ["read-only", "sfence.vma a0, zero", W],
    ["not mapped", "sfence.vma a0, zero", V],
    ["neither accessed nor dirty", "sfence.vma a0, zero", A | D],
    ["not dirty", "sfence.vma a0, zero", D],
    ["only executable", "sfence.vma a0, zero", R | W],
  ])("the loop makes a page %s and back, %s", (_what, fence, bits) => {
    const both = new Both(mode);
    both.code(`
      outer:
        ld t0, 0(s0)
        xor t0, t0, s1
        sd t0, 0(s0)
        ${fence}
        ld a1, 0(a0)
        addi a1, a1, 1
        sd a1, 0(a0)
        li s3, 7
      inner:
        ld a1, 8(a0)
        add a3, a3, a1
        sd a3, 16(a0)
        addi s3, s3, -1
        bnez s3, inner
        j outer
    `);
    both.map(0, frame(0), ALL);
    both.map(0, frame(2), ALL, 1);
    both.start(PRIV.S, { x10: 0x18n, x8: pteOf(0), x9: bits, x18: 1n, x20: satp(0), x21: satp(1) });
    both.warm();
    for (let i = 0; i < 6; i++) both.run(1000 + 777 * i);
  });

  test("two address spaces with their ASIDs, alternating", () => {
    const both = new Both(mode);
    both.code(`
      loop:
        csrw satp, s0
        ld a1, 0(a0)
        addi a1, a1, 1
        sd a1, 0(a0)
        csrw satp, s1
        ld a1, 0(a0)
        addi a1, a1, 3
        sd a1, 0(a0)
        li s3, 5
      inner:
        sd a1, 8(a0)
        ld a2, 16(a0)
        add a3, a3, a2
        addi s3, s3, -1
        bnez s3, inner
        j loop
    `);
    both.map(0, frame(0), ALL);
    both.map(0, frame(1), ALL, 1);
    both.start(PRIV.S, { x10: 0x18n, x8: satp(0), x9: satp(1) });
    both.warm();
    both.run(5000);
    expect(both.tested.read64(frame(0) + 0x18n)).not.toBe(both.tested.read64(frame(1) + 0x18n));
  });

  test.each([
    ["SUM", 18, ALL | U],
    ["MXR", 19, V | X | A | D],
  ])("%s on and off in the loop", (_name, bit, flags) => {
    const both = new Both(mode);
    both.code(`
      loop:
        csrs sstatus, s0
        ld a1, 0(a0)
        add a3, a3, a1
        sd a1, 16(a0)
        csrc sstatus, s0
        ld a1, 8(a0)
        add a3, a3, a1
        sd a1, 16(a0)
        li s3, 5
      inner:
        ld a2, 16(a0)
        add a3, a3, a2
        addi s3, s3, -1
        bnez s3, inner
        xor s0, s0, s1
        j loop
    `);
    both.map(0, frame(0), flags);
    both.start(PRIV.S, { x10: 0x18n, x8: 1n << BigInt(bit), x9: 1n << BigInt(bit) });
    both.warm();
    both.run(5000);
    expect(both.tested.x(27)).toBeGreaterThan(100n);
  });

  test("MPRV on and off in the loop, with another frame for S-mode, and in slices", () => {
    const both = new Both(mode);
    both.code(`
      loop:
        csrs mstatus, s0
        ld a1, 0(a0)
        addi a1, a1, 1
        sd a1, 0(a0)
        csrc mstatus, s0
        ld a1, 0(a0)
        addi a1, a1, 3
        sd a1, 0(a0)
        li s3, 5
      inner:
        ld a2, 8(a0)
        sd a2, 16(a0)
        addi a2, a2, 1
        sd a2, 8(a0)
        addi s3, s3, -1
        bnez s3, inner
        j loop
    `);
    both.start(PRIV.M, { x10: ELSEWHERE + 0x18n, x8: 0x2_0800n });
    both.warm();
    for (let i = 0; i < 8; i++) {
      both.each(({ hart }) => hart.set("mstatus", hart.get("mstatus") ^ 0x2_0000n));
      both.run(1234);
    }
    expect(both.tested.read64(ELSEWHERE + 0x18n)).not.toBe(both.tested.read64(frame(33) + 0x18n));
  });

  test("PMP denies a page, and allows it again", () => {
    const both = new Both(mode);
    both.code(COUNTING);
    both.map(0, frame(0), ALL);
    both.each(({ hart }) => {
      hart.set("pmpaddr", (frame(0) >> 2n) | 0x1ffn, 0);
      hart.set("pmpcfg", 0x1fn, 0);
      hart.set("pmpaddr", (1n << 54n) - 1n, 15);
      hart.set("pmpcfg", 0x1fn, 15);
    });
    both.start(PRIV.S, { x10: 0x18n });
    both.warm();
    for (const rights of [0x19n, 0x18n, 0x1fn, 0x1cn, 0x1bn]) {
      both.each((h) => {
        h.hart.set("pmpcfg", rights, 0);
        h.engine.flushTlb(hartBase(0));
      });
      both.run(2000);
    }
  });

  test("each store is in the dirty log after it was cleared", () => {
    const both = new Both(mode);
    both.code(`
      loop:
        sd a4, 0(a0)
        sd a4, 0(a1)
        addi a1, a1, 16
        and a1, a1, a5
        addi a4, a4, 1
        inner:
          sw a4, 32(a0)
          addi a4, a4, 1
          andi t0, a4, 7
          bnez t0, inner
        j loop
    `);
    for (let n = 0; n < 4; n++) both.map(n, frame(n), ALL);
    both.start(PRIV.S, { x10: 0x18n, x11: 0x1000n, x15: 0x3fffn });
    both.warm();
    const dirty = (): boolean[] => [0, 1, 2, 3, 4].map((n) => both.tested.dirty(frame(n)));
    for (let i = 0; i < 12; i++) {
      both.each((h) => h.clearDirty());
      const page = Number(both.tested.x(11) >> 12n);
      both.run(900);
      expect([i, dirty()[0], dirty()[page], dirty()[4]]).toEqual([i, true, true, false]);
    }
  });

  test("stores to a page that becomes a code page are noticed", () => {
    const both = new Both(mode);
    both.code(COUNTING);
    both.map(0, frame(0), ALL);
    both.start(PRIV.S, { x10: 0x18n });
    both.warm();
    for (let i = 0; i < 3; i++) {
      both.each((h) => h.markCode(frame(0)));
      expect(both.tested.codeState(frame(0))).toMatch(/^code/);
      both.run(200);
      expect(both.tested.codeState(frame(0))).toMatch(new RegExp(`^(stale)? ${i + 1}$`));
    }
  });

  // The function's single instruction is a different one each time; it is translated between the patches.
  const PATCHING = (stores: string): string => `
    loop:
      xor s1, s1, s2
      li s3, 5
    inner:
      ${stores}
      addi s3, s3, -1
      bnez s3, inner
      fence.i
      jalr s0
      jalr s0
      j loop
  `;
  test.each([
    ["by its address", "sw s1, 0(s0)"],
    ["by an alias", "sw s1, 0(s4)"],
    ["by both", "sw s1, 0(s0)\n sw zero, 16(s4)"],
    ["and data beside it", "sw s1, 0(s4)\n ld a1, 16(s0)\n addi a1, a1, 1\n sd a1, 16(s0)"],
    ["in three pieces", "sb s1, 0(s4)\n srli t0, s1, 8\n sb t0, 1(s4)\n srli t0, s1, 16\n sh t0, 2(s4)"],
  ])("a loop patches a function in another page, %s", (_name, stores) => {
    const both = new Both(mode);
    both.code(PATCHING(stores));
    both.code("addi a0, a0, 1\n ret\n .zero 32", CODE2);
    both.map(0, CODE2, ALL);
    // addi a0, a0, 1 and addi a0, a0, 16.
    both.start(PRIV.S, { x8: CODE2, x9: 0x0015_0513n, x18: 0x0110_0000n, x20: 0n });
    both.warm(2000, [CODE, CODE2]);
    both.run(5000);
    const calls = both.tested.x(10);
    expect(calls).toBeGreaterThan(100n);
  });

  test("a loop patches itself, and writes data next to its code", () => {
    const both = new Both(mode);
    both.code(`
      loop:
        xor s1, s1, s2
        li s3, 5
      inner:
        ld a1, 128(s0)
        addi a1, a1, 1
        sd a1, 128(s0)
        sw s1, slot - loop(s0)
        addi s3, s3, -1
        bnez s3, inner
        fence.i
        slot: addi a0, a0, 1
        j loop
        .zero 128
    `);
    both.start(PRIV.S, { x8: CODE, x9: 0x0015_0513n, x18: 0x0110_0000n });
    both.warm(2000);
    both.run(5000);
    expect(both.tested.x(10)).toBeGreaterThan(100n);
  });

  test("two loops write to each other's page", () => {
    const both = new Both(mode);
    const text = (other: number): string => `
      start:
        li s3, 9
        mv t0, s${other}
      fill:
        sd a4, 256(t0)
        ld a5, 256(t0)
        add a4, a4, a5
        addi t0, t0, 8
        addi s3, s3, -1
        bnez s3, fill
        xor s1, s1, s2
        sw s1, slot - start(s${other})
        fence.i
        slot: addi a0, a0, 1
        jr s${other}
        .zero 512
    `;
    both.code(text(4), CODE);
    both.code(text(5), CODE2);
    both.start(PRIV.S, { x20: CODE2, x21: CODE, x9: 0x0015_0513n, x18: 0x0110_0000n });
    both.warm(2000, [CODE, CODE2]);
    both.run(5000);
    expect(both.tested.x(10)).toBeGreaterThan(100n);
  });

  test.each([
    ["loads upwards", "ld t0, 0(a0)\n add a3, a3, t0\n addi a0, a0, 8", 8n],
    ["both downwards", "ld t0, -8(a0)\n add a3, a3, t0\n addi a0, a0, -4\n sw t0, 0(a0)", -4n],
    ["stores about the edge", "sd a3, 4(a0)\n addi a3, a3, 77\n addi a0, a0, 8", 8n],
    ["odd steps", "sd a3, 1(a0)\n addi a3, a3, 77\n ld t0, -3(a0)\n add a3, a3, t0\n addi a0, a0, 5", 5n],
    ["bytes' steps", "lhu t0, 0(a0)\n sh t0, 3(a0)\n add a3, a3, t0\n addi a0, a0, 1", 1n],
    ["windows", `${WINDOW}\n addi a0, a0, 20`, 20n],
    ["aligned windows", `${WINDOW}\n addi a0, a0, 8`, 8n],
    ["floats", "fld f0, 0(a0)\n fsd f0, 12(a0)\n fsw f0, 2(a0)\n addi a0, a0, 12", 12n],
  ])("accesses continue across the edges of pages, and lie around them: %s", (_name, body, step) => {
    for (const holes of [false, true]) {
      const both = new Both(mode);
      const count = Math.min(10_000, Math.floor(0x3fc0 / Math.abs(Number(step))));
      const back = step < 0n ? "addi a0, a0, -1" : "";
      both.code(`
        outer:
          mv a0, s0
          ${back}
          li s3, ${count}
        loop:
          ${body}
          addi s3, s3, -1
          bnez s3, loop
          addi a5, a5, 1
          j outer
      `);
      // On both sides of address 0, with no two adjacent pages mapped to adjacent frames.
      for (const [n, f] of [
        [-2, 5],
        [-1, 3],
        [0, 7],
        [1, 2],
        [-3, 9],
        [2, 9],
      ] as const)
        both.map(n, frame(f), holes && n === 0 ? 0n : holes && n === 1 ? ALL & ~W : ALL);
      both.each(({ hart }) => hart.set("mstatus", 3n << 13n));
      both.start(PRIV.S, { x8: (-BigInt(count) * step) / 2n });
      both.warm();
      for (let i = 0; i < 5; i++) both.run(40_000);
      expect(both.tested.x(15)).toBeGreaterThan(0n);
    }
  });

  test.each(["ld t0, 0(a0)", "sd a3, 0(a0)", "lw t0, 4(a0)", "ld t0, 0(a0); sd t0, 0(a0)"])(
    "a pointer runs off RAM into devices, and beyond them: %s",
    (access) => {
      const both = new Both(mode);
      const end = RAM_BASE + BigInt(RAM_SIZE);
      both.code(`
        outer:
          mv a0, s0
          li s3, 96
        loop:
          ${access}
          add a3, a3, t0
          addi a3, a3, 1
          addi a0, a0, 8
          addi s3, s3, -1
          bnez s3, loop
          j outer
      `);
      both.each(({ devices }) => {
        for (let i = 0n; i < 0x100n; i += 4n) devices.set(end + i, i + 5n);
      });
      both.start(PRIV.M, { x8: end - 0x100n });
      both.warm();
      both.run(5000);
      expect(both.tested.x(27)).toBeGreaterThan(32n);
    },
  );

  test.each([
    [0n, 0],
    [0n, 8],
    [0x40n, 0],
    [-8n, 8],
    [-64n, 8],
    [-4096n, 0],
    [-1n, 0],
    [0x7_ffff_f000n, 0],
  ])("nothing is at %s, step %i, before and after something was elsewhere", (start, step) => {
    const both = new Both(mode);
    both.code(`
      outer:
        mv a0, s0
        li s3, 16
      loop:
        ld t0, 0(a0)
        add a3, a3, t0
        sd a3, 0(a0)
        lbu t1, 3(a0)
        ld t2, 8(a1)
        addi a0, a0, ${step}
        addi s3, s3, -1
        bnez s3, loop
        bnez s4, 1f
        xor s0, s0, s1
      1: j outer
    `);
    both.start(PRIV.M, { x8: start, x9: start ^ frame(0), x11: frame(1), x20: 1n });
    both.warm();
    expect(both.tested.x(27)).toBeGreaterThan(100n);
    both.x({ x20: 0n });
    both.run(5000);
    both.start(PRIV.S);
    both.run(5000);
  });

  /** The counting loop, run until an event at one of its countdown tests; returns the harness after that. */
  function interrupted(what: (h: HartHarness) => void): HartHarness {
    let calls = 0;
    const both = new Both(mode, {
      hostTicks: () => {
        calls++;
        if (calls === 4000) {
          what(both.tested);
          both.tested.kick = 1;
        }
        return calls;
      },
    });
    both.code(`
      loop:
        ld a1, 0(a0)
        addi a1, a1, 1
        sd a1, 0(a0)
        rdtime a2
        j loop
    `);
    both.map(0, frame(0), ALL);
    both.each(({ hart }) => {
      hart.set("mcounteren", 7n);
      hart.set("scounteren", 7n);
    });
    both.start(PRIV.S, { x10: 0x18n });
    const { tested } = both;
    if (mode.improved) {
      tested.run(2000);
      tested.improve(CODE);
    }
    expect(tested.run(100_000)).toBe(EXIT.KICK);
    expect(executed(tested)).toBeGreaterThanOrEqual(5 * 3999);
    expect(executed(tested)).toBeLessThan(40_000);
    tested.kick = 0;
    return tested;
  }

  test("a flush that is requested while the loop runs is done before it continues", () => {
    const tested = interrupted((h) => h.write64(pteOf(0), (frame(1) >> 2n) | ALL));
    // The action of a vCPU's thread for REQ.TLB_FLUSH.
    tested.engine.flushTlb(hartBase(0));
    const [old, other] = [tested.read64(frame(0) + 0x18n), tested.read64(frame(1) + 0x18n)];
    tested.run(1000);
    expect(tested.read64(frame(0) + 0x18n)).toBe(old);
    expect(tested.read64(frame(1) + 0x18n)).toBeGreaterThan(other + 150n);
  });

  // Not required: but if this fails, streams are useless.
  test.runIf(mode.improved)("a stream needs no TLB while the loop runs", () => {
    let before = 0n;
    const tested = interrupted((h) => {
      before = h.read64(frame(0) + 0x18n);
      h.write64(pteOf(0), (frame(1) >> 2n) | ALL);
      h.engine.flushTlb(hartBase(0));
    });
    expect(tested.read64(frame(0) + 0x18n)).toBeGreaterThan(before + 10n);
  });

  test("stores to a page that gets a translation while the loop runs are noticed when it continues", () => {
    // The action of the translation thread, which then waits.
    const tested = interrupted((h) => {
      new CodePageSet(h.buffer).mark(h.offset(frame(0)));
      new CodeCache(h.buffer).advanceProtection();
    });
    expect(tested.codeState(frame(0))).toBe("code 0");
    tested.run(1000);
    expect(tested.codeState(frame(0))).toMatch(/^(stale)? 1$/);
  });
});
