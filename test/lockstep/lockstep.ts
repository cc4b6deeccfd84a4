// Two harts, the judge (the interpreter) and the engine under test, run the same program from the same image.
// After each slice of the engine under test the judge runs as many steps, and all state is compared: the
// hart's, RAM, interrupt lines, devices, and the dirty log (the judge's dirty pages must be dirty in the
// other too).
import { HART_STATE_OFFSET, hartBase } from "../../src/hypervisor/shared/memory-map.ts";
import { HEAT_ENTRIES, HEAT_OFFSET } from "../../src/hypervisor/shared/memory-map.ts";
import { SCRATCH } from "../../src/hypervisor/shared/hart-scratch.ts";
import { type HartField, hartState } from "../../src/riscv/hart-state.ts";
import { hartLayout } from "../../src/hypervisor/hart/hart-layout.ts";
import { type HarnessOptions, HartHarness, RAM_BASE } from "../support/hart-harness.ts";
import { Random } from "../support/random.ts";
import type { Kicker } from "./kicker.ts";
import { COPY, RAM_SIZE, RAM_TOTAL, TABLES, TABLES_END } from "./layout.ts";
import { PTE } from "./spaces.ts";
import { DEVICE, type LockstepProgram, programImage } from "./program.ts";
import { EXIT } from "../../src/hypervisor/hart/engine-interface.ts";

/** A fault planted in the engine under test after `after` steps. */
export interface Planted {
  readonly kind: "x" | "f" | "fflags" | "mcause" | "minstret" | "ram";
  readonly after: number;
}

export interface Difference {
  readonly where: string;
  readonly lines: readonly string[];
  /** Steps of this program that agreed, and the slice that did not. */
  readonly equalSteps: number;
  readonly slice: number;
}

export interface RunOptions {
  /** Total steps of the program. */
  readonly steps: number;
  /** Largest slice of the engine under test. */
  readonly largestSlice: number;
  readonly isKept?: (index: number) => boolean;
}

export class Pair {
  readonly judge: HartHarness;
  tested: HartHarness;
  readonly #options: HarnessOptions;
  readonly #planted: Planted | undefined;
  /** Steps compared and traps taken, over all programs. */
  steps = 0;
  slices = 0;
  kicks = 0;
  /** Steps of the engine under test that translated code executed. */
  translated = 0;
  #isPlanted = false;
  readonly #kicker: Kicker | undefined;

