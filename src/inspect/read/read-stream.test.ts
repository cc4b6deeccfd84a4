// The frame of streams: complete ones of several kinds, from files and pipes; each fault, by its code.
import { describe, expect, test } from "vitest";
import { ByteWriter } from "../../base/bytes.ts";
import {
  PAGE,
  pageOf,
  page,
  smallStream,
  StreamBuilder,
  zeroPage,
} from "../../../test/support/stream-builder.ts";
import { accountingErrors } from "../../../test/support/accounting.ts";
import type { StreamReport } from "../model/stream-report.ts";
import { fieldAt } from "../model/select.ts";
import { type ByteSource, bytesSource, piecesSource } from "./byte-source.ts";
import { type ReadOptions, readStream } from "./read-stream.ts";
import { seed } from "../../../test/support/seed.ts";
import { randomBelow } from "../../../test/support/random.ts";

const read = (bytes: Uint8Array, options?: ReadOptions) => readStream(bytesSource(bytes), options);

function pipe(bytes: Uint8Array, piece: (n: number) => number = () => 1000): ByteSource {
  async function* pieces() {
    for (let at = 0, n = 0; at < bytes.length; n++) {
      const size = piece(n);
      yield bytes.subarray(at, at + size);
      at += size;
    }
  }
  return piecesSource(pieces());
}

const value = (report: StreamReport, path: string) => fieldAt(report, path)?.value;

describe("a whole stream", () => {
  test("header, configuration, sections, fields, RAM", async () => {
    const bytes = smallStream().end();
    const report = await read(bytes);
    expect(report.problem).toBeUndefined();
    expect(report.warnings).toEqual([]);
    expect(report.size).toBe(bytes.length);
    expect(report.configuration?.machine).toBe("pc-test-1.0");
    expect(report.sections.map(({ idstr, kind }) => `${idstr} ${kind}`)).toEqual([
      "ram start",
      "ram part",
      "ram end",
      "timer full",
      "serial full",
    ]);
    expect(value(report, "timer/0/ticks")).toBe(-2n);
    expect(value(report, "timer/0/regs[2]")).toBe(3n);
    expect(value(report, "timer/0/on")).toBe(true);
    expect(value(report, "timer/0/queue.head")).toBe(77n);
    expect(value(report, "timer/0/timer/extra.x")).toBe(-1n);
    expect(value(report, "serial/1/lsr")).toBe(0x60n);
    for (const { fields, dataOffset, size, kind, unaccounted } of report.sections) {
      expect(unaccounted).toBe(0);
      if (kind === "full") expect(accountingErrors(fields, dataOffset, size)).toEqual([]);
    }
    const [ram, rom] = report.ram;
    expect(ram).toMatchObject({ name: "pc.ram", size: 8 * PAGE, pages: 3, repeated: 1 });
    expect(ram?.records).toEqual({ page: 3, zero: 1, xbzrle: 0, compressed: 0 });
    expect([...(ram?.heat ?? [])]).toEqual([1, 2, 1, 0, 0, 0, 0, 0]);
    expect(rom).toMatchObject({ pages: 1, repeated: 0 });
  });

  test("from a pipe, in pieces of any size, the report is the same", async () => {
    for (const footers of [true, false]) {
      const bytes = smallStream(footers).end();
      const whole = await read(bytes);
      for (const size of [1, 2, 7, 100, 5000]) {
        expect(await readStream(pipe(bytes, () => size))).toEqual(whole);
      }
    }
  });

  test("pages are visited in stream order", async () => {
    const seen: unknown[] = [];
    await read(smallStream().end(), {
      onPage: ({ name }, offset, kind, bytes, fill) => seen.push([name, offset, kind, bytes?.[0], fill]),
    });
    expect(seen).toEqual([
      ["pc.ram", 0, "page", 31, 0],
      ["pc.ram", PAGE, "page", 62, 0],
      ["pc.ram", 2 * PAGE, "zero", undefined, 0],
      ["pc.rom", 0, "zero", undefined, 0xff],
      ["pc.ram", PAGE, "page", 93, 0],
    ]);
  });

  test("without a configuration, footers, a description: each alone and all together", async () => {
    const old = new StreamBuilder(false);
    old.ramStart({ "pc.ram": PAGE }).ramPart((out) => page(out, "pc.ram", 0, pageOf(1)), 3);
    old.device(2, "thing", { fields: [{ name: "a", type: "uint32", size: 4 }] }, (out) => out.u32(1));
    old.device(3, "other", { fields: [{ name: "b", type: "uint8", size: 1 }] }, (out) => out.u8(2));
    const without = old.out.finish();
    const described = await read(old.end());
    expect(described.problem).toBeUndefined();
    expect(value(described, "other/0/b")).toBe(2n);
    const bare = new Uint8Array([...without, 0]);
    for (const report of [await read(bare), await readStream(pipe(bare))]) {
      expect(report.problem).toBeUndefined();
      expect(
        report.sections.map(({ idstr, size, unaccounted }) => [idstr, size, unaccounted]).slice(2),
      ).toEqual([
        ["thing", 4, 4],
        ["other", 1, 1],
      ]);
      expect(report.warnings.map(({ code }) => code)).toEqual(["stream.guessed"]);
    }
  });

  test("at an offset, with bytes after its end", async () => {
    const bytes = smallStream().end();
    const file = new Uint8Array(1000 + bytes.length + 50);
    file.set(bytes, 1000);
    const report = await read(file, { offset: 1000 });
    expect(report.problem).toBeUndefined();
    expect(report.size).toBe(bytes.length);
    expect(report.warnings.map(({ code }) => code)).toEqual(["stream.trailing"]);
    expect(report.sections[0]?.offset).toBe(1000 + 8 + 5 + "pc-test-1.0".length);
  });

  test("bytes of device sections are kept on request", async () => {
    const report = await read(smallStream().end(), { keepBytes: true });
    expect(report.sections.map(({ bytes }) => bytes?.length)).toEqual([
      undefined,
      undefined,
      undefined,
      41,
      1,
    ]);
  });
});

