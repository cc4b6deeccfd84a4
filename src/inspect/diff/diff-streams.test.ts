// Differences of generated streams: fields by path, arrays, subsections, sections and blocks of one side, RAM
// by page.
import { describe, expect, test } from "vitest";
import type { ByteWriter } from "../../base/bytes.ts";
import {
  page,
  PAGE,
  pageOf,
  smallStream,
  StreamBuilder,
  zeroPage,
} from "../../../test/support/stream-builder.ts";
import { virtioStream } from "../../../test/support/virtio-stream.ts";
import { diffStreams, type StreamDifferences } from "./diff-streams.ts";
import { readWithRam } from "./diff-ram.ts";
import { bytesSource } from "../read/byte-source.ts";
import { readStream } from "../read/read-stream.ts";
import { seed } from "../../../test/support/seed.ts";

const diff = async (a: Uint8Array, b: Uint8Array, ignore: readonly string[] = []) =>
  diffStreams(await readWithRam(bytesSource(a)), await readWithRam(bytesSource(b)), { ignore });

/** A device with one struct of registers. */
function device(
  values: { pc?: bigint; gpr?: number[]; mode?: number; extra?: boolean; version?: number } = {},
) {
  const { pc = 0x1000n, gpr = [1, 2, 3], mode = 0, extra = false, version = 1 } = values;
  const stream = new StreamBuilder().configuration("virt").ramStart({ ram: PAGE });
  const fields = [
    { name: "env.pc", type: "uint64", size: 8 },
    { name: "env.gpr", type: "uint32", size: 4, array_len: gpr.length },
    { name: "env.fpr", type: "uint8", size: 1 },
    { name: "mode", type: "uint8", size: 1 },
  ];
  const subsections = [{ vmsd_name: "cpu/x", version, fields: [{ name: "on", type: "bool", size: 1 }] }];
  return stream
    .device(2, "cpu", { fields, ...(extra ? { subsections } : {}) }, (out) => {
      out.u64(pc);
      for (const value of gpr) out.u32(value);
      out.u8(0).u8(mode);
      if (extra) out.u8(5).countedString("cpu/x").u32(version).u8(1);
    })
    .end();
}

