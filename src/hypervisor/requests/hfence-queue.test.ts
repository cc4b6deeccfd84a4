import { expect, test } from "vitest";
import { type Hfence, HFENCE_TYPE, HfenceQueue } from "./hfence-queue.ts";
import {
  HFENCE_CAPACITY,
  HFENCE_ENTRIES,
  HFENCE_ENTRY_SIZE,
  HFENCE_TAIL,
  hartBase,
  RUN_CONSOLE,
} from "../shared/memory-map.ts";

const fence = (n: number): Hfence => ({
  type: HFENCE_TYPE.VVMA_ASID,
  asid: n,
  start: 0xffffffc000000000n + BigInt(n) * 4096n,
  size: 4096n,
});

test("returns what was queued, in order, and only to its own hart", () => {
  const buffer = new SharedArrayBuffer(hartBase(2));
  const [mine, other] = [new HfenceQueue(buffer, 0), new HfenceQueue(buffer, 1)];
  expect(mine.push(fence(1)) && new HfenceQueue(buffer, 0).push(fence(2))).toBe(true);
  expect(other.drain()).toEqual([]);
  expect(mine.drain()).toEqual([fence(1), fence(2)]);
  expect(mine.drain()).toEqual([]);
});

test("reports that it is full, and has room again after a drain", () => {
  const queue = new HfenceQueue(new SharedArrayBuffer(hartBase(1)), 0);
  for (let i = 0; i < HFENCE_CAPACITY; i++) expect(queue.push(fence(i))).toBe(true);
  expect(queue.push(fence(99))).toBe(false);
  expect(queue.drain().map((f) => f.asid)).toEqual(Array.from({ length: HFENCE_CAPACITY }, (_, i) => i));
  expect(queue.push(fence(100))).toBe(true);
  expect(queue.drain()).toEqual([fence(100)]);
});

test("continues when its counters wrap", () => {
  const buffer = new SharedArrayBuffer(hartBase(1));
  const words = new Int32Array(buffer, hartBase(0));
  words.fill(-3, HFENCE_TAIL >>> 2, (HFENCE_TAIL >>> 2) + 1);
  words[(HFENCE_TAIL >>> 2) - 1] = -3;
  const queue = new HfenceQueue(buffer, 0);
  for (let i = 0; i < HFENCE_CAPACITY; i++) expect(queue.push(fence(i))).toBe(true);
  expect(queue.push(fence(99))).toBe(false);
  expect(queue.drain().map((f) => f.asid)).toEqual(Array.from({ length: HFENCE_CAPACITY }, (_, i) => i));
});

test("its last entry ends before the next item of the control block", () => {
  expect(HFENCE_ENTRIES + HFENCE_CAPACITY * HFENCE_ENTRY_SIZE).toBeLessThanOrEqual(RUN_CONSOLE);
});
