// The code cache's requests: a ring whose counters wrap, as they do after days of running.
import { expect, test } from "vitest";
import { CodeCache } from "./code-cache.ts";
import { CODE_CACHE } from "./memory-map.ts";

const HEAD = CODE_CACHE + 0x0c;
const TAIL = CODE_CACHE + 0x10;

test.each([0, 1023, 0x7ffffffd, -3])("the newest requests are taken first, from counter %i on", (start) => {
  const buffer = new SharedArrayBuffer(CODE_CACHE + 0x10000);
  const view = new DataView(buffer);
  view.setInt32(HEAD, start, true);
  view.setInt32(TAIL, start, true);
  const cache = new CodeCache(buffer);
  expect(cache.waitForRequest(0)).toBe(false);
  const addresses = Array.from({ length: 6 }, (_, i) => 0x80000000 + i * 2);
  for (const address of addresses) cache.request(address);
  expect(cache.waitForRequest(0)).toBe(true);
  expect([cache.takeRequests(4), cache.takeRequests(4)]).toEqual([addresses.slice(2), addresses.slice(0, 2)]);
  expect(cache.waitForRequest(0)).toBe(false);
});

test("a full ring drops the oldest requests, not its position", () => {
  const buffer = new SharedArrayBuffer(CODE_CACHE + 0x10000);
  const cache = new CodeCache(buffer);
  for (let i = 0; i < 1500; i++) cache.request(i * 2);
  const taken = cache.takeRequests(5000);
  expect([taken.length, taken[0], taken.at(-1)]).toEqual([1024, 2 * (1500 - 1024), 2 * 1499]);
  cache.request(42);
  expect(cache.takeRequests(10)).toEqual([42]);
});
