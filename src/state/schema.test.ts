// The schema engine: bytes as QEMU's VMState grammar has them, errors that name the place.
import fc from "fast-check";
import { describe, expect, expectTypeOf, it } from "vitest";
import { ByteReader, ByteWriter } from "../base/bytes.ts";
import { registeredSchemas } from "./definition.ts";
import * as s from "./schema.ts";

function bytesOf<T>(definition: s.StateDefinition<T>, state: T): Uint8Array<ArrayBuffer> {
  const writer = new ByteWriter();
  definition.encode(state, writer);
  return writer.finish();
}
function load<T>(definition: s.StateDefinition<T>, bytes: Uint8Array, version = definition.version): T {
  return definition.decode(new ByteReader(bytes), version);
}
const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
const fromHex = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, "hex"));

const queue = s.defineState("test_queue", { version: 1 }, { size: s.u16, desc: s.u64 });
const toy = s.defineState(
  "toy",
  { version: 2, minimumVersion: 1 },
  {
    sourcePriority: s.u32Array(2),
    count: s.u32.range(0, 4),
    items: s.varBuffer("count", 4),
    offset: s.i32,
    armed: s.bool,
    gap: s.unused(2),
    extra: s.u8.since(2).init(7),
    odd: s.u16.when((state) => state.count % 2 === 1),
    when: s.i64,
    map: s.bitmap(65),
    queue: s.struct(queue),
    queues: s.structArray(queue, 2),
  },
  [
    s.subsection("toy/mac", { version: 1, needed: (state) => state.mac[0] !== 0 }, { mac: s.buffer(6) }, [
      s.subsection("toy/mac/deep", { version: 3, needed: (state) => state.deep !== 0 }, { deep: s.u8 }),
    ]),
  ],
);
type Toy = s.StateOf<typeof toy>;

function sample(): Toy {
  const state = toy.create();
  state.sourcePriority.set([1, 0xfffffffe]);
  state.count = 3;
  state.items = Uint8Array.of(9, 8, 7);
  state.offset = -2;
  state.armed = true;
  state.odd = 0x1234;
  state.when = -1n;
  state.map.set([1n, 1n]);
  state.queue.size = 256;
  (state.queues[1] as { desc: bigint }).desc = 0x8000_0000_0000_0001n;
  return state;
}
const sampleHex =
  "00000001fffffffe" +
  "00000003" +
  "090807" +
  "fffffffe" +
  "01" +
  "0000" +
  "07" +
  "1234" +
  "ffffffffffffffff" +
  "00000000000000010000000000000001" +
  "01000000000000000000" +
  "00000000000000000000" +
  "00008000000000000001";

describe("a state's type and first value", () => {
  it("follow from the schema", () => {
    expectTypeOf<Toy>().toEqualTypeOf<{
      sourcePriority: Uint32Array;
      count: number;
      items: Uint8Array;
      offset: number;
      armed: boolean;
      extra: number;
      odd: number;
      when: bigint;
      map: BigUint64Array;
      queue: { size: number; desc: bigint };
      queues: { size: number; desc: bigint }[];
      mac: Uint8Array;
      deep: number;
    }>();
    const state = toy.create();
    expect(state).toEqual({
      sourcePriority: new Uint32Array(2),
      count: 0,
      items: new Uint8Array(0),
      offset: 0,
      armed: false,
      extra: 7,
      odd: 0,
      when: 0n,
      map: new BigUint64Array(2),
      queue: { size: 0, desc: 0n },
      queues: [
        { size: 0, desc: 0n },
        { size: 0, desc: 0n },
      ],
      mac: new Uint8Array(6),
      deep: 0,
    });
    expect(() => Object.assign(state, { stray: 1 })).toThrow(TypeError);
  });
});

describe("bytes", () => {
  it("are big-endian, field after field", () => {
    expect(hexOf(bytesOf(toy, sample()))).toBe(sampleHex);
    expect(load(toy, fromHex(sampleHex))).toEqual(sample());
  });

  it("end in the subsections that are needed, nested ones inside their parents", () => {
    const state = sample();
    state.mac.set([1, 2, 3, 4, 5, 6]);
    state.deep = 5;
    const bytes = bytesOf(toy, state);
    const name = (text: string): string =>
      `05${hexOf(Uint8Array.of(text.length))}${hexOf(Buffer.from(text))}`;
    expect(hexOf(bytes)).toBe(
      `${sampleHex}${name("toy/mac")}00000001010203040506${name("toy/mac/deep")}0000000305`,
    );
    expect(load(toy, bytes)).toEqual(state);
  });

  it("of an older version lack the younger fields, which keep their initial value", () => {
    const old = sampleHex.replace("010000" + "07" + "1234", "010000" + "1234");
    expect(load(toy, fromHex(old), 1)).toEqual(sample());
  });
});

describe("a stream that is wrong", () => {
  it.each([
    [3, sampleHex, /toy.*: expected version 1 to 2 .*newer Wherry.*found 3/],
    [0, sampleHex, /toy.*: expected version 1 to 2 .*found 0/],
    [2, sampleHex.replace("00000003", "00000005"), /toy\.count at offset 8: expected 0 to 4, found 5/],
    [2, sampleHex.slice(0, 20), /toy\.count at offset 8: expected 4 more bytes, found/],
    [2, sampleHex.replace("fffffffe010000", "fffffffe020000"), /toy\.armed at offset 19: expected bool/],
    [
      2,
      `${sampleHex.slice(0, 60)}${"80".repeat(22)}${sampleHex.slice(104)}`,
      /toy\.map at offset \d+: expected 65 bits/,
    ],
    [
      2,
      `${sampleHex}0507${hexOf(Buffer.from("toy/new"))}00000001`,
      /expected one of toy\/mac, found unknown subsection "toy\/new"/,
    ],
    [2, `${sampleHex}0507${hexOf(Buffer.from("foo/new"))}00000001`, /unknown subsection "foo\/new"/],
    [
      2,
      `${sampleHex}0507${hexOf(Buffer.from("toy/mac"))}00000002`,
      /toy\/mac at offset \d+: expected version 1 to 1/,
    ],
  ])("is refused with the place (%#)", (version, hex, message) => {
    expect(() => load(toy, fromHex(hex), version)).toThrow(message);
    expect(() => load(toy, fromHex(hex), version)).toThrow(s.StateError);
  });

  it("cut at any byte is refused as a StateError", () => {
    const bytes = fromHex(sampleHex);
    for (let n = 0; n < bytes.length; n++)
      expect(() => load(toy, bytes.subarray(0, n))).toThrow(s.StateError);
  });

  it("does not make room for more than its bytes", () => {
    const big = s.defineState("big", { version: 1 }, { n: s.u32, words: s.varU64Array("n", 0xffffffff) });
    expect(() => load(big, fromHex("ffffffff00"))).toThrow(
      /big\.words at offset 4: expected 34359738360 more bytes/,
    );
    const structs = s.defineState(
      "many",
      { version: 1 },
      { n: s.u32, q: s.varStructArray(queue, "n", 0xffffffff) },
    );
    expect(() => load(structs, fromHex("ffffffff00010000000000000001"))).toThrow(/many\.q\[1\]\.size/);
  });
});
