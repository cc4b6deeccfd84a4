// Walking bytes along a description: every kind of container and scalar, described as QEMU describes it.
import { expect, test } from "vitest";
import { ByteWriter } from "../../base/bytes.ts";
import { encodeUtf8 } from "../../base/text.ts";
import { accountingErrors } from "../../../test/support/accounting.ts";
import { parseDescription } from "../model/description.ts";
import type { Field } from "../model/stream-report.ts";
import { MAX_FIELDS, walkSection } from "./walk-section.ts";

const BASE = 1000;
const CONTEXT = { idstr: "thing", instanceId: 0, version: 1, machine: "m" };

/** `fields` is the JSON text of a section's fields. */
function walk(fields: string, write: (out: ByteWriter) => void, rest = "", fieldsLeft = MAX_FIELDS) {
  const json = `{"devices":[{"name":"thing","instance_id":0,"vmsd_name":"thing","version":1,"fields":[${fields}]${rest}}]}`;
  const out = new ByteWriter();
  write(out);
  const device = parseDescription(encodeUtf8(json)).devices[0]!;
  const walked = walkSection(out.finish(), BASE, device, CONTEXT, { left: fieldsLeft });
  expect(accountingErrors(walked.fields, BASE, out.length)).toEqual([]);
  return walked;
}

/** Lists all leaves as `name=value`, containers as `name{…}`. */
function show(fields: readonly Field[]): string {
  return fields
    .map(({ name, value, children, type }) => {
      if (children !== undefined) return `${name}{${show(children)}}`;
      if (value instanceof Uint8Array) return `${name}=${type}:${Buffer.from(value).toString("hex")}`;
      return `${name}=${String(value)}`;
    })
    .join(" ");
}

test("scalars by their types", () => {
  const { fields, warnings } = walk(
    `{"name":"a","type":"int8","size":1},{"name":"b","type":"int32 le","size":4},{"name":"c","type":"uint64 equal","size":8},
     {"name":"d","type":"timer","size":8},{"name":"e","type":"bool","size":1},{"name":"f","type":"CPU_Double_U","size":8},
     {"name":"g","type":"unused_buffer","size":2},{"name":"h","type":"bitmap","size":8},{"name":"i","type":"odd one","size":3}`,
    (out) =>
      out
        .u8(0x80)
        .u32(0xffff_fffe)
        .u64(5n)
        .u64(2n ** 64n - 1n)
        .u8(1)
        .u64(0x3ff0_0000_0000_0000n)
        .u16(0)
        .u64(3n)
        .u8(1)
        .u16(2),
  );
  expect(warnings).toEqual([]);
  expect(show(fields)).toBe(
    `a=-128 b=-2 c=5 d=${2n ** 64n - 1n} e=true f=4607182418800017408 g=unused_buffer:0000 h=bitmap:0000000000000003 i=odd one:010002`,
  );
});

test("arrays: of equal elements, of single elements, and of runs (newer releases)", () => {
  const { fields } = walk(
    `{"name":"a","array_len":2,"type":"uint8","size":1},
     {"name":"b","index":0,"type":"uint8","size":1},{"name":"b","index":1,"type":"uint16","size":2},
     {"name":"c","type":"struct","struct":{"vmsd_name":"c","version":1,"fields":[{"name":"x","type":"uint8","size":1}]},"size":1},
     {"name":"c","array_len":2,"type":"nullptr","size":1},
     {"name":"d","type":"ptr-marker","size":1},
     {"name":"d","type":"struct","struct":{"vmsd_name":"d","version":1,"fields":[{"name":"x","type":"uint8","size":1}]},"size":1},
     {"name":"d","type":"ptr-marker","size":1},
     {"name":"e[0]","type":"uint8","size":1},{"name":"e[1]","type":"uint8","size":1}`,
    (out) => out.u8(1).u8(2).u8(3).u16(4).u8(5).u8(0x30).u8(0x30).u8(0x31).u8(6).u8(0x30).u8(7).u8(8),
  );
  expect(show(fields)).toBe(
    "a{[0]=1 [1]=2} b{[0]=3 [1]=4} c{[0]{x=5} [1]=48 [2]=48} d{[0].marker=49 [0]{x=6} [1]=48} e[0]=7 e[1]=8",
  );
});