  /** With a kicker, the tested engine leaves run() at moments that no seed determines. */
  constructor(tested: HarnessOptions, { planted, kicker }: { planted?: Planted; kicker?: Kicker } = {}) {
    this.#kicker = kicker;
    this.judge = new HartHarness({ engine: "interpreter", ramSize: RAM_TOTAL });
    this.#options = { ...tested, ramSize: RAM_TOTAL };
    this.tested = new HartHarness(this.#options);
    kicker?.aim(this.tested.buffer);
    this.#planted = planted;
  }

  /** Runs a program on both. Returns the first difference, if any. */
  run(program: LockstepProgram, { steps, largestSlice, isKept }: RunOptions): Difference | undefined {
    const r = new Random(program.seed ^ 0x5bd1e995);
    const { ram } = programImage(program, isKept);
    for (const harness of [this.judge, this.tested]) start(harness, program, ram);
    this.#heat();
    let done = 0;
    let fruitless = 0;
    while (done < steps) {
      const budget = r.weighted([
        [1, () => 1 + r.int(16)],
        [2, () => 1 + r.int(300)],
        [8, () => 1 + r.int(largestSlice)],
      ])();
      const result = this.#slice(r, Math.min(budget, largestSlice), done);
      if (typeof result === "object") return result;
      done += result;
      this.steps += result;
      fruitless = result === 0 ? fruitless + 1 : 0;
      if (fruitless > 1000) throw new Error(`program ${program.seed}: run() does nothing`);
      this.#betweenSlices(r, program);
    }
    return undefined;
  }

  /** Returns the number of steps, or the difference. */
  #slice(r: Random, budget: number, done: number): number | Difference {
    const { judge, tested } = this;
    const pc = judge.hart.get("pc");
    const mode = judge.hart.get("priv");
    judge.ticks += r.int(20);
    tested.ticks = judge.ticks;
    this.slices++;
    const before = [executed(judge), executed(tested)] as const;
    const translatedBefore = translated(tested);
    const judged = (): number => Number(executed(judge) - before[0]);
    const count = (): number => Number(executed(tested) - before[1]);
    let reason = tested.run(budget);
    tested.kick = 0;
    if (reason === EXIT.KICK) this.kicks++;
    const isInexact = this.#options.exact === true && reason === EXIT.SLICE && count() !== budget;
    const isKicked = reason === EXIT.KICK;
    if (isKicked) reason = EXIT.SLICE;
    let expected: number = EXIT.SLICE;
    if (count() > 0 || reason !== EXIT.SLICE) expected = this.#judge(r, count(), judged);
    // A fetch that traps counts as a step. At the end of a slice one engine may take that trap a step later:
    // the other catches up.
    for (let tries = 0; judged() !== count() && tries < CATCH_UP; tries++) {
      const behind = count() - judged();
      if (behind > 0) expected = judge.run(behind);
      else reason = this.#unkicked(-behind);
    }
    this.translated += Number(translated(tested) - translatedBefore);
    if (isKicked) this.#adoptAccessed();
    this.#plant(done + count());
    const lines = this.#compare();
    if (judged() !== count()) lines.unshift(`steps: ${judged()}, tested ${count()}`);
    if (isInexact) lines.unshift(`steps: budget ${budget}, tested ${count()}`);
    if (expected !== reason) lines.unshift(`run(): ${exitName(expected)}, tested ${exitName(reason)}`);
    if (lines.length === 0) {
      if (reason === EXIT.ECALL) for (const harness of [judge, tested]) answerCall(harness);
      return count();
    }
    const where = `from pc ${pc.toString(16)} mode ${mode}, budget ${budget}, ${count()} steps`;
    return { where, lines, equalSteps: done, slice: Math.max(count(), judged()) };
  }

