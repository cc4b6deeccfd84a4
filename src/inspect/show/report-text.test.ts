// A report as users see it, how they name its parts, and its JSON for programs.
import { expect, test } from "vitest";
import { page, PAGE, pageOf, smallStream, StreamBuilder } from "../../../test/support/stream-builder.ts";
import { jsonPieces, reportJson } from "./report-json.ts";
import type { Field, StreamReport } from "../model/stream-report.ts";
import { fieldAt, namesAt, sectionsNamed } from "../model/select.ts";
import { bytesSource } from "../read/byte-source.ts";
import { readStream } from "../read/read-stream.ts";
import { fieldLines, heatCells, hexdump, overview, sectionText, sizeText, valueText } from "./report-text.ts";

const report = await readStream(bytesSource(smallStream().end()), { keepBytes: true });

test("the overview", () => {
  expect(overview(report).join("\n")).toBe(
    `
stream         version 3, 13211 bytes read, complete
machine        pc-test-1.0
target page    4 KiB

sections
  id  section   kind   version  priority  offset  bytes  fields
   1  ram/0     start        4              0x18     46
   1  ram/0     part         4              0x5c   8248
   1  ram/0     end          4            0x209e   4119
   2  timer/0   full         1            0x30bf     41       9
   3  serial/1  full         1            0x3100      1       1

ram
  block     size  full  zero  xbzrle  deflated  pages  resent
  pc.ram  32 KiB     3     1       0         0      3       1
  pc.rom   8 KiB     0     1       0         0      1       0
`.trim(),
  );
});

test("the configuration's subsections", async () => {
  const stream = new StreamBuilder().configuration("virt").capabilities("mapped-ram").pageBits(14);
  stream.out.u8(5).countedString("configuration/uuid").u32(1).bytes(new Uint8Array(16).fill(0xab));
  expect(overview(await readStream(bytesSource(stream.end()))).slice(1)).toEqual([
    "machine        virt",
    "target page    16 KiB",
    "target-page-bits 0xe (14) (pages of 16384 bytes)",
    `uuid           ${"ab".repeat(16)}`,
    "capabilities   mapped-ram",
  ]);
});

test("problems and warnings, with the remedy", async () => {
  const bytes = smallStream().end();
  const cut = overview(await readStream(bytesSource(bytes.subarray(0, 5000)))).join("\n");
  expect(cut).toContain("incomplete");
  expect(cut).toMatch(
    /stops here\n {2}ram block pc\.ram|stops here\n {2}section ram\/0 at offset 0x1388: expected/,
  );
  expect(cut).toContain("to do: check that the migration's status");
});

test("a section with its fields, and its bytes", () => {
  const [timer] = sectionsNamed(report, "timer/0");
  expect(sectionText(timer!).join("\n")).toBe(
    `
section timer/0: version 1, 41 bytes at 0x30d2
  ticks: int64 -2
  regs: uint16[3]
    [0] 0x1 0x2 0x3
  on: bool true
  id: buffer 61626364 "abcd"
  queue: struct
    head: uint32 0x4d (77)
  timer/extra: subsection
    header: subsection header 050b74696d65722f657874726100000003 (version 3)
    x: int8 -1
`.trim(),
  );
  expect([...hexdump(timer!.bytes!, timer!.dataOffset)][1]).toBe(
    "000030e2  62 63 64 00 00 00 4d 05  0b 74 69 6d 65 72 2f 65  |bcd...M..timer/e|",
  );
});

test("fields by name", () => {
  const value = (path: string) => fieldAt(report, path)?.value;
  expect(value("timer/0/regs[1]")).toBe(2n);
  expect(value("timer/ticks")).toBe(-2n);
  expect(value("timer/0/timer/extra.x")).toBe(-1n);
  expect(value("timer/0/timer/extra/x")).toBe(-1n);
  expect(fieldAt(report, "timer/0/regs")?.children?.length).toBe(3);
  expect(fieldAt(report, "timer/0/none")).toBeUndefined();
  expect(fieldAt(report, "timer/0/regs[9]")).toBeUndefined();
  expect(namesAt(report, "timer/0/none")).toEqual(["ticks", "regs", "on", "id", "queue", "timer/extra"]);
  expect(namesAt(report, "timr")).toEqual(["timer/0", "serial/1"]);
  expect(sectionsNamed(report, "ram").length).toBe(3);
});