test("structs within structs, arrays of them, null pointers as old releases describe them", () => {
  const inner = `{"vmsd_name":"in","version":1,"fields":[{"name":"x","array_len":2,"type":"uint8","size":1}]}`;
  const { fields } = walk(
    `{"name":"a","array_len":2,"type":"struct","struct":{"vmsd_name":"o","version":1,"fields":[{"name":"in","type":"struct","struct":${inner},"size":2},{"name":"y","type":"uint8","size":1}]},"size":3},
     {"name":"p","index":0,"type":"struct","struct":{},"size":1},{"name":"p","index":1,"type":"struct","struct":${inner},"size":2},
     {"name":"v","type":"vstruct","vmsd_name":"v","version":3,"fields":[{"name":"z","type":"uint16","size":2}],"size":2}`,
    (out) => out.u8(1).u8(2).u8(3).u8(4).u8(5).u8(6).u8(0x30).u8(7).u8(8).u16(9),
  );
  expect(show(fields)).toBe(
    "a{[0]{in{x{[0]=1 [1]=2}} y=3} [1]{in{x{[0]=4 [1]=5}} y=6}} p{[0]=48 [1]{x{[0]=7 [1]=8}}} v{z=9}",
  );
});

test("non-null pointers in an array that old releases describe by its first, null pointer: the following fields are right", () => {
  const { fields, unaccounted, warnings } = walk(
    '{"name":"css","array_len":4,"type":"struct","struct":{},"size":1},{"name":"last","type":"uint8","size":1}',
    (out) => out.u8(0x30).u8(0x30).u32(0x01320100).u8(0x30).u8(0xfe),
  );
  expect(show(fields)).toBe("css{[0]=48 [1]=48 rest=unknown:0132010030} last=254");
  expect(unaccounted).toBe(5);
  expect(warnings).toMatchObject([{ code: "stream.size", offset: BASE + 2 }]);
});

test("lists and trees, whose elements repeat keys in one object", () => {
  const element = (size: number) =>
    `"vmsd_name":"e","version":1,"fields":[{"name":"x","type":"uint${size * 8}","size":${size}}]`;
  const { fields, warnings } = walk(
    `{"name":"q","type":"qtailq",${element(1)},${element(2)},"size":6},{"name":"none","type":"qlist","size":1},
     {"name":"t","type":"gtree",${element(1)},"size":15},{"name":"u","type":"gtree",${element(1)},${element(2)},"size":9}`,
    (out) => {
      out.u8(1).u8(7).u8(1).u16(8).u8(0).u8(0);
      out.u32(1).u8(1).u64(99n).u8(5).u8(0);
      out.u32(1).u8(1).u8(3).u16(4).u8(0);
    },
  );
  expect(warnings).toEqual([]);
  expect(show(fields)).toBe(
    "q{[0].more=1 [0]{x=7} [1].more=1 [1]{x=8} end=0} none=qlist:00 " +
      "t{nodes=1 [0].more=1 [0].key=99 [0]{x=5} end=0} u{nodes=1 [0].more=1 [0].key{x=3} [0]{x=4} end=0}",
  );
});

