// The translator against the interpreter: two harts that must behave the same, in S-mode, with two Sv39
// address spaces. Each test maps pages around address 0. All state, RAM, devices and the dirty log are
// compared after each slice.
import { SATP_MODE } from "../../src/riscv/paging.ts";
import { satpOf } from "./satp.ts";
import { expect } from "vitest";
import { assemble, flatBinary } from "../../src/asm/assembler.ts";
import { HART_STATE_OFFSET, hartBase } from "../../src/hypervisor/shared/memory-map.ts";
import type { EngineImports } from "../../src/hypervisor/hart/engine-interface.ts";
import { hartLayout } from "../../src/hypervisor/hart/hart-layout.ts";
import { hartState, type HartField } from "../../src/riscv/hart-state.ts";
import { SCRATCH } from "../../src/hypervisor/shared/hart-scratch.ts";
import { findRegion } from "../../src/hypervisor/translator/region.ts";
import { findStreams } from "../../src/hypervisor/translator/tlb-streams.ts";
import { HartHarness, RAM_BASE } from "./hart-harness.ts";

export const [V, R, W, X, U, A, D] = [1n, 2n, 4n, 8n, 16n, 64n, 128n] as const;
export const ALL = V | R | W | X | A | D;

export const RAM_SIZE = 0x100000;
export const PAGE = 0x1000n;
export const CODE = RAM_BASE + 0x1000n;
/** A second page of code. */
export const CODE2 = RAM_BASE + 0x3000n;
const HANDLER = RAM_BASE + 0x8000n;
const TABLES = RAM_BASE + 0x10000n;
export const frame = (n: number): bigint => RAM_BASE + 0x40000n + BigInt(n) * PAGE;

/** The tables of two address spaces: the root, and the tables for page 0, for the last page, and for RAM. */
const ROOTS = [0, 1].map((n) => TABLES + BigInt(n) * 8n * PAGE);
export const satp = (space: number): bigint => satpOf(SATP_MODE.SV39, ROOTS[space] ?? 0n, space + 1);

/** S-mode maps this address in RAM to another page: for MPRV. */
export const ELSEWHERE = frame(32);

/** Counts traps in s11, mixes their causes into s10, and continues after the instruction. */
const HANDLER_TEXT = `
  addi s11, s11, 1
  slli s10, s10, 1
  csrr t6, mcause
  add s10, s10, t6
  csrr t6, mtval
  xor s10, s10, t6
  csrr t6, mepc
  addi t6, t6, 4
  csrw mepc, t6
  mret
`;

export interface Mode {
  readonly exact: boolean;
  /** The page is translated again after its first execution. */
  readonly improved: boolean;
}
export const MODES: readonly (readonly [string, Mode])[] = [
  ["exact", { exact: true, improved: false }],
  ["not exact", { exact: false, improved: false }],
  ["improved", { exact: false, improved: true }],
];

export const executed = (h: HartHarness): number =>
  Number(h.view.getBigUint64(hartBase(0) + SCRATCH.executed, true));
const translated = (h: HartHarness): number =>
  Number(h.view.getBigUint64(hartBase(0) + SCRATCH.translated, true));

/** Two harts that must behave the same. */
export class Both {
  readonly judge = new HartHarness({ engine: "interpreter", ramSize: RAM_SIZE });
  readonly tested: HartHarness;
  readonly #mode: Mode;

  constructor(mode: Mode, imports: Partial<EngineImports> = {}) {
    this.#mode = mode;
    this.tested = new HartHarness({
      ...{ engine: "translator", threshold: 0, exact: mode.exact, ramSize: RAM_SIZE, imports },
    });
    this.each((h) => {
      h.hart.set("mtvec", HANDLER);
      for (let i = 0; i < 64 * 0x1000; i += 8) h.write64(frame(0) + BigInt(i), BigInt(i) * 0x1_0001n);
      for (const root of ROOTS) {
        const table = (n: number): bigint => ((root + BigInt(n) * PAGE) >> 2n) | V;
        h.write64(root, table(1));
        h.write64(root + PAGE, table(2));
        h.write64(root + 511n * 8n, table(3));
        h.write64(root + 3n * PAGE + 511n * 8n, table(4));
        h.write64(root + 2n * 8n, table(5));
        h.write64(root + 5n * PAGE, table(6));
        for (let at = 0n; at < RAM_SIZE; at += PAGE)
          h.write64(root + 6n * PAGE + (at >> 12n) * 8n, ((RAM_BASE + at) >> 2n) | ALL);
        h.write64(root + 6n * PAGE + ((ELSEWHERE - RAM_BASE) >> 12n) * 8n, (frame(33) >> 2n) | ALL);
      }
    });
    this.code(HANDLER_TEXT, HANDLER);
  }