describe("the configuration", () => {
  const withSubsections = (): StreamBuilder => {
    const stream = new StreamBuilder()
      .configuration("virt")
      .capabilities("x-ignore-shared", "mapped")
      .pageBits(14);
    stream.out.u8(5).countedString("configuration/uuid").u32(1).bytes(new Uint8Array(16).fill(7));
    return stream;
  };

  test("with all known subsections", async () => {
    const report = await read(withSubsections().end("{}"));
    expect(report.problem).toBeUndefined();
    expect(report.capabilities).toEqual(["x-ignore-shared", "mapped"]);
    expect(report.pageSize).toBe(16384);
    const fields = report.configuration?.fields ?? [];
    expect(
      accountingErrors(
        fields,
        9,
        fields.reduce((sum, { size }) => sum + size, 0),
      ),
    ).toEqual([]);
    expect(fields.map(({ name }) => name)).toEqual([
      "len",
      "name",
      "configuration/capabilities",
      "configuration/target-page-bits",
      "configuration/uuid",
    ]);
  });

  test("an unknown subsection is read if the VMDESCRIPTION has its size", async () => {
    const newer = () => {
      const stream = withSubsections();
      stream.out.u8(5).countedString("configuration/new").u32(1).u32(3);
      return stream;
    };
    expect((await read(newer().end("{}"))).problem).toMatchObject({ code: "stream.configuration" });
    const subsections = [
      { vmsd_name: "configuration/new", version: 1, fields: [{ name: "x", type: "uint32", size: 4 }] },
    ];
    const json = JSON.stringify({
      configuration: { vmsd_name: "configuration", fields: [], subsections },
      devices: [],
    });
    const report = await read(newer().end(json));
    expect(report.problem).toBeUndefined();
    expect(report.configuration?.fields.at(-1)?.name).toBe("configuration/new");
  });

  test("with impossible numbers", async () => {
    const codeOf = async (stream: StreamBuilder) => (await read(stream.end("{}"))).problem?.code;
    expect(await codeOf(new StreamBuilder().configuration("m").pageBits(40))).toBe("stream.configuration");
    const many = new StreamBuilder().configuration("m");
    many.out.u8(5).countedString("configuration/capabilities").u32(1).u32(1e9);
    expect(await codeOf(many)).toBe("stream.configuration");
    const long = new StreamBuilder();
    long.out.u8(7).u32(1e9);
    expect(await codeOf(long)).toBe("stream.configuration");
  });
});