test("nested subsections", () => {
  const { fields } = walk(
    `{"name":"a","type":"uint8","size":1}`,
    (out) => {
      out.u8(1).u8(5).countedString("thing/s").u32(2).u8(3);
      out.u8(5).countedString("thing/s/t").u32(4).u8(5);
    },
    `,"subsections":[{"vmsd_name":"thing/s","version":2,"fields":[{"name":"b","type":"uint8","size":1}],
      "subsections":[{"vmsd_name":"thing/s/t","version":4,"fields":[{"name":"c","type":"uint8","size":1}]}]}]`,
  );
  const names = fields.map(({ name, type }) => `${name} ${type}`);
  expect(names).toEqual(["a uint8", "thing/s subsection"]);
  const [header, b, t] = fields[1]?.children ?? [];
  expect(header).toMatchObject({ name: "header", meaning: "version 2", size: 13 });
  expect(b).toMatchObject({ name: "b", value: 3n });
  expect(t?.children?.[1]).toMatchObject({ name: "c", value: 5n });
});

test("a disagreement ends the fields of one section: its remaining bytes are shown, and later sections in full", () => {
  const { fields, unaccounted, warnings } = walk(
    `{"name":"a","type":"uint8","size":1},{"name":"s","type":"struct","struct":{"fields":[{"name":"x","type":"uint8","size":1}]},"size":3},{"name":"b","type":"uint8","size":1}`,
    (out) => out.u8(1).u8(2).u8(3).u8(4).u8(5),
  );
  expect(show(fields)).toBe("a=1 s{x=2 rest=unknown:0304} b=5");
  expect(unaccounted).toBe(2);
  expect(warnings.map(({ code, offset }) => [code, offset])).toEqual([["stream.size", BASE + 1]]);
});

test("a struct that takes more than its size ends the section's fields", () => {
  const { fields, unaccounted, warnings } = walk(
    `{"name":"s","type":"struct","struct":{"fields":[{"name":"x","type":"uint16","size":2}]},"size":1},{"name":"b","type":"uint8","size":1}`,
    (out) => out.u16(1).u8(5),
  );
  expect(show(fields)).toBe("s{x=1} rest=unknown:05");
  expect([unaccounted, warnings.map(({ code }) => code)]).toEqual([1, ["stream.size"]]);
});

test("long runs among other elements", () => {
  const { fields } = walk(
    `{"name":"a","array_len":2,"type":"uint8","size":1},{"name":"a","array_len":20000,"type":"uint8","size":1},{"name":"a","type":"uint8","size":1}`,
    (out) => out.u8(1).u8(2).bytes(new Uint8Array(20_000)).u8(3),
  );
  expect(fields[0]?.children?.map(({ name, type }) => `${name} ${type}`)).toEqual([
    "[0] uint8",
    "[1] uint8",
    "[2] uint8[20000]",
    "[20002] uint8",
  ]);
});

test("a large array is one field of bytes, and so is any array after too many fields", () => {
  const large = walk(`{"name":"a","array_len":20000,"type":"uint8","size":1}`, (out) =>
    out.bytes(new Uint8Array(20_000)),
  );
  expect(large.fields).toMatchObject([{ name: "a", type: "uint8[20000]", size: 20_000 }]);
  const few = walk(
    `{"name":"a","type":"uint8","size":1},{"name":"b","type":"uint16","size":2}`,
    (out) => out.u8(1).u16(2),
    "",
    1,
  );
  expect(show(few.fields)).toBe("a=1 b=uint16:0002");
});

test("after the limit of fields, each array is one field", () => {
  const array = (name: string) => `{"name":"${name}","type":"uint8","size":1,"array_len":1000}`;
  const { fields } = walk(
    ["a", "b", "b", "c"].map(array).join(),
    (out) => out.bytes(new Uint8Array(4000)),
    "",
    10,
  );
  const count = (list: readonly Field[]): number =>
    list.reduce((sum, { children = [] }) => sum + 1 + count(children), 0);
  expect(fields.map(({ name, size }) => `${name} ${size}`)).toEqual(["a 1000", "b 2000", "c 1000"]);
  expect(fields.slice(1).map(({ children }) => children?.map(({ size }) => size))).toEqual([
    [1000, 1000],
    [1000],
  ]);
  // The array that reaches the limit is decoded to its end.
  expect(count(fields)).toBe(1 + 1000 + (1 + 2) + (1 + 1));
});