describe("state", () => {
  test("a stream has no differences from itself", async () => {
    const bytes = smallStream().end();
    expect(await diff(bytes, bytes)).toEqual({ state: [], ram: [] });
  });
  test("fields, with the register's name and the bits", async () => {
    const { state } = await diff(device(), device({ pc: 0x1004n, gpr: [1, 2, 0xfff], mode: 3 }));
    expect(state).toEqual([
      { path: "cpu/0/env.pc", kind: "changed", first: "0x1000", second: "0x1004", meaning: "+bit 2" },
      { path: "cpu/0/env.gpr[2]", kind: "changed", first: "0x3", second: "0xfff", meaning: "sp" },
      { path: "cpu/0/mode", kind: "changed", first: "0x0", second: "0x3", meaning: "+bit 0 +bit 1" },
    ]);
  });
  test("bytes: the first ranges that differ, and how many more there are", async () => {
    const pixels = (value: (i: number) => number) =>
      new StreamBuilder()
        .configuration("virt")
        .ramStart({ ram: PAGE })
        .device(2, "gpu", { fields: [{ name: "pixels", type: "buffer", size: 64 }] }, (out) => {
          for (let i = 0; i < 64; i++) out.u8(value(i));
        })
        .end();
    const ranges = async (value: (i: number) => number) =>
      (
        await diff(
          pixels(() => 0),
          pixels(value),
        )
      ).state[0]?.meaning;
    expect(await ranges((i) => (i >= 3 && i < 9 ? 1 : 0))).toBe("bytes 0x3..0x9");
    expect(await ranges((i) => (i % 8 < 2 ? 1 : 0))).toBe(
      "bytes 0x0..0x2, 0x8..0xa, 0x10..0x12, 0x18..0x1a and 4 more",
    );
  });
  test("neighbouring elements of one side are one difference", async () => {
    const { state } = await diff(device(), device({ gpr: [1, 2, 3, 0, 0, 0] }));
    expect(state).toEqual([
      { path: "cpu/0/env.gpr[3..5]", kind: "only in second", second: "0x0 (uint32, 4 bytes)" },
    ]);
  });
  test("a subsection of one side, another version of it", async () => {
    expect((await diff(device({ extra: true }), device())).state).toMatchObject([
      { path: "cpu/0/cpu/x", kind: "only in first" },
    ]);
    expect((await diff(device({ extra: true }), device({ extra: true, version: 2 }))).state).toEqual([
      { path: "cpu/0/cpu/x", kind: "layout", first: "version 1", second: "version 2" },
    ]);
  });
  test("sections, blocks and machine types of one side", async () => {
    const { state } = await diff(smallStream().end(), device());
    expect(state.map(({ path, kind }) => `${path} ${kind}`)).toEqual([
      "configuration/machine changed",
      "timer/0 only in first",
      "serial/1 only in first",
      "cpu/0 only in second",
      "ram/pc.ram only in first",
      "ram/pc.rom only in first",
      "ram/ram only in second",
    ]);
  });
  test("differences name the queue and the feature", async () => {
    const { state } = await diff(
      virtioStream(),
      virtioStream({ lastAvail: 7, features: (1n << 32n) | (1n << 29n) }),
    );
    const found = Object.fromEntries(
      state.map(({ path, meaning }) => [path.slice(path.lastIndexOf("/0/") + 3), meaning]),
    );
    expect(found["virtio.guest_features"]).toBe("+VIRTIO_RING_F_EVENT_IDX");
    expect(Object.keys(found)).toContain("virtio.vq[0].last_avail_idx");
  });
  test("--ignore: a section, a field with its members, a pattern", async () => {
    const a = device();
    const b = device({ pc: 1n, gpr: [9, 9, 9], mode: 1 });
    const paths = async (...ignore: string[]) => (await diff(a, b, ignore)).state.map(({ path }) => path);
    expect(await paths("cpu/0")).toEqual([]);
    expect(await paths("cpu/0/env.gpr", "*.pc")).toEqual(["cpu/0/mode"]);
    expect(await paths("cpu/0/env.g")).toHaveLength(5);
    expect(await paths("cpu/0/env.gpr[1]", "cpu/0/(.*)")).toHaveLength(4);
  });
});

/** The end of Wherry's own streams: hashes of all parts before. */
const own = (byte: number, hash: number) =>
  new StreamBuilder()
    .configuration("virt")
    .ramStart({ ram: PAGE })
    .device(2, "uart", { fields: [{ name: "lcr", type: "uint8", size: 1 }] }, (out) => void out.u8(byte))
    .device(
      3,
      "wherry/integrity",
      { fields: [{ name: "table", type: "buffer", size: 4 }] },
      (out) => void out.u32(hash),
    )
    .end();

test("Wherry's hashes are reported only if everything was compared and nothing else differs", async () => {
  const paths = ({ state }: StreamDifferences) => state.map(({ path }) => path);
  expect(paths(await diff(own(1, 1), own(2, 2)))).toEqual(["uart/0/lcr"]);
  const hashes = paths(await diff(own(1, 1), own(1, 2)));
  expect(hashes).toEqual([expect.stringMatching(/^wherry\/integrity\/0/)]);
  expect(paths(await diff(own(1, 1), own(2, 2), ["uart"]))).toEqual([]);
  const withoutRam = async (bytes: Uint8Array) => ({ report: await readStream(bytesSource(bytes)) });
  expect(paths(diffStreams(await withoutRam(own(1, 1)), await withoutRam(own(1, 2))))).toEqual([]);
  expect(paths(await diff(own(1, 1), device()))).not.toContain("wherry/integrity/0");
});

