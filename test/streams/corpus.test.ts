// The fuzzer's corpus: its seeds are complete streams, so mutations reach code behind the first check; and
// earlier findings of the fuzzer (found-….stream) stay fixed.
import { describe, expect, test } from "vitest";
import { loadDevices } from "./fuzz/board.ts";
import { allSeeds, corpusFiles } from "./fuzz/corpus.ts";
import { fuzzMachine, loadMultifd } from "./fuzz/machines.ts";
import { caseOf } from "./fuzz/mutate.ts";
import { inspect, load } from "./fuzz/targets.ts";
import { random } from "../support/random.ts";

const files = await corpusFiles();

test.each(files)("$name is read, and loaded or refused", async ({ name, bytes }) => {
  const report = await inspect(bytes);
  for (const qemu of [true, false]) await load(bytes, fuzzMachine(qemu));
  if (name.startsWith("found-")) return;
  expect(report.problem).toBeUndefined();
  expect(report.sections.filter(({ unaccounted }) => unaccounted > 0)).toEqual([]);
});

describe("seeds", async () => {
  test.each((await allSeeds()).map((seed) => ({ ...seed })))(
    "$name knows what lies where",
    ({ bytes, spans }) => {
      expect(spans.length).toBeGreaterThan(5);
      for (const { at, size } of spans) expect(at + size).toBeLessThanOrEqual(bytes.length);
    },
  );
});

test("synthesised streams are complete", async () => {
  const whole: string[] = [];
  for (const { name, bytes } of await allSeeds()) {
    if (/^[a-z-]+$/.test(name) && (await inspect(bytes)).problem === undefined) whole.push(name);
  }
  expect(whole).toEqual([
    ..."devices ram xbzrle mapped-ram ignore-shared postcopy multifd-main multifd-channel bare iterative own".split(
      " ",
    ),
  ]);
});

test.each(files.filter(({ name }) => name.startsWith("board-")))(
  "the board accepts $name",
  async ({ bytes }) => {
    await loadDevices(bytes);
  },
);

test("a case is repeatable, independent of earlier cases", async () => {
  const seeds = await allSeeds();
  const bytes = seeds.map((seed) => seed.bytes.slice());
  const first = Array.from({ length: 300 }, (_, i) => caseOf(random, 7, i, seeds).bytes.slice());
  expect(seeds.map((seed) => seed.bytes)).toEqual(bytes);
  for (const [i, before] of first.entries()) {
    expect(Buffer.compare(caseOf(random, 7, i, seeds).bytes, before)).toBe(0);
  }
});

test("the multifd channel is accepted", async () => {
  const seed = (await allSeeds()).find(({ name }) => name === "multifd-channel");
  await loadMultifd(seed?.bytes ?? new Uint8Array(0));
});

test("the loader accepts the seeds of its machine", async () => {
  const loaded: string[] = [];
  for (const { name, bytes } of await allSeeds()) {
    if (await load(bytes, fuzzMachine(name !== "own"))) loaded.push(name);
  }
  expect(loaded).toEqual(expect.arrayContaining(["ram", "xbzrle", "mapped-ram", "own"]));
});