  each(body: (h: HartHarness) => void): void {
    for (const h of [this.judge, this.tested]) body(h);
  }
  code(text: string, at = CODE): void {
    const bytes = flatBinary(assemble([{ name: "code", text }], { base: at, defines: DEFINES }));
    const words = new Uint32Array(bytes.buffer, 0, bytes.length / 4);
    this.each((h) => h.load([...words], at));
  }
  /** The page `n` pages from address 0 in a space; `n` may be negative. */
  map(n: number, pa: bigint, flags: bigint, space = 0): void {
    this.each((h) => h.write64(pteOf(n, space), (pa >> 2n) | flags));
  }
  x(values: Readonly<Record<string, bigint>>): void {
    for (const [name, value] of Object.entries(values))
      this.each((h) => h.setX(Number(name.slice(1)), BigInt.asUintN(64, value)));
  }
  start(priv: number, values: Readonly<Record<string, bigint>> = {}, pc = CODE): void {
    this.each((h) => {
      h.hart.set("pc", pc);
      h.hart.set("priv", BigInt(priv));
      h.hart.set("satp", satp(0));
      h.engine.flushTlb(hartBase(0));
    });
    this.x(values);
  }

  /**
   * Runs about `budget` steps, then compares. Returns the steps, and how many of them translated code
   * executed.
   */
  run(budget: number): { steps: number; translated: number } {
    const { judge, tested } = this;
    const before = [executed(judge), executed(tested), translated(tested)] as const;
    tested.run(budget);
    const steps = executed(tested) - before[1];
    for (let tries = 0; tries < 4 && executed(judge) - before[0] < steps; tries++)
      judge.run(steps - (executed(judge) - before[0]));
    expect(executed(judge) - before[0]).toBe(steps);
    this.compare();
    return { steps, translated: translated(tested) - before[2] };
  }

  /** Runs until all code is translated and, if requested, improved; then streams are in use. */
  warm(budget = 3000, pages: readonly bigint[] = [CODE]): void {
    this.run(budget);
    if (this.#mode.improved) for (const page of pages) this.tested.improve(page);
    this.run(budget);
  }

  compare(): void {
    const { judge, tested } = this;
    const size = hartLayout.end - HART_STATE_OFFSET;
    const at = hartBase(0) + HART_STATE_OFFSET;
    const bytes = (h: HartHarness, from: number, length: number): Buffer =>
      Buffer.from(h.buffer, from, length);
    if (!bytes(judge, at, size).equals(bytes(tested, at, size))) {
      const fieldsOf = (h: HartHarness): unknown[] =>
        Object.entries(hartState.create()).flatMap(([name, value]) =>
          Array.from({ length: typeof value === "object" ? value.length : 1 }, (_, i) => [
            `${name} ${i}`,
            h.hart.get(name as HartField, i).toString(16),
          ]),
        );
      expect(fieldsOf(tested)).toEqual(fieldsOf(judge));
    }
    const ram = (h: HartHarness): Buffer => bytes(h, h.offset(RAM_BASE), RAM_SIZE);
    if (!ram(judge).equals(ram(tested))) {
      const different: string[] = [];
      for (let i = RAM_BASE; i < RAM_BASE + BigInt(RAM_SIZE) && different.length < 10; i += 8n) {
        const [judged, its] = [judge.read64(i), tested.read64(i)];
        if (judged !== its) different.push(`${i.toString(16)}: ${judged.toString(16)}, ${its.toString(16)}`);
      }
      expect(different).toEqual([]);
    }
    expect([...tested.devices]).toEqual([...judge.devices]);
    for (let i = RAM_BASE; i < RAM_BASE + BigInt(RAM_SIZE); i += PAGE)
      if (judge.dirty(i)) expect([i, tested.dirty(i)]).toEqual([i, true]);
  }

  /** The number of accesses in streams in the region at this address. */
  streams(at = CODE): number {
    const { view } = this.tested;
    const offset = Number(at % PAGE);
    return findStreams(findRegion(view, this.tested.offset(at) - offset, offset)).size;
  }
}

/** The address of a page's leaf entry. */
export const pteOf = (n: number, space = 0): bigint =>
  (ROOTS[space] ?? 0n) + (n < 0 ? 4n : 2n) * PAGE + BigInt(n & 511) * 8n;

const DEFINES = {
  PTE0: pteOf(0),
  PTE1: pteOf(1),
  PAGE0: 0n,
  SATP0: satp(0),
  SATP1: satp(1),
  CODE2,
  ELSEWHERE,
};
