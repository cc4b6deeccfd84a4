// Runs of fields written as text, arrays that end in equal elements, subsections.
import { expect, it } from "vitest";
import { ByteWriter } from "../../base/bytes.ts";
import { FieldReader } from "./fields.ts";
import {
  findSubsection,
  layoutSize,
  readElements,
  readLayout,
  readPrefix,
  readSubsections,
} from "./field-layout.ts";

const reader = (out: ByteWriter): FieldReader => new FieldReader(out.finish(), 0);

it("reads integers of either order, bytes, booleans and arrays", () => {
  const layout = "a:2 b:b3 c:? d[2]:4";
  expect(layoutSize(layout)).toBe(14);
  const from = reader(new ByteWriter().u16(0x0102).bytes(new Uint8Array(3)).u8(1).u32(5).u32(6));
  expect(readLayout(from, layout)).toEqual({ a: 0x102, c: 1, "d[0]": 5, "d[1]": 6 });
  expect(readLayout(reader(new ByteWriter().u16(0x0102)), "a:2", "little")).toEqual({ a: 0x201 });
});

it("a prefix ends where its bytes do; what the layout lacks is the tail", () => {
  const short = reader(new ByteWriter().u32(1).u16(9));
  readPrefix(short, "a:4 b:4", 6, "big");
  expect(short.fields.map(({ name, size }) => [name, size])).toEqual([
    ["a", 4],
    ["tail", 2],
  ]);
});

it("equal elements at the end are one field, except for the first ones requested", () => {
  const out = new ByteWriter();
  for (const value of [7, 1, 1, 1, 1]) out.u16(value);
  for (const [least, names] of [
    [0, ["[0]", "[1..4]"]],
    [3, ["[0]", "[1]", "[2]", "[3..4]"]],
    [9, ["[0]", "[1]", "[2]", "[3]", "[4]"]],
  ] as const) {
    const from = reader(out);
    readElements(from, "v:2", 5, least);
    expect(from.fields.map(({ name }) => name)).toEqual(names);
  }
});

it("subsections of a parent, and not of another", () => {
  const out = new ByteWriter().u8(5).countedString("virtio/a").u32(2).u8(1);
  out.u8(5).countedString("virtio/b").u32(1).u16(3).u8(5).countedString("virtio_mmio/c").u32(1);
  const from = reader(out);
  expect(findSubsection(from, "virtio/b")).toBe(2 + 8 + 4 + 1 + 2 + 8 + 4);
  expect(findSubsection(from, "virtio/c")).toBeUndefined();
  readSubsections(from, "virtio", { "virtio/a": (r) => void r.u8("x"), "virtio/b": (r) => void r.u16("y") });
  expect(from.fields.map(({ name, size }) => [name, size])).toEqual([
    ["virtio/a", 15],
    ["virtio/b", 16],
  ]);
  expect(from.fields[0]?.children?.[0]?.meaning).toBe("version 2");
  expect(from.remaining).toBe(2 + 13 + 4);
});
