// RAM: every kind of record, page sizes, additions of capabilities to the list of blocks, mapped-ram, and
// invalid records.
import { describe, expect, test } from "vitest";
import type { ByteWriter } from "../../base/bytes.ts";
import { encodeMappedRamHeader, placeMappedRam } from "../../stream/mapped-ram.ts";
import { PAGE, page, pageOf, StreamBuilder, zeroPage } from "../../../test/support/stream-builder.ts";
import { bytesSource, piecesSource } from "./byte-source.ts";
import { type PageVisitor, readStream } from "./read-stream.ts";

const read = (bytes: Uint8Array, onPage?: PageVisitor) =>
  readStream(bytesSource(bytes), onPage === undefined ? {} : { onPage });

function readPipe(bytes: Uint8Array) {
  async function* pieces() {
    for (let at = 0; at < bytes.length; at += 777) yield bytes.subarray(at, at + 777);
  }
  return readStream(piecesSource(pieces()));
}

const ramOnly = (size: number, write: (out: ByteWriter) => void): StreamBuilder =>
  new StreamBuilder().configuration("m").ramStart({ r: size }).ramPart(write, 3);

test("XBZRLE, deflated, multifd and RDMA records", async () => {
  const seen: unknown[] = [];
  const stream = ramOnly(4 * PAGE, (out) => {
    page(out, "r", 0, pageOf(1));
    out
      .u64(BigInt(PAGE) | 0x60n)
      .u8(1)
      .u16(3)
      .bytes(new Uint8Array([0, 1, 9]));
    out
      .u64(BigInt(2 * PAGE) | 0x120n)
      .u32(5)
      .bytes(new Uint8Array([1, 2, 3, 4, 5]));
    out.u64(0x200n).u64(0x80n);
    zeroPage(out, undefined, 3 * PAGE, 7);
  });
  const report = await read(stream.end(), (block, offset, kind, bytes, fill) =>
    seen.push([block.name, offset / PAGE, kind, bytes?.length, fill]),
  );
  expect(report.problem).toBeUndefined();
  expect(report.ram[0]?.records).toEqual({ page: 1, zero: 1, xbzrle: 1, compressed: 1 });
  expect(report.capabilities).toEqual(["xbzrle", "compress", "multifd", "rdma"]);
  expect(seen).toEqual([
    ["r", 0, "page", PAGE, 0],
    ["r", 1, "xbzrle", 3, 0],
    ["r", 2, "compressed", 5, 0],
    ["r", 3, "zero", undefined, 7],
  ]);
});

describe("the target's page size", () => {
  const sized = (size: number, builder: StreamBuilder) =>
    builder.ramStart({ r: 8 * size, other: size }).ramPart((out) => {
      page(out, "r", 0, pageOf(1, size));
      page(out, undefined, size, pageOf(2, size));
      zeroPage(out, undefined, 3 * size);
      page(out, "other", 0, pageOf(3, size));
    }, 3);
  const summary = (report: Awaited<ReturnType<typeof read>>) => [
    report.problem?.code,
    report.pageSize,
    ...report.ram.map(({ pages, pageSize }) => [pages, pageSize]),
  ];

  test("from the VMDESCRIPTION, the configuration, an option, or the records themselves", async () => {
    for (const [size, bits] of [
      [1024, 10],
      [4096, 12],
      [8192, 13],
      [65536, 16],
    ] as const) {
      const expected = [undefined, size, [3, size], [1, size]];
      const plain = () => sized(size, new StreamBuilder().configuration("m"));
      expect(summary(await read(plain().end(`{"page_size":${size},"devices":[]}`)))).toEqual(expected);
      const said = sized(size, new StreamBuilder().configuration("m").pageBits(bits));
      expect(summary(await readPipe(said.end("{}")))).toEqual(expected);
      const silent = plain().end("{}");
      expect(summary(await readPipe(silent))).toEqual(expected);
      expect(summary(await readStream(bytesSource(silent), { pageSize: size }))).toEqual(expected);
    }
  });
});

test("the page size of a pipe that begins with zero pages", async () => {
  for (const size of [1024, 4096, 16384]) {
    const stream = new StreamBuilder()
      .configuration("m")
      .ramStart({ r: 8 * size })
      .ramPart((out) => {
        zeroPage(out, "r", 4 * size);
        zeroPage(out, undefined, 5 * size);
        page(out, undefined, 0, pageOf(1, size));
        page(out, undefined, size, pageOf(2, size));
      }, 3);
    const report = await readPipe(stream.end("{}"));
    expect([report.problem, report.pageSize]).toEqual([undefined, size]);
    expect([...report.ram[0]!.heat]).toEqual([1, 1, 0, 0, 1, 1, 0, 0]);
  }
});

test("a list with guest addresses (x-ignore-shared) and host pages (postcopy)", async () => {
  const stream = new StreamBuilder().configuration("m").capabilities("x-ignore-shared");
  const advise = new Uint8Array(16);
  new DataView(advise.buffer).setBigUint64(0, 0x201000n);
  new DataView(advise.buffer).setBigUint64(8, 4096n);
  stream.command(3, advise);
  let n = 0;
  stream.ramStart({ small: PAGE, huge: 512 * PAGE }, (out) => {
    if (n++ === 1) out.u64(0x200000n);
    out.u64(BigInt(n) << 32n);
  });
  const { ram, problem, capabilities } = await read(stream.eof().out.finish());
  expect(problem).toBeUndefined();
  expect(capabilities).toEqual(["x-ignore-shared", "postcopy-ram"]);
  expect(ram.map(({ hostPageSize, address }) => [hostPageSize, address])).toEqual([
    [undefined, 1n << 32n],
    [0x200000, 2n << 32n],
  ]);
});

