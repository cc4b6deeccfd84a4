// The state of the translation thread: slots are reused in turn, improved regions of unchanged shape remain,
// others are translated again. The code cache shows where a translation is; running it shows that it is the
// right one.
import { expect, test } from "vitest";
import { assemble, flatBinary } from "../../asm/assembler.ts";
import {
  engineHelpers,
  HartHarness,
  type HarnessOptions,
  RAM_BASE,
} from "../../../test/support/hart-harness.ts";
import { CodeCache, IMPROVE, SLOT_COUNT } from "../shared/code-cache.ts";
import { hartBase, TRANSLATION_STATS, VM_TRANSLATION_STATS, VM_VCPU_COUNT } from "../shared/memory-map.ts";
import { HEAT_ENTRIES, HEAT_OFFSET } from "../shared/memory-map.ts";
import { SCRATCH } from "../shared/hart-scratch.ts";
import { type PlacedRegion, RegionModules } from "./region-module.ts";
import { Translations } from "./translations.ts";

const MAIN = RAM_BASE;
const FUNCTIONS = RAM_BASE + 0x2000n;

function load(h: HartHarness, at: bigint, text: string): ReadonlyMap<string, bigint> {
  const assembled = assemble([{ name: "code", text }], { base: at });
  const bytes = flatBinary(assembled);
  h.load([...new Uint32Array(bytes.buffer, 0, bytes.length >> 2)], at);
  return assembled.symbols;
}

/** Calls x6 repeatedly. */
const CALLS = "loop: jalr x6\n j loop";

/** The value of a0 after 1,000 steps that call the function. */
function call(h: HartHarness, address: bigint): bigint {
  h.setX(6, address);
  h.setX(10, 0n);
  h.hart.set("pc", MAIN);
  h.run(1000);
  return h.x(10);
}

const regionsMade = (h: HartHarness): number =>
  Number(h.view.getBigUint64(VM_TRANSLATION_STATS + TRANSLATION_STATS.regions, true));

const translatedSteps = (h: HartHarness): bigint =>
  h.view.getBigUint64(hartBase(0) + SCRATCH.translated, true);

function slotOf(h: HartHarness, address: bigint): number {
  return new CodeCache(h.buffer).translationOf(h.offset(address)) & (SLOT_COUNT - 1);
}

/** A harness with access to its translations. */
function translating(
  options: HarnessOptions,
  builder: RegionModules = new RegionModules(engineHelpers(), { exact: false, hasTotalStoreOrder: false }),
): { h: HartHarness; translate: (...addresses: number[]) => void; adoptions: () => number } {
  let translations: Translations | undefined;
  const translate = (...addresses: number[]): void => {
    translations ??= new Translations(h.buffer, builder, 1 << 24);
    translations.translate(addresses);
  };
  let adoptions = 0;
  const h = new HartHarness({
    ...{ engine: "translator", exact: false, threshold: 0, ...options },
    imports: {
      runAdoption: (work) => {
        adoptions++;
        work();
      },
      hot: (address) => (translate(address >>> 0), 1),
      improve: (address) => translate((address | IMPROVE) >>> 0),
    },
  });
  return { h, translate, adoptions: () => adoptions };
}

/** Modules of very many regions are empty, because they are never executed. */
class LargeModulesEmpty extends RegionModules {
  override build(regions: readonly PlacedRegion[], improved: boolean): Uint8Array<ArrayBuffer> {
    return regions.length < 50
      ? super.build(regions, improved)
      : Uint8Array.of(0, 0x61, 0x73, 0x6d, 1, 0, 0, 0);
  }
}

test("slots are reused in turn: a previous owner loses its slot", () => {
  const { h, translate } = translating(
    { ramSize: 0x80000 },
    new LargeModulesEmpty(engineHelpers(), { exact: false, hasTotalStoreOrder: false }),
  );
  load(h, MAIN, CALLS);
  const functions = Array.from({ length: 8 }, (_, i) => FUNCTIONS + BigInt(i) * 0x1000n);
  for (const [i, at] of functions.entries()) load(h, at, `addi a0, a0, ${i + 1}\n ret`);
  /** The values of a0 after calls of the function. */
  const results = [1, 2, 3, 4, 5, 6, 7, 8].map((n) => BigInt(n * 250));
  expect(functions.slice(0, 4).map((at) => call(h, at))).toEqual(results.slice(0, 4));
  const first = [MAIN, ...functions.slice(0, 4)];
  const slots = first.map((at) => slotOf(h, at));
  expect(slots).toEqual([1, 2, 3, 4, 5]);

  // Pages full of returns, each of which is a region.
  const filler = RAM_BASE + 0x10000n;
  const fill = (page: number, count: number): void => {
    const at = h.offset(filler) + page * 0x1000;
    translate(...Array.from({ length: count }, (_, i) => at + 2 * i));
  };
  h.loadHalves(
    Array.from({ length: 33 * 2048 }, () => 0x8082),
    filler,
  );
  for (let page = 0; page < 31; page++) fill(page, 2048);
  fill(31, SLOT_COUNT - 3 - regionsMade(h));
  expect(regionsMade(h)).toBe(SLOT_COUNT - 3);
  // The first ones are all unchanged.
  expect(first.map((at) => slotOf(h, at))).toEqual(slots);
  expect(functions.slice(0, 4).map((at) => call(h, at))).toEqual(results.slice(0, 4));
  expect(regionsMade(h)).toBe(SLOT_COUNT - 3);

  // Two more, then it wraps. Dropped code is translated again, into the next slot in turn.
  for (let round = 0; round < 3; round++) {
    const order = [4, 5, 6, 7, 0, 1, 2, 3];
    expect(order.map((n) => call(h, functions[n] as bigint))).toEqual(order.map((n) => results[n]));
    expect(functions.map((at) => call(h, at))).toEqual(results);
  }
  expect(slots).toContain(slotOf(h, functions[6] as bigint));
  expect(slots).not.toContain(slotOf(h, functions[5] as bigint));
  const before = translatedSteps(h);
  call(h, functions[0] as bigint);
  expect(translatedSteps(h) - before).toBeGreaterThan(900n);
  expect(new Set(functions.map((at) => slotOf(h, at))).size).toBe(8);
});