  /** Runs the judge in a few slices. Returns the last reason of run(). */
  #judge(r: Random, count: number, done: () => number): number {
    for (let tries = 0; tries < 4; tries++) {
      const left = count - done();
      const reason = this.judge.run(tries === 3 || r.oneIn(2) ? left : 1 + r.int(left));
      if (reason !== EXIT.SLICE || done() >= count) return reason;
    }
    return EXIT.SLICE;
  }

  #unkicked(count: number): number {
    const reason = this.tested.run(count);
    this.tested.kick = 0;
    return reason === EXIT.KICK ? EXIT.SLICE : reason;
  }

  #plant(steps: number): void {
    const planted = this.#planted;
    if (planted === undefined || this.#isPlanted || this.steps + steps < planted.after) return;
    this.#isPlanted = true;
    const { hart } = this.tested;
    if (planted.kind === "ram")
      this.tested.write64(RAM_BASE + 0x70000n, ~this.tested.read64(RAM_BASE + 0x70000n));
    else {
      const index = planted.kind === "x" || planted.kind === "f" ? 9 : 0;
      hart.set(planted.kind, hart.get(planted.kind, index) ^ 1n, index);
    }
  }

  /**
   * Makes code whose translation was dropped hot; it would be translated again only after many executions.
   */
  #heat(): void {
    const { threshold = 0 } = this.#options;
    new Uint8Array(this.tested.buffer, hartBase(0) + HEAT_OFFSET, HEAT_ENTRIES).fill(threshold);
  }

  /**
   * A kick may arrive after the lookup of the next page, so that its A bit is set early, as 12.3.1 allows.
   * Then the judge's is set too.
   */
  #adoptAccessed(): void {
    const [a, b] = [this.judge, this.tested];
    const at = (h: HartHarness): Buffer =>
      Buffer.from(h.buffer, h.offset(RAM_BASE) + TABLES, TABLES_END - TABLES);
    if (at(a).equals(at(b))) return;
    for (let place = RAM_BASE + BigInt(TABLES); place < RAM_BASE + BigInt(TABLES_END); place += 8n) {
      const judged = a.read64(place);
      if (judged !== b.read64(place) && (judged | PTE.A) === b.read64(place))
        a.write64(place, judged | PTE.A);
    }
  }

  #compare(): string[] {
    const [a, b] = [this.judge, this.tested];
    const lines: string[] = [];
    const base = hartBase(0);
    const bytes = (h: HartHarness, from: number, length: number): Buffer =>
      Buffer.from(h.buffer, from, length);
    const size = hartLayout.end - HART_STATE_OFFSET;
    if (bytes(a, base + HART_STATE_OFFSET, size).compare(bytes(b, base + HART_STATE_OFFSET, size)) !== 0) {
      lines.push(...differentFields(a, b));
    }
    const ram = a.offset(RAM_BASE);
    const other = b.offset(RAM_BASE);
    if (bytes(a, ram, RAM_TOTAL).compare(bytes(b, other, RAM_TOTAL)) !== 0) {
      for (let i = 0; i < RAM_TOTAL && lines.length < 20; i += 8) {
        const at = RAM_BASE + BigInt(i);
        if (a.read64(at) !== b.read64(at)) lines.push(different(at.toString(16), a.read64(at), b.read64(at)));
      }
    }
    if (a.lines !== b.lines) lines.push(different("lines", BigInt(a.lines), BigInt(b.lines)));
    for (const [address, value] of a.devices) {
      const theirs = b.devices.get(address) ?? 0n;
      if (value !== theirs) lines.push(different(`device ${address.toString(16)}`, value, theirs));
    }
    for (let i = 0; i < RAM_TOTAL; i += 4096) {
      const at = RAM_BASE + BigInt(i);
      if (a.dirty(at) && !b.dirty(at)) lines.push(`dirty log: page ${at.toString(16)} is missing`);
    }
    return lines;
  }

  /** Replaces the tested hart by a new one, to which only the state is copied. */
  #moveTested(program: LockstepProgram): void {
    const old = this.tested;
    this.tested = new HartHarness(this.#options);
    this.#kicker?.aim(this.tested.buffer);
    copyState(old, this.tested);
    this.tested.hart.configure({ builtinFirmware: program.builtinFirmware });
    // Reservation and dirty log are not state.
    this.judge.hart.clearReservation();
    this.judge.clearDirty();
  }

  /** What the VMM does to a hart outside guest mode. */
  #betweenSlices(r: Random, program: LockstepProgram): void {
    const both = [this.judge, this.tested];
    // TLB contents must not be visible, so either TLB may be flushed.
    if (r.oneIn(8)) this.judge.engine.flushTlb(hartBase(0));
    const { engine, hart } = this.tested;
    if (r.oneIn(30)) engine.flushTlb(hartBase(0));
    if (r.oneIn(10)) engine.flushTlbPage(hartBase(0), hart.get(r.pick(["pc", "mtval"])), r.int(6) - 1);
    if (r.oneIn(30)) engine.flushSpace(hartBase(0), r.int(6) - 1);
    if (r.oneIn(4)) this.#heat();
    if (r.oneIn(20)) rewriteSame(this.tested, hart.get("pc"));
    // Programs are too short for the engine to do so by itself.
    if (r.oneIn(6)) for (const page of codePages(hart.get("pc"))) this.tested.improve(page);
    if (r.oneIn(40)) {
      const bits = r.pick([0, 0, 0x80, 0x200, 0x800]);
      for (const h of both) h.lines = (h.lines & 0x20) | bits;
    }
    if (r.oneIn(60)) for (const h of both) h.clearDirty();
    if (r.oneIn(200)) this.#moveTested(program);
  }
}