describe("the same bytes under other names", () => {
  const byte = (name: string) => ({ name, type: "uint8", size: 1 });
  const word = (name: string) => ({ name, type: "uint32", size: 4 });
  const struct = (...fields: { size: number }[]) => ({
    ...{ name: "serial", type: "struct", size: fields.reduce((sum, { size }) => sum + size, 0) },
    struct: { vmsd_name: "serial", version: 3, fields },
  });
  const uart = (fields: object[], bytes: number[], version = 1) => {
    const stream = new StreamBuilder().configuration("virt").ramStart({ ram: PAGE });
    const description = { name: "uart", instance_id: 0, vmsd_name: "uart", version, fields };
    stream.devices.push(description);
    return stream.section(4, 2, "uart", version, (out) => void out.bytes(Uint8Array.from(bytes))).end();
  };
  const pathsOf = async (a: Uint8Array, b: Uint8Array) =>
    (await diff(a, b)).state.map(({ path, kind, first, second }) => [path, kind, first, second].join(" "));

  test("a struct around them, on either side, and an element's name", async () => {
    const wrapped = [struct(byte("lcr"), byte("mcr")), word("offset[1]")];
    const flat = [byte("lcr"), byte("mcr"), word("offset")];
    const bytes = [1, 2, 0, 0, 0, 3];
    expect(await pathsOf(uart(wrapped, bytes), uart(flat, bytes))).toEqual([]);
    const other = [1, 9, 0, 0, 0, 4];
    expect(await pathsOf(uart(wrapped, bytes), uart(flat, other))).toEqual([
      "uart/0/serial.mcr changed 0x2 0x9",
      "uart/0/offset[1] changed 0x3 0x4",
    ]);
    expect(await pathsOf(uart(flat, bytes), uart(wrapped, other))).toEqual([
      "uart/0/mcr changed 0x2 0x9",
      "uart/0/offset changed 0x3 0x4",
    ]);
  });
  test("repeated names", async () => {
    const twice = [struct(byte("x"), word("y"), byte("x"))];
    const flat = [byte("p"), word("y"), byte("q")];
    expect(await pathsOf(uart(twice, [1, 0, 0, 0, 0, 2]), uart(flat, [3, 0, 0, 0, 0, 4]))).toEqual([
      "uart/0/serial.x changed 0x1 0x3",
      "uart/0/serial.x#2 changed 0x2 0x4",
    ]);
  });
  test("not in another version, at another place or of another kind", async () => {
    const only = [
      "uart/0/a only in first 0x1 (uint8, 1 bytes) ",
      "uart/0/b only in second  0x1 (uint8, 1 bytes)",
    ];
    expect((await pathsOf(uart([byte("a")], [1]), uart([byte("b")], [1], 2))).slice(1)).toEqual(only);
    expect(await pathsOf(uart([byte("a"), byte("x")], [1, 5]), uart([byte("x"), byte("b")], [5, 1]))).toEqual(
      only,
    );
    const buffer = { name: "b", type: "buffer", size: 4 };
    expect(await pathsOf(uart([word("a")], [0, 0, 0, 1]), uart([buffer], [0, 0, 0, 1]))).toHaveLength(2);
  });
});

const ram = (write: (out: ByteWriter) => void, before = (stream: StreamBuilder) => stream) =>
  before(new StreamBuilder().configuration("virt"))
    .ramStart({ ram: 64 * PAGE, other: 4 * PAGE })
    .ramPart(write, 3)
    .end();

