import { expect, test } from "vitest";
import { SelfModifyingPages } from "./self-modifying-pages.ts";

const PAGE = 0x8000;

test("a page that changes repeatedly is held back longer and longer, up to a quarter of a second", () => {
  const pages = new SelfModifyingPages();
  const isBackedOff: number[] = [];
  for (let change = 0, now = 0; change < 20; change++, now += 1000) {
    pages.changed(PAGE, now);
    let rest = 0;
    while (pages.isBackedOff(PAGE, now + rest)) rest++;
    isBackedOff.push(rest);
  }
  expect(isBackedOff.slice(0, 14)).toEqual([0, 0, 0, 0, 2, 4, 8, 16, 32, 64, 128, 256, 256, 256]);
  expect(pages.isBackedOff(PAGE + 0x1000, 19_000)).toBe(false);
});

test("a page that has been quiet for a while is not held back at first", () => {
  const pages = new SelfModifyingPages();
  for (let now = 0; now < 20; now++) pages.changed(PAGE, now);
  expect(pages.isBackedOff(PAGE, 19)).toBe(true);
  pages.changed(PAGE, 10_019);
  expect(pages.isBackedOff(PAGE, 10_019)).toBe(false);
});

test("tracks any number of pages", () => {
  const pages = new SelfModifyingPages();
  for (let i = 0; i < 20_000; i++) for (let n = 0; n < 6; n++) pages.changed(0x1000 * i, i / 1000);
  expect(pages.isBackedOff(0x1000 * 19_999, 20)).toBe(true);
});