test("values: numbers, text, bytes, without control characters", () => {
  const field = (value: Field["value"], more: Partial<Field> = {}): Field => {
    return {
      name: "x",
      offset: 0,
      size: 8,
      type: "uint64",
      ...(value === undefined ? {} : { value }),
      ...more,
    };
  };
  expect(valueText(field(5n))).toBe("5");
  expect(valueText(field(500n, { meaning: "five hundred" }))).toBe("0x1f4 (500) (five hundred)");
  expect(valueText(field(-500n, { type: "int64" }))).toBe("-500 (0xfffffffffffffe0c)");
  expect(valueText(field("a\u001b[31m\u009b"))).toBe(String.raw`"a\x1b[31m\x9b"`);
  expect(valueText(field(new Uint8Array(100).fill(1)))).toBe(`${"01".repeat(32)}… 100 bytes`);
  expect(valueText(field(new Uint8Array(100)))).toBe("100 bytes of zeros");
  expect(valueText(field(new Uint8Array(100)), Number.POSITIVE_INFINITY)).toBe("00".repeat(100));
  expect(valueText(field(new Uint8Array([114, 117, 110, 0])))).toBe('72756e00 "run"');
});

test("long arrays of zeros are short", () => {
  const children = Array.from({ length: 100 }, (_, i): Field => {
    return { name: `[${i}]`, offset: i, size: 1, type: "uint8", value: i === 99 ? 7n : 0n };
  });
  const lines = fieldLines([{ name: "a", offset: 0, size: 100, type: "uint8[100]", children }]);
  expect(lines).toEqual(["a: uint8[100]", "  [0] 0x0 …", "  [96] 0x0 0x0 0x0 0x7"]);
});

test("heat", async () => {
  expect(heatCells(new Uint8Array([0, 1, 2, 3]), 2)).toEqual([0.5, 2.5]);
  expect(heatCells(new Uint8Array(0))).toEqual([]);
  const stream = new StreamBuilder().ramStart({ r: 512 * PAGE }).ramPart((out) => {
    for (let i = 0; i < 24; i++) page(out, "r", (i % 12) * PAGE, pageOf(1));
    page(out, "r", 500 * PAGE, pageOf(1));
  }, 3);
  const lines = overview(await readStream(bytesSource(stream.end())));
  expect(lines.at(-1)).toBe(`  |21${" ".repeat(60)}. | r`);
});

test("sizes", () => {
  expect([0, 1000, 4096, 1.5 * 2 ** 30, 2 ** 40].map(sizeText)).toEqual([
    "0 B",
    "1000 B",
    "4 KiB",
    "1.5 GiB",
    "1 TiB",
  ]);
});

test("JSON: integers in full, bytes as hexadecimal", () => {
  const big: StreamReport = {
    ...report,
    sections: [
      {
        ...report.sections[4]!,
        fields: [{ name: "x", offset: 0, size: 8, type: "uint64", value: 2n ** 64n - 1n }],
      },
    ],
  };
  const json = reportJson(big);
  expect(json).toContain('"value": 18446744073709551615');
  expect(json).not.toContain("vmDescription");
  const parsed = JSON.parse(reportJson(report)) as {
    sections: { idstr: string; bytes?: string; fields: { value: unknown }[] }[];
    ram: { heat: number[] }[];
  };
  expect(parsed.sections[4]).toMatchObject({
    idstr: "serial",
    bytes: "60",
    fields: [{ name: "lsr", value: 96 }],
  });
  expect(parsed.ram[0]?.heat).toEqual([1, 2, 1, 0, 0, 0, 0, 0]);
});

test("JSON in short pieces equals the text of JSON.stringify", () => {
  const value = {
    list: [1, 'a"\n', null, true, [], {}, undefined, Number.NaN],
    none: undefined,
    nested: { "a key": [{ b: 0.5 }], empty: {} },
  };
  const joined = (whole: unknown) => [...jsonPieces(whole)].join("");
  expect(joined(value)).toBe(JSON.stringify(value, undefined, 2));
  expect(joined([])).toBe("[]");
  expect(joined({ n: 2n ** 64n - 1n })).toBe('{\n  "n": 18446744073709551615\n}');
  // A section of 3 MB, and many fields.
  const large = {
    bytes: new Uint8Array(3 << 20).fill(0xa5),
    fields: Array.from({ length: 50_000 }, (_, i) => ({ i })),
  };
  let [characters, longest] = [0, 0];
  for (const piece of jsonPieces(large)) {
    characters += piece.length;
    longest = Math.max(longest, piece.length);
  }
  expect(characters).toBeGreaterThan(6 << 20);
  expect(longest).toBeLessThanOrEqual(32 * 1024);
});