describe("RAM", () => {
  test("the last content of a page counts; a zero page equals a zero record", async () => {
    const a = ram((out) => {
      page(out, "ram", 0, pageOf(1));
      page(out, "ram", PAGE, pageOf(9));
      page(out, "ram", PAGE, pageOf(2));
      page(out, "ram", 2 * PAGE, new Uint8Array(PAGE));
      zeroPage(out, "ram", 3 * PAGE, 0x55);
    });
    const b = ram((out) => {
      page(out, "ram", 3 * PAGE, new Uint8Array(PAGE).fill(0x55));
      zeroPage(out, "ram", 2 * PAGE);
      page(out, "ram", PAGE, pageOf(2));
      zeroPage(out, "ram", 0);
      page(out, "ram", 0, pageOf(1));
    });
    expect(await diff(a, b)).toEqual({ state: [], ram: [] });
  });
  test("ranges of pages that differ, by block and kind", async () => {
    const a = ram((out) => {
      for (const n of [0, 1, 2, 9]) page(out, "ram", n * PAGE, pageOf(n));
      zeroPage(out, "other", 0);
    });
    const b = ram((out) => {
      for (const n of [0, 1, 2, 3]) page(out, "ram", n * PAGE, pageOf(n === 0 ? 0 : n + 1));
      page(out, "other", 0, pageOf(5));
    });
    const { ram: found } = await diff(a, b);
    expect(found).toEqual([
      {
        block: "ram",
        ranges: [
          { block: "ram", start: PAGE, end: 3 * PAGE, pages: 2, kind: "changed" },
          { block: "ram", start: 3 * PAGE, end: 4 * PAGE, pages: 1, kind: "only in second" },
          { block: "ram", start: 9 * PAGE, end: 10 * PAGE, pages: 1, kind: "only in first" },
        ],
      },
      { block: "other", ranges: [{ block: "other", start: 0, end: PAGE, pages: 1, kind: "changed" }] },
    ]);
    expect((await diff(a, b, ["ram/other"])).ram).toHaveLength(1);
  });
  test("one changed byte anywhere in a page is found", async () => {
    const at = seed % PAGE;
    const changed = pageOf(1);
    changed[at]! ^= 1;
    const one = (bytes: Uint8Array) => ram((out) => page(out, "ram", 0, bytes));
    expect((await diff(one(pageOf(1)), one(changed))).ram).toHaveLength(1);
  });
  test("XBZRLE deltas are applied; a damaged one makes its page unknown", async () => {
    const xbzrle = (out: ByteWriter, delta: readonly number[]) =>
      out
        .u64(BigInt(PAGE) | 0x40n)
        .countedString("ram")
        .u8(1)
        .u16(delta.length)
        .bytes(Uint8Array.from(delta));
    const expected = pageOf(1);
    expected.set([0xaa, 0xbb], 16);
    const plain = ram((out) => page(out, "ram", PAGE, expected));
    const encoded = (delta: readonly number[]) =>
      ram((out) => {
        page(out, "ram", PAGE, pageOf(1));
        xbzrle(out, delta);
      });
    const whole = encoded([16, 2, 0xaa, 0xbb]);
    expect((await diff(whole, plain)).ram).toEqual([]);
    expect((await diff(encoded([16, 2, 0xaa, 0xcc]), plain)).ram[0]?.ranges).toMatchObject([
      { kind: "changed" },
    ]);
    expect((await diff(encoded([16, 200, 0xaa]), plain)).ram[0]?.ranges).toMatchObject([{ kind: "unknown" }]);
  });
  test("a mapped-ram file omits zero pages", async () => {
    const sparse = await readWithRam(bytesSource(ram((out) => page(out, "ram", PAGE, pageOf(1)))));
    const mapped = { ...sparse, report: { ...sparse.report, capabilities: ["mapped-ram"] } };
    const whole = ram((out) => {
      page(out, "ram", PAGE, pageOf(1));
      for (let n = 2; n < 64; n++) zeroPage(out, "ram", n * PAGE);
      for (let n = 0; n < 4; n++) zeroPage(out, "other", n * PAGE);
      page(out, "ram", 0, pageOf(2));
    });
    const { ram: found } = diffStreams(mapped, await readWithRam(bytesSource(whole)));
    expect(found).toMatchObject([{ block: "ram", ranges: [{ start: 0, end: PAGE, kind: "changed" }] }]);
  });
  test("pages sent over other connections are not compared", async () => {
    const whole = await readWithRam(bytesSource(ram((out) => page(out, "ram", PAGE, pageOf(1)))));
    const warnings = [{ code: "ram.elsewhere", where: "section ram/0", expected: "", found: "", cure: "" }];
    const { ram: found } = diffStreams({ ...whole, report: { ...whole.report, warnings } }, whole);
    expect(found).toMatchObject([
      { block: "ram", reason: expect.stringContaining("multifd") },
      { block: "other" },
    ]);
  });
  test("a block with another page size is not compared", async () => {
    const { ram: found } = await diff(
      ram((out) => page(out, "ram", 0, pageOf(1))),
      ram(
        (out) => page(out, "ram", 0, pageOf(1, 2 * PAGE)),
        (stream) => stream.pageBits(13),
      ),
    );
    expect(found[0]).toMatchObject({ block: "ram", reason: expect.stringContaining("4096 and of 8192") });
  });
});