test("mapped-ram: from a file and from a pipe, with pages at their offsets", async () => {
  const stream = new StreamBuilder().configuration("m").capabilities("mapped-ram");
  const sizes = { a: 20 * PAGE, b: 3 * PAGE };
  const pages: Record<string, number[]> = { a: [0, 7, 8, 19], b: [] };
  const names = Object.keys(sizes) as (keyof typeof sizes)[];
  let n = 0;
  stream.ramStart(sizes, (out) => {
    const name = names[n++]!;
    const header = placeMappedRam(out.length, sizes[name], PAGE);
    encodeMappedRamHeader(out, header);
    const bitmap = new Uint8Array(8);
    for (const index of pages[name]!) bitmap[index >> 3]! |= 1 << (index & 7);
    out.bytes(bitmap).bytes(new Uint8Array(header.pagesOffset - out.length));
    const memory = new Uint8Array(sizes[name]);
    for (const index of pages[name]!) memory.set(pageOf(index + 1), index * PAGE);
    out.bytes(memory);
  });
  stream
    .ramPart(() => {}, 3)
    .device(5, "x", { fields: [{ name: "y", type: "uint8", size: 1 }] }, (out) => out.u8(1));
  const bytes = stream.end();
  const seen: unknown[] = [];
  const report = await read(bytes, ({ name }, offset, kind, data) =>
    seen.push([name, offset / PAGE, kind, data?.[0]]),
  );
  expect(report.problem).toBeUndefined();
  expect(report.warnings).toEqual([]);
  expect(report.sections.at(-1)?.fields).toMatchObject([{ name: "y", value: 1n }]);
  expect(seen).toEqual(pages["a"]!.map((index) => ["a", index, "page", pageOf(index + 1)[0]]));
  expect(report.ram.map(({ records, pages: came }) => [records.page, records.zero, came])).toEqual([
    [4, 16, 4],
    [0, 3, 0],
  ]);
  expect(report.ram[0]?.mapped?.pagesOffset).toBe(1024 * 1024);
  expect(await read(bytes)).toEqual(report);
  expect(await readPipe(bytes)).toEqual(report);
});

describe("invalid records", () => {
  const codeOf = async (write: (out: ByteWriter) => void) =>
    (await read(ramOnly(4 * PAGE, write).end())).problem?.code;

  test("have a code for each cause", async () => {
    expect(await codeOf((out) => out.u64(0x20n))).toBe("ram.flags");
    expect(await codeOf((out) => out.u64(0x0an).countedString("r"))).toBe("ram.flags");
    expect(await codeOf((out) => out.u64(0x28n))).toBe("ram.block");
    expect(await codeOf((out) => page(out, "other", 0, pageOf(1)))).toBe("ram.block");
    expect(await codeOf((out) => page(out, "r", 4 * PAGE, pageOf(1)))).toBe("ram.range");
    expect(
      await codeOf((out) =>
        out
          .u64(0x04n | BigInt(PAGE))
          .countedString("x")
          .u64(BigInt(PAGE)),
      ),
    ).toBe("ram.list");
    expect(await codeOf((out) => out.u64(0x40n).countedString("r").u8(2).u16(3).u32(0))).toBe("ram.flags");
    expect(await codeOf((out) => out.u64(0x100n).countedString("r").u32(10_000).u32(0))).toBe("ram.flags");
  });

  test("a list with blocks beyond its total, without name, or with a repeated name", async () => {
    const codeOfList = async (write: (out: ByteWriter) => void) => {
      const stream = new StreamBuilder().section(1, 1, "ram", 4, write);
      return (await read(stream.eof().out.finish())).problem?.code;
    };
    const entry = (out: ByteWriter, name: string, size: number) => out.countedString(name).u64(BigInt(size));
    expect(await codeOfList((out) => entry(out.u64(0x1004n), "r", 2 * PAGE))).toBe("ram.list");
    expect(await codeOfList((out) => entry(out.u64(0x1004n), "", PAGE))).toBe("ram.list");
    expect(await codeOfList((out) => entry(entry(out.u64(0x2004n), "r", PAGE), "r", PAGE))).toBe("ram.list");
  });
});

test("pages across the boundaries of the buffer", async () => {
  const pages = 3000;
  const stream = ramOnly(pages * PAGE, (out) => {
    page(out, "r", 0, pageOf(0));
    for (let i = 1; i < pages; i++) {
      if (i % 5 === 0) zeroPage(out, undefined, i * PAGE);
      else page(out, undefined, i * PAGE, pageOf(i));
    }
  });
  let wrong = 0;
  const report = await read(stream.end(), (_block, offset, kind, bytes) => {
    const i = offset / PAGE;
    if (kind === "page" && (bytes?.[0] !== pageOf(i)[0] || bytes?.[PAGE - 1] !== pageOf(i)[PAGE - 1]))
      wrong++;
  });
  expect(report.problem).toBeUndefined();
  expect(report.ram[0]).toMatchObject({ pages, repeated: 0 });
  expect(wrong).toBe(0);
});