describe("commands", () => {
  test("each has its name and meaning; a package's sections are read", async () => {
    const inner = new StreamBuilder();
    const before = inner.length;
    inner
      .command(4)
      .section(4, 9, "timer", 1, (out) => out.u32(5))
      .command(5);
    const payload = inner.out.finish().subarray(before);
    const stream = new StreamBuilder()
      .configuration("m")
      .command(1)
      .command(2, new Uint8Array([0, 0, 0, 9]));
    stream.command(3, new ByteWriter().u64(0x201000n).u64(4096n).finish());
    stream.ramStart({ r: PAGE });
    stream.command(6, new ByteWriter().u8(0).countedString("r").u8(0).u64(0n).u64(4096n).finish());
    stream.command(7, new ByteWriter().u32(payload.length).finish()).out.bytes(payload);
    stream.ramPart((out) => page(out, "r", 0, pageOf(1)), 3);
    const report = await read(stream.eof().out.finish());
    expect(report.problem).toBeUndefined();
    expect(report.commands.map(({ name, meaning }) => [name, meaning])).toEqual([
      ["OPEN_RETURN_PATH", undefined],
      ["PING", "cookie 0x9"],
      ["POSTCOPY_ADVISE", "target pages of 4096 bytes, host pages of 4096, 2097152"],
      ["POSTCOPY_RAM_DISCARD", "r 0x0+0x1000"],
      ["PACKAGED", `${payload.length} bytes of sections`],
      ["POSTCOPY_LISTEN", undefined],
      ["POSTCOPY_RUN", undefined],
    ]);
    expect(report.capabilities).toEqual(["postcopy-ram"]);
    expect(report.sections.map(({ idstr, size }) => [idstr, size])).toContainEqual(["timer", 4]);
  });

  test("unknown ones, wrong lengths, packages in packages", async () => {
    const codeOf = async (stream: StreamBuilder) => (await read(stream.eof().out.finish())).problem?.code;
    expect(await codeOf(new StreamBuilder().command(99))).toBe("stream.command");
    expect(await codeOf(new StreamBuilder().command(2))).toBe("stream.command");
    expect(await codeOf(new StreamBuilder().command(4, new Uint8Array(1)))).toBe("stream.command");
    const package_ = new ByteWriter().u32(9).finish();
    expect(await codeOf(new StreamBuilder().command(7, package_).command(7, package_))).toBe(
      "stream.command",
    );
  });
});

