// Which accesses of a loop are streams, and which of them share one. Labels name accesses; an access without
// a label is named by its offset, so that superfluous streams are detected too.
import { expect, test } from "vitest";
import { CODE_PAGE, codePage } from "../../../test/support/code-page.ts";
import { findRegion } from "./region.ts";
import { findStreams } from "./tlb-streams.ts";

/** The accesses that are in streams: those of one stream together, in order of the code. */
function streamsOf(text: string): string[] {
  const { view, labelAt } = codePage(text);
  const streams = [...findStreams(findRegion(view, CODE_PAGE, 0))];
  const numbers = [...new Set(streams.map(([, number]) => number))].sort((a, b) => a - b);
  expect(numbers).toEqual(numbers.map((_, i) => i));
  const accesses = (number: number): number[] =>
    streams.flatMap(([{ offset }, its]) => (its === number ? [offset] : [])).sort((a, b) => a - b);
  return numbers
    .map(accesses)
    .sort(([a = 0], [b = 0]) => a - b)
    .map((offsets) => offsets.map(labelAt).join(" "));
}

/** A loop with this body, counted by x31. */
const loop = (body: string, before = ""): string => `
  ${before}
head:
  ${body}
  addi x31, x31, -1
  bnez x31, head
  ret
`;

test("fixed registers, and those that move by constants, have streams; loads and stores have separate ones", () => {
  const body = `
    a: ld t0, 0(sp)
    b: ld t1, 8(a0)
    c: sd t1, 8(a0)
    d: lbu t2, 9(a0)
    e: fld f1, 0(a1)
    f: fsw f1, 0(a1)
    g: lw t3, 16(zero)
    addi a0, a0, 24
    addi a1, a1, -8
    h: sb t2, -8(a0)
    i: lhu t0, 30(a0)
  `;
  expect(streamsOf(loop(body))).toEqual(["a", "b d i", "c", "e", "f", "g", "h"]);
});

test("without a loop there is no stream", () => {
  expect(streamsOf("ld t0, 0(sp)\n sd t0, 0(a0)\n addi a0, a0, 8\n ret")).toEqual([]);
  // No stream before and after a loop either.
  expect(streamsOf("ld t0, 0(sp)\nhead: addi x31, x31, -1\nbnez x31, head\nld t0, 0(sp)\nret")).toEqual([]);
});

test("c.addi moves a register like addi", () => {
  expect(streamsOf(loop("a: ld t0, 0(a0)\n c.addi a0, 8"))).toEqual(["a"]);
  expect(streamsOf(loop("a: ld a5, 8(sp)\n .half 0x7179 # c.addi16sp sp, -48"))).toEqual(["a"]);
});

test.each([
  ["chased", "ld a0, 0(a0)"],
  ["chased by way of another", "ld t0, 8(a0)\n mv a0, t0"],
  ["moved by a register", "ld t0, 0(a0)\n add a0, a0, a1"],
  ["computed", "ld t0, 0(a0)\n sub a0, a2, a1"],
  ["taken from another", "ld t0, 0(a0)\n addi a0, a1, 8"],
  ["a constant", "ld t0, 0(a0)\n li a0, 64"],
  ["moved by words", "ld t0, 0(a0)\n addiw a0, a0, 8"],
  ["moved and set", "beqz t0, 1f\n mv a0, a1\n 1: addi a0, a0, 8\n ld t0, 0(a0)"],
  ["masked", "ld t0, 0(a0)\n and a0, a0, a1"],
  ["an atomic's", "amoadd.d t0, t1, (a0)\n lr.d t0, (a0)\n sc.d t0, t1, (a0)"],
  ["exchanged", "amoswap.d a0, t1, (a1)\n ld t0, 0(a0)"],
  ["read from a CSR", "csrr a0, sscratch\n ld t0, 0(a0)"],
])("an address that is %s is no stream", (_, body) => {
  expect(streamsOf(loop(body))).toEqual([]);
});

test("other accesses of a pointer chase may be streams", () => {
  const body = `
    ld t0, 8(a0)
    a: sd t0, 0(a1)
    ld a0, 0(a0)
    addi a1, a1, 8
  `;
  expect(streamsOf(loop(body))).toEqual(["a"]);
});

test("offsets within a quarter of a page are one stream, others are not", () => {
  const body = `
    a: ld t0, 0(a0)
    b: ld t0, 1016(a0)
    c: ld t0, 1024(a0)
    d: ld t0, 2040(a0)
    e: ld t0, -8(a0)
    f: ld t0, -1024(a0)
    g: ld t0, -1032(a0)
    h: sd t0, 8(a0)
  `;
  expect(streamsOf(loop(body))).toEqual(["a b", "c d", "e f", "g", "h"]);
});