test("when all code has changed, as by a reset, the same room is used again", () => {
  const { h } = translating({});
  for (let round = 0; round < 3; round++) {
    load(h, MAIN, CALLS);
    load(h, FUNCTIONS, `addi a0, a0, ${round + 1}\n ret`);
    // Dropped code becomes hot again after 256 executions.
    for (let i = 0; i < 3; i++) expect(call(h, FUNCTIONS)).toBe(BigInt(250 * (round + 1)));
    expect(new Set([slotOf(h, MAIN), slotOf(h, FUNCTIONS)])).toEqual(new Set([1, 2]));
  }
});

const LARGE = "addi a0, a0, 1\n".repeat(40);

test("an unchanged improved region stays; new code and code connected with it is translated again", () => {
  const { h, translate } = translating({});
  load(h, MAIN, CALLS);
  const at = load(
    h,
    FUNCTIONS,
    `f: ${LARGE} ret
     g: ${LARGE} beqz a0, tail
     ${LARGE} tail: addi a0, a0, 1
     ret
     h: ${LARGE} j tail`,
  );
  const [f, g, later, tail] = ["f", "g", "h", "tail"].map((name) => at.get(name) as bigint) as [
    ...[bigint, bigint, bigint, bigint],
  ];
  const improve = (): void => translate(h.offset(FUNCTIONS) | IMPROVE);
  const of = (): number[] => [f, g, later, tail].map((address) => slotOf(h, address));
  const values = [call(h, f), call(h, g)];
  const first = of();
  const made = regionsMade(h);
  improve();
  const improved = of();
  expect(regionsMade(h)).toBe(made + 2);
  expect(improved[0]).not.toBe(first[0]);
  expect(improved[1]).not.toBe(first[1]);
  expect(improved[0]).not.toBe(improved[1]);
  expect([call(h, f), call(h, g)]).toEqual(values);
  // No second time.
  improve();
  expect([of(), regionsMade(h)]).toEqual([improved, made + 2]);
  // h continues in g's code: both are now one region, f stays.
  call(h, later);
  const more = regionsMade(h);
  improve();
  const connected = of();
  expect(regionsMade(h)).toBe(more + 1);
  expect(connected[0]).toBe(improved[0]);
  expect(connected[1]).not.toBe(improved[1]);
  expect(connected[2]).toBe(connected[1]);
  expect([call(h, f), call(h, g)]).toEqual(values);
  // A place in the middle of g that is jumped to from elsewhere.
  call(h, tail);
  improve();
  const [last, , , entered] = of();
  expect([last, entered]).toEqual([improved[0], slotOf(h, g)]);
  expect([call(h, f), call(h, g)]).toEqual(values);
});

test("a hart switches to the improved code, and drops the previous one", () => {
  const { h, translate, adoptions } = translating({});
  load(h, MAIN, CALLS);
  load(h, FUNCTIONS, `${LARGE} ret`);
  call(h, FUNCTIONS);
  const before = adoptions();
  call(h, FUNCTIONS);
  expect(adoptions()).toBe(before);
  translate(h.offset(FUNCTIONS) | IMPROVE);
  call(h, FUNCTIONS);
  expect(adoptions()).toBe(before + 2);
});

test("overwritten code is improved again, although its shape is the same", () => {
  const { h, translate } = translating({});
  load(h, MAIN, CALLS);
  const improve = (): void => translate(h.offset(FUNCTIONS) | IMPROVE);
  for (const n of [1, 2, 3]) {
    load(h, FUNCTIONS, `${`addi a0, a0, ${n}\n`.repeat(4)} ret`);
    // Not executed since: there is nothing to improve.
    improve();
    for (let i = 0; i < 3; i++) {
      expect(call(h, FUNCTIONS)).toBe(BigInt(n * 4 * 143));
      improve();
    }
  }
});

test("a branch that has been taken since changes the shape of a region without a new entry", () => {
  const { h, translate } = translating({ threshold: 200 });
  h.view.setUint32(VM_VCPU_COUNT, 1, true);
  load(h, MAIN, "j . + 0");
  const at = load(
    h,
    FUNCTIONS,
    `f: ${LARGE} bnez a0, far
     ret
     far: ${LARGE} ret
     g: ${LARGE} ret`,
  );
  const improve = (): void => translate(h.offset(FUNCTIONS) | IMPROVE);
  // The hart's heat counters start with its first run.
  h.run(1);
  const instructions = (): number =>
    Number(h.view.getBigUint64(VM_TRANSLATION_STATS + TRANSLATION_STATS.guestInstructions, true));
  const grownBy = (body: () => void): number => {
    const before = instructions();
    body();
    return instructions() - before;
  };
  const address = (name: string): number => h.offset(at.get(name) as bigint);
  expect(grownBy(() => translate(address("f")))).toBe(42);
  expect(grownBy(improve)).toBe(42);
  const heat = HEAT_OFFSET + ((address("far") >>> 1) & (HEAT_ENTRIES - 1));
  h.view.setUint8(hartBase(0) + heat, 199);
  // The page knows of nothing new.
  expect(grownBy(improve)).toBe(0);
  expect(grownBy(() => translate(address("g")))).toBe(41);
  expect(grownBy(improve)).toBe(42 + 41 + 41);
  expect(grownBy(improve)).toBe(0);
});
