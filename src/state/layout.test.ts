// Offsets of a flat image, and copies between states and shared memory.
import { describe, expect, it } from "vitest";
import { layoutOf, MemoryImage } from "./layout.ts";
import * as s from "./schema.ts";

const hart = s.defineState(
  "layout_hart",
  { version: 1 },
  {
    pc: s.u64,
    mode: s.u8,
    x: s.u64Array(32),
    fcsr: s.u16,
    half: s.u32Array(3),
    virt: s.bool,
    delta: s.i64,
    small: s.i8,
    raw: s.buffer(3),
  },
);

describe("layoutOf", () => {
  const layout = layoutOf(hart, { base: 0x400 });

  it("aligns each field to its width, in the schema's order", () => {
    expect(layout.fields.map((f) => [f.key, f.offset - 0x400])).toEqual([
      ["pc", 0],
      ["mode", 8],
      ["x", 16],
      ["fcsr", 272],
      ["half", 276],
      ["virt", 288],
      ["delta", 296],
      ["small", 304],
      ["raw", 305],
    ]);
    expect(layout.size).toBe(312);
    expect(layout.offsetOf("x", 31)).toBe(0x400 + 16 + 31 * 8);
    expect(() => layout.offsetOf("x", 32)).toThrow(/layout_hart\.x: expected an index below 32/);
  });

  it("refuses a field without a fixed size", () => {
    const loose = s.defineState("loose", { version: 1 }, { n: s.u8, data: s.varBuffer("n", 4) });
    expect(() => layoutOf(loose)).toThrow(/loose\.data: expected a field of fixed size, found buffer/);
  });

  it("copies a state into shared memory and back", () => {
    const buffer = new SharedArrayBuffer(0x2000);
    const image = new MemoryImage(hart, layout, buffer, 0x1000);
    const state = hart.create();
    Object.assign(state, {
      pc: 0xffff_ffff_8000_0000n,
      mode: 3,
      fcsr: 0xabcd,
      virt: true,
      delta: -5n,
      small: -1,
    });
    state.x[31] = 42n;
    state.half.set([1, 2, 0xffffffff]);
    state.raw.set([1, 2, 3]);
    image.write(state);
    expect(new DataView(buffer).getBigUint64(0x1400 + 16 + 31 * 8, true)).toBe(42n);
    const back = hart.create();
    image.read(back);
    expect(back).toEqual(state);

    expect(image.get("delta")).toBe(0xffff_ffff_ffff_fffbn);
    image.set("x", -1n, 5);
    expect(image.get("x", 5)).toBe(0xffff_ffff_ffff_ffffn);
    image.set("mode", 0x1ffn);
    expect(image.get("mode")).toBe(0xffn);
  });

  it("writes nothing if the state is not valid", () => {
    const buffer = new SharedArrayBuffer(0x2000);
    const image = new MemoryImage(hart, layout, buffer, 0);
    const state = hart.create();
    state.pc = 1n;
    state.mode = 256;
    expect(() => image.write(state)).toThrow(
      /layout_hart\.mode: expected an integer of type uint8, found 256/,
    );
    expect(image.get("pc")).toBe(0n);
  });
});