test.each([
  ["a byte", "lbu t0, 0(s1)\n add t0, t0, a2\n a: lbu t1, 0(t0)", ["6", "a"]],
  ["a byte, words", "lbu t0, 0(s1)\n slli t0, t0, 2\n add t0, a2, t0\n a: lw t1, 0(t0)", ["6", "a"]],
  ["a byte, doubles", "lbu t0, 0(s1)\n slli t0, t0, 3\n add t0, a2, t0\n ld t1, 0(t0)", ["6"]],
  ["sh2add of a byte", "lbu t0, 0(s1)\n sh2add t0, t0, a2\n a: lw t1, 0(t0)", ["6", "a"]],
  ["sh3add of a byte", "lbu t0, 0(s1)\n sh3add t0, t0, a2\n ld t1, 0(t0)", ["6"]],
  ["a mask of 10 bits", "andi t0, s2, 1023\n add t0, t0, a2\n a: lbu t1, 0(t0)", ["a"]],
  ["a mask of 11 bits", "andi t0, s2, 2047\n add t0, t0, a2\n lbu t1, 0(t0)", []],
  ["a mask of more", "andi t0, s2, -8\n add t0, t0, a2\n lbu t1, 0(t0)", []],
  ["a byte, masked", "lbu t0, 0(s1)\n andi t0, t0, -8\n add t0, t0, a2\n a: ld t1, 0(t0)", ["6", "a"]],
  ["the top 10 bits", "srli t0, s2, 54\n add t0, t0, a2\n a: lbu t1, 0(t0)", ["a"]],
  ["the top 11 bits", "srli t0, s2, 53\n add t0, t0, a2\n lbu t1, 0(t0)", []],
  ["a word's top 10 bits", "srliw t0, s2, 22\n add t0, t0, a2\n a: lbu t1, 0(t0)", ["a"]],
  ["a word's top 11 bits", "srliw t0, s2, 21\n add t0, t0, a2\n lbu t1, 0(t0)", []],
  ["a word", "srliw t0, s2, 0\n add t0, t0, a2\n lbu t1, 0(t0)", []],
  ["a sign-extended byte", "lb t0, 0(s1)\n add t0, t0, a2\n lbu t1, 0(t0)", ["6"]],
  ["a byte, overwritten", "lbu t0, 0(s1)\n add t0, t0, s1\n add t0, t0, a2\n lbu t1, 0(t0)", ["6"]],
  ["a byte of another block", "lbu t0, 0(s1)\n bltz s3, 1f\n 1: add t0, t0, a2\n lbu t1, 0(t0)", ["6"]],
])("a table indexed by %s", (_, body, expected) => {
  // Four bytes and two precede the body, so an index's own load is at 6 if it is the first.
  expect(streamsOf(loop(`c.addi s1, 1\n ${body}`, "mv a2, a1"))).toEqual(expected);
});

test("a table whose base moves is not a table", () => {
  expect(streamsOf(loop("andi t0, s2, 255\n add t0, t0, a2\n lbu t1, 0(t0)\n addi a2, a2, 1"))).toEqual([]);
});

test("accesses of one table are one stream", () => {
  const body = `
    andi t0, s2, 127
    add t0, t0, a2
    a: lbu t1, 0(t0)
    srli t2, s2, 57
    add t2, a2, t2
    b: lbu t3, 0(t2)
    c: lbu t4, 1(a2)
    add t5, t2, a2
    lbu t6, 0(t5)
  `;
  expect(streamsOf(loop(body))).toEqual(["a b", "c"]);
});

test("a fixed address plus a steady one is a stream, two that move are not", () => {
  expect(streamsOf(loop("add t0, a1, a2\n a: ld t1, 0(t0)\n addi a2, a2, 8"))).toEqual(["a"]);
  expect(streamsOf(loop("add t0, a2, a1\n a: ld t1, 0(t0)\n addi a2, a2, 8"))).toEqual(["a"]);
  expect(streamsOf(loop("add t0, a1, a2\n a: ld t0, 0(t0)\n ld t1, 0(t0)"))).toEqual(["a"]);
  expect(streamsOf(loop("add t0, a1, a2\n ld t1, 0(t0)\n addi a2, a2, 8\n addi a1, a1, 8"))).toEqual([]);
  expect(streamsOf(loop("sh3add t0, a2, a1\n ld t1, 0(t0)\n addi a2, a2, 1"))).toEqual([]);
});

test("the blocks of a loop share its streams", () => {
  const body = `
    a: ld t0, 0(a0)
    beqz t0, 1f
    b: ld t1, 8(a0)
    1: c: ld t1, 16(a0)
    addi a0, a0, 24
  `;
  expect(streamsOf(loop(body))).toEqual(["a b c"]);
});

// Slices end at loop heads, so an inner head is entered from outside, and the head of the outer loop does not
// dominate the code after it.
test("among nested loops, the inner one has streams", () => {
  const text = `
  outer:
    mv a0, a1
    ld t0, 0(a1)
    ld t1, 0(a0)
  inner:
    a: ld t2, 0(a0)
    b: ld t3, 0(a1)
    addi a0, a0, 8
    bne a0, a2, inner
    sd t2, 0(a3)
    ld t1, 8(a0)
    addi a3, a3, 8
    bne a3, a4, outer
    ret
  `;
  expect(streamsOf(text)).toEqual(["a", "b"]);
});

test("consecutive loops have separate streams", () => {
  const text = `
  one:
    a: ld t0, 0(a0)
    addi a0, a0, 8
    bne a0, a1, one
  two:
    b: ld t0, 0(a0)
    addi a0, a0, 8
    bne a0, a2, two
    ret
  `;
  expect(streamsOf(text)).toEqual(["a", "b"]);
});

test("a loop that is entered in its middle has none", () => {
  const text = `
    beqz a2, middle
  head:
    ld t0, 0(a0)
  middle:
    ld t1, 8(a0)
    addi a0, a0, 8
    bne a0, a1, head
    ret
  `;
  expect(streamsOf(text)).toEqual([]);
});

test("there are at most 16 streams; accesses that belong to one of them still join it", () => {
  const offsets = [-2048, -1024, 0, 1024];
  const accesses = [10, 11, 12].flatMap((base) =>
    offsets.flatMap((offset) => [`ld t0, ${offset}(x${base})`, `sd t0, ${offset}(x${base})`]),
  );
  const labelled = accesses.map((access, i) => `s${i}: ${access}`).join("\n");
  const streams = streamsOf(loop(`${labelled}\n again: ld t0, 1032(x10)\n more: ld t0, 1032(x12)`));
  expect(streams).toEqual(
    Array.from({ length: 16 }, (_, i) => (accesses[i] === "ld t0, 1024(x10)" ? `s${i} again` : `s${i}`)),
  );
});
