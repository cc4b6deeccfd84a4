// The schema engine: encoding in QEMU's VMState grammar, and errors that name the place.
import { describe, expect, expectTypeOf, it } from "vitest";
import { ByteReader, ByteWriter } from "../base/bytes.ts";
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
  it("are determined by the schema", () => {
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

  it("end with the subsections that are needed, nested ones inside their parents", () => {
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

  it("of an older version lack the newer fields, which keep their initial value", () => {
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
  ])("is refused with its place (%#)", (version, hex, message) => {
    expect(() => load(toy, fromHex(hex), version)).toThrow(message);
    expect(() => load(toy, fromHex(hex), version)).toThrow(s.StateError);
  });

  it("cut at any byte is refused with a StateError", () => {
    const bytes = fromHex(sampleHex);
    for (let n = 0; n < bytes.length; n++)
      expect(() => load(toy, bytes.subarray(0, n))).toThrow(s.StateError);
  });

  it("does not allocate more than its bytes", () => {
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

describe("the description", () => {
  it("groups arrays as QEMU's VMDESCRIPTION does", () => {
    const state = sample();
    state.mac[0] = 1;
    const queueFields = [
      { name: "size", type: "uint16", size: 2 },
      { name: "desc", type: "uint64", size: 8 },
    ];
    const struct = { vmsd_name: "test_queue", version: 1, fields: queueFields };
    expect(toy.describe(state)).toEqual({
      vmsd_name: "toy",
      version: 2,
      fields: [
        { name: "source_priority", array_len: 2, type: "uint32", size: 4 },
        { name: "count", type: "uint32", size: 4 },
        { name: "items", type: "buffer", size: 3 },
        { name: "offset", type: "int32", size: 4 },
        { name: "armed", type: "bool", size: 1 },
        { name: "unused", type: "unused_buffer", size: 2 },
        { name: "extra", type: "uint8", size: 1 },
        { name: "odd", type: "uint16", size: 2 },
        { name: "when", type: "int64", size: 8 },
        { name: "map", type: "bitmap", size: 16 },
        { name: "queue", type: "struct", struct, size: 10 },
        { name: "queues", array_len: 2, type: "struct", struct, size: 10 },
      ],
      subsections: [{ vmsd_name: "toy/mac", version: 1, fields: [{ name: "mac", type: "buffer", size: 6 }] }],
    });
  });

  it("lists elements one by one where they may differ, and omits absent fields", () => {
    const item = s.defineState(
      "item",
      { version: 1 },
      { n: s.u8, data: s.varBuffer("n", 9), odd: s.u8.when((i) => i.n === 1) },
    );
    const list = s.defineState(
      "list",
      { version: 1 },
      {
        items: s.structArray(item, 2),
        none: s.u8Array(0),
        one: s.u8Array(1),
        two: s.u8Array(2).when(() => true),
      },
    );
    const state = list.create();
    Object.assign(state.items[0] as object, { n: 1, data: Uint8Array.of(5) });
    const { fields } = list.describe(state);
    expect(fields.map(({ name, index, size }) => [name, index, size])).toEqual([
      ["items", 0, 3],
      ["items", 1, 1],
      ["one", undefined, 1],
      ["two", 0, 1],
      ["two", 1, 1],
    ]);
  });

  it("numbers fields with equal names, and uses QEMU's names and types", () => {
    const twin = s.defineState(
      "twin",
      { version: 1 },
      {
        a: s.u32.named("regs"),
        b: s.u32.named("regs"),
        gapOne: s.unused(1),
        gapTwo: s.unused(2),
        nirq: s.i32.typed("int32 equal"),
      },
    );
    expect(twin.describe(twin.create()).fields.map((f) => `${f.name}:${f.type}`)).toEqual([
      "regs[0]:uint32",
      "regs[1]:uint32",
      "unused[0]:unused_buffer",
      "unused[1]:unused_buffer",
      "nirq:int32 equal",
    ]);
  });
});

describe("checks and hooks", () => {
  const pair = s.defineState(
    "pair",
    {
      version: 1,
      preSave: (state) => {
        state.sum = state.low + state.high;
      },
      postLoad: (state, version) => {
        state.sum += version;
      },
    },
    {
      low: s.u8.check((v, state) => (v <= state.high ? undefined : `at most high (${state.high})`)),
      high: s.u8,
      sum: s.u16,
    },
  );

  it("see the whole state; preSave runs first, postLoad last", () => {
    const state = pair.create();
    state.low = 2;
    state.high = 3;
    const bytes = bytesOf(pair, state);
    expect(hexOf(bytes)).toBe("02030005");
    expect(load(pair, bytes)).toEqual({ low: 2, high: 3, sum: 6 });
    expect(() => load(pair, fromHex("04030007"))).toThrow(
      "pair.low at offset 0: expected at most high (3), found 4",
    );
  });

  it("refuse to write a state that could not be loaded", () => {
    const state = sample();
    state.items = new Uint8Array(2);
    expect(() => bytesOf(toy, state)).toThrow("toy.items: expected 3 elements, found 2");
    const wrong = sample();
    wrong.offset = 0.5;
    expect(() => bytesOf(toy, wrong)).toThrow("toy.offset: expected an integer of type int32, found 0.5");
    const element = sample();
    (element.queues[1] as { size: number }).size = 65536;
    expect(() => toy.validate(element, { path: "toy@1" })).toThrow("toy@1.queues[1].size: expected");
  });

  it("apply bounds to each element of an array", () => {
    const levels = s.defineState("levels", { version: 1 }, { level: s.u8Array(3).range(0, 7) });
    expect(() => load(levels, fromHex("000708"))).toThrow(
      "levels.level[2] at offset 2: expected 0 to 7, found 8",
    );
  });
});

describe("a known field", () => {
  const sized = s.defineState(
    "sized",
    { version: 1 },
    { harts: s.u32.known(), compare: s.varU64Array("harts", 8) },
  );

  it("is not on the wire; a load takes it from the existing state", () => {
    const known = sized.create();
    known.harts = 2;
    known.compare = BigUint64Array.of(1n, 2n);
    const bytes = bytesOf(sized, known);
    expect(hexOf(bytes)).toBe("00000000000000010000000000000002");
    expect(sized.decode(new ByteReader(bytes), 1, { known })).toEqual(known);
    expect(sized.describe(known).fields).toEqual([
      { name: "compare", array_len: 2, type: "uint64", size: 8 },
    ]);
    expect(sized.schema().fields).toEqual([
      { name: "compare", type: "uint64", size: 8, count: "harts <= 8" },
    ]);
  });
});

describe("a bitmap of varying length", () => {
  const marks = s.defineState("marks", { version: 1 }, { bits: s.u32, map: s.varBitmap("bits", 100) });

  it("uses as many words as its bits need", () => {
    const state = marks.create();
    state.bits = 65;
    state.map = BigUint64Array.of(5n, 1n);
    const bytes = bytesOf(marks, state);
    expect(hexOf(bytes)).toBe("0000004100000000000000050000000000000001");
    expect(load(marks, bytes)).toEqual(state);
    expect(() => load(marks, fromHex("00000065"))).toThrow(
      "marks.map at offset 4: expected 0 to 100 elements (bits), found 101",
    );
  });
});

describe("assign", () => {
  it("copies into the same arrays and structs", () => {
    const target = toy.create();
    const { sourcePriority, queues } = target;
    const source = sample();
    toy.assign(target, source);
    expect(target).toEqual(source);
    expect(target.sourcePriority).toBe(sourcePriority);
    expect(target.queues).toBe(queues);
    source.items[0] = 77;
    expect(target.items[0]).toBe(9);
  });
});

describe("a definition that contradicts itself", () => {
  it("is refused when it is made", () => {
    const options = { version: 1, needed: () => true };
    expect(() => s.defineState("d", { version: 1 }, { data: s.varBuffer("n", 4), n: s.u8 })).toThrow(
      "d.data: expected n before it",
    );
    expect(() => s.defineState("d", { version: 1 }, {}, [s.subsection("other/x", options, {})])).toThrow(
      /starts with d,/,
    );
    expect(() =>
      s.defineState("d", { version: 1 }, { a: s.u8 }, [s.subsection("d/x", options, { a: s.u8 })]),
    ).toThrow("a twice");
  });
});