const CATCH_UP = 20;

const translated = (harness: HartHarness): bigint =>
  harness.view.getBigUint64(hartBase(0) + SCRATCH.translated, true);

/** Addresses that the page of this pc may have in RAM: some spaces map the copy. */
const codePages = (pc: bigint): readonly bigint[] => {
  const page = RAM_BASE + (pc & BigInt(RAM_SIZE - 1) & ~0xfffn);
  return [page, page + BigInt(COPY)];
};

/** Writes the present contents, as a device does, to the page that the hart executes next. */
function rewriteSame(harness: HartHarness, pc: bigint): void {
  const at = RAM_BASE + (pc & BigInt(RAM_SIZE - 1) & ~7n);
  harness.write64(at, harness.read64(at));
}

/** Steps of a hart: instructions, trapping ones included. */
const executed = (harness: HartHarness): bigint =>
  harness.view.getBigUint64(hartBase(0) + SCRATCH.executed, true);

export function start(harness: HartHarness, program: LockstepProgram, ram: Uint8Array): void {
  new Uint8Array(harness.buffer, harness.offset(RAM_BASE), RAM_TOTAL).set(ram);
  // Write each page as a device does: its translations become stale.
  for (let at = RAM_BASE; at < RAM_BASE + BigInt(RAM_TOTAL); at += 4096n)
    harness.write64(at, harness.read64(at));
  const { hart } = harness;
  for (const [field, value] of Object.entries(hartState.create())) {
    const length = typeof value === "object" ? value.length : 1;
    for (let i = 0; i < length; i++) hart.set(field as HartField, 0n, i);
  }
  for (const [field, value, index] of program.state) hart.set(field, value, index);
  hart.clearReservation();
  harness.engine.flushTlb(hartBase(0));
  hart.configure({ builtinFirmware: program.builtinFirmware });
  harness.lines = 0;
  harness.ticks = 1000;
  harness.devices.clear();
  harness.devices.set(DEVICE, 0x1122334455667788n);
  harness.devices.set(DEVICE + 8n, 1n);
}

/** Copies all state and RAM. */
function copyState(from: HartHarness, to: HartHarness): void {
  const copy = (source: number, target: number, size: number): void =>
    new Uint8Array(to.buffer, target, size).set(new Uint8Array(from.buffer, source, size));
  copy(from.offset(RAM_BASE), to.offset(RAM_BASE), RAM_TOTAL);
  const state = hartBase(0) + HART_STATE_OFFSET;
  copy(state, state, hartLayout.end - HART_STATE_OFFSET);
  to.lines = from.lines;
  to.ticks = from.ticks;
  for (const [address, value] of from.devices) to.devices.set(address, value);
}

/** Acts as the firmware: a result in a0, and pc at the next instruction. */
function answerCall({ hart }: HartHarness): void {
  hart.set("pc", hart.get("pc") + 4n);
  hart.set("x", hart.get("x", 17) ^ 0x5an, 10);
}

const exitName = (reason: number): string =>
  Object.entries(EXIT).find(([, value]) => value === reason)?.[0] ?? String(reason);
const different = (name: string, judged: bigint, tested: bigint): string =>
  `${name}: ${judged.toString(16)}, tested ${tested.toString(16)}`;

function differentFields(a: HartHarness, b: HartHarness): string[] {
  return Object.entries(hartState.create()).flatMap(([name, value]) => {
    const field = name as HartField;
    const length = typeof value === "object" ? value.length : 1;
    return Array.from({ length }, (_, i) => i)
      .filter((i) => a.hart.get(field, i) !== b.hart.get(field, i))
      .map((i) =>
        different(length === 1 ? field : `${field}[${i}]`, a.hart.get(field, i), b.hart.get(field, i)),
      );
  });
}