describe("a broken stream", () => {
  const stops = async (bytes: Uint8Array) => (await read(bytes)).problem;

  test("truncated at every byte: reported, with everything before", async () => {
    const bytes = smallStream().end();
    const { sections } = await read(bytes);
    const [, part, last] = sections;
    for (let end = 0; end < bytes.length; end++) {
      // Within pages, few places are tested.
      const inPages = [part, last].some(
        (ram) => end > ram!.dataOffset + 300 && end < ram!.dataOffset + ram!.size - 60,
      );
      if (inPages && end % 61 !== 0) continue;
      const report = await read(bytes.subarray(0, end));
      const eof = bytes.length - bytes.lastIndexOf(6);
      // After EOF only names are missing.
      if (end === bytes.length - eof) expect(report.problem).toBeUndefined();
      else expect(report.problem).toMatchObject({ code: "stream.cut", offset: end });
      const whole = sections.filter(({ dataOffset, size }) => dataOffset + size + 5 <= end);
      expect(report.sections.slice(0, whole.length).map(({ size }) => size)).toEqual(
        whole.map(({ size }) => size),
      );
    }
  });

  test("other file formats are named", async () => {
    const start = (...bytes: number[]) => new Uint8Array([...bytes, ...new Array<number>(100).fill(0)]);
    expect(await stops(start(0x1f, 0x8b))).toMatchObject({ code: "stream.magic", found: "gzip" });
    expect(await stops(start(0x51, 0x46, 0x49, 0xfb))).toMatchObject({ found: "a qcow2 image" });
    const text = (words: string, at = 0) => {
      const bytes = new Uint8Array(1000);
      bytes.set(new TextEncoder().encode(words), at);
      return bytes;
    };
    for (const [bytes, found] of [
      [start(4, 0x22, 0x4d, 0x18), "lz4"],
      [start(0x50, 0x4b, 3, 4), "a zip archive"],
      [text("ustar", 257), "a tar archive"],
      [text("VMA\0"), "a backup of Proxmox VE (VMA)"],
      [text("KDUMP   "), "a kdump file (dump-guest-memory)"],
      [text("Xen saved domain, xl format\n"), "a saved domain of Xen (xl save)"],
      [text("HTTP/1.1 200 OK"), "an HTTP answer with its head"],
      [text("<domainsnapshot>"), "XML"],
      [text('{ "vmschkmachine": {'), "JSON"],
      [start(0x16, 3, 1), "a TLS connection"],
    ] as const) {
      expect(await stops(bytes), found).toMatchObject({ code: "stream.magic", found });
    }
    expect(await stops(start(1, 2, 3, 4))).toMatchObject({ code: "stream.magic", found: "0x1020304" });
    expect(await stops(start(0x51, 0x45, 0x56, 0x4d, 0, 0, 0, 2))).toMatchObject({ code: "stream.version" });
  });

  test("the header of virsh save is skipped, unless the stream is compressed", async () => {
    const bytes = smallStream().end();
    const file = (format: number, offset = 92 + 300) => {
      const whole = new Uint8Array(offset + bytes.length);
      whole.set(new TextEncoder().encode("LibvirtQemudSave"));
      const view = new DataView(whole.buffer);
      [2, 300, 1, format].forEach((number, i) => view.setUint32(16 + 4 * i, number, true));
      whole.set(format === 0 ? bytes : new Uint8Array(bytes.length), offset);
      return whole;
    };
    const report = await read(file(0));
    expect(report.problem).toBeUndefined();
    expect(report).toMatchObject({ libvirtBytes: 392, size: bytes.length });
    expect(report.sections[0]?.offset).toBe(392 + 8 + 5 + "pc-test-1.0".length);
    expect(await readStream(pipe(file(0)))).toEqual(report);
    const packed = (await read(file(5))).problem;
    expect(packed).toMatchObject({ code: "stream.magic", found: "a file of libvirt" });
    expect(packed?.cure).toContain("392 bytes, compressed: tail -c +393 FILE | zstd -dc | wherry inspect -");
    expect((await read(file(9))).problem?.cure).toContain("save_image_format 9");
  });

  test("footers, types, ids, versions", async () => {
    const wrongFooter = smallStream().end();
    wrongFooter[wrongFooter.indexOf(0x7e) + 4] = 99;
    expect(await stops(wrongFooter)).toMatchObject({ code: "stream.footer", where: "section ram/0" });
    const noFooter = smallStream();
    noFooter.out.u8(4).u32(9).countedString("late").u32(0).u32(1).u8(1);
    expect(await stops(noFooter.end())).toMatchObject({ code: "stream.footer", where: "section late/0" });
    const type = smallStream();
    type.out.u8(0x33);
    expect(await stops(type.end())).toMatchObject({ code: "stream.section-type", found: "type 0x33" });
    expect(
      await stops(
        smallStream()
          .ramPart(() => {})
          .end(),
      ),
    ).toMatchObject({ code: "stream.section-id" });
    const version = new StreamBuilder().section(1, 1, "ram", 5, () => {});
    expect(await stops(version.end())).toMatchObject({ code: "stream.section-version", found: "5" });
  });

  test("a description that disagrees with the bytes is a warning, and reading continues", async () => {
    const stream = smallStream();
    const fields = [{ name: "a", type: "uint32", size: 4 }];
    stream.device(7, "short", { fields }, (out) => out.u16(1));
    stream.device(8, "long", { fields }, (out) => out.u32(1).u8(9));
    const subsections = [{ vmsd_name: "lacks/x", version: 1, fields: [] }];
    stream.device(11, "huge", { fields: [{ name: "a", type: "buffer", size: 2 ** 40 }] }, (out) => out.u8(1));
    stream.device(12, "beyond", { fields: [{ name: "a", type: "buffer", size: 100_000 }] }, (out) =>
      out.u8(1),
    );
    stream.device(9, "lacks", { fields, subsections }, (out) => out.u32(1));
    stream.device(10, "last", { fields }, (out) => out.u32(6));
    const report = await read(stream.end());
    expect(report.problem).toBeUndefined();
    expect(value(report, "last/0/a")).toBe(6n);
    expect(report.sections.slice(-6).map(({ unaccounted }) => unaccounted)).toEqual([2, 1, 1, 1, 0, 0]);
    expect(report.warnings.map(({ code, where }) => [code, where])).toEqual([
      ["stream.size", "section short/0"],
      ["stream.size", "section long/0"],
      ["stream.size", "section huge/0"],
      ["stream.size", "section beyond/0"],
      ["stream.subsection", "section lacks/0"],
    ]);
  });

  test("a description that is not JSON, or too large", async () => {
    const deep = "[".repeat(100_000);
    const many = `[${"{},".repeat(2_000_000)}{}]`;
    for (const json of ["{", "[]", '{"devices":3}', deep, many, '{"devices":[{"name":1}]}']) {
      const report = await readStream(pipe(smallStream().end(json)));
      expect(report.problem).toBeUndefined();
      expect(report.warnings.map(({ code }) => code)).toContain("stream.description");
    }
  });

  test("hostile counts and sizes cost nothing", async () => {
    const bytes = (field: Readonly<Record<string, unknown>>) =>
      smallStream()
        .device(7, "x", { fields: [{ name: "a", type: "uint8", ...field }] }, (out) => out.u32(0))
        .end();
    for (const field of [
      { size: 1, array_len: 2 ** 50 },
      { size: 0, array_len: 2 ** 50 },
      { size: 2 ** 52, array_len: 2 ** 52 },
      { size: 2 ** 40 },
      { size: 0, array_len: 2 ** 50, type: "struct", struct: { fields: [] } },
      { size: 0, array_len: 2 ** 20, type: "qtailq", vmsd_name: "q", fields: [] },
    ]) {
      const report = await read(bytes(field));
      expect(report.problem !== undefined || report.warnings.length > 0).toBe(true);
    }
    const list = new StreamBuilder().ramStart({ huge: 2 ** 60, other: 2 ** 60 });
    expect((await read(list.eof().out.finish())).ram.map(({ pages }) => pages)).toEqual([0, 0]);
  });

  test("any changed bytes give a report", async () => {
    const random = randomBelow(seed);
    const whole = smallStream().end();
    for (let run = 0; run < 3000; run++) {
      const bytes = whole.slice();
      for (let n = random(4); n >= 0; n--) bytes[random(bytes.length)] = random(256);
      const report = await (run % 2 === 0 ? read(bytes) : readStream(pipe(bytes, () => 1 + random(9000))));
      expect(report.size).toBeLessThanOrEqual(bytes.length);
    }
  });
});

test("whole pages that are zero are counted on request", async () => {
  const stream = new StreamBuilder().ramStart({ r: 4 * PAGE }).ramPart((out) => {
    page(out, "r", 0, new Uint8Array(PAGE));
    page(out, undefined, PAGE, new Uint8Array(PAGE));
    page(out, undefined, 2 * PAGE, pageOf(1));
    zeroPage(out, undefined, 3 * PAGE);
  }, 3);
  const report = await read(stream.end(), { lookForZeros: true });
  expect(report.ram[0]).toMatchObject({ zeroContent: 2, pages: 4 });
});
