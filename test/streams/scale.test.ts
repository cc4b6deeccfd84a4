// Hostile streams of some megabytes: time grows with the bytes, for any claimed lengths. A reader that
// searches back and forth or trusts a count would take minutes for each.
import { expect, test } from "vitest";
import { ByteWriter } from "../../src/base/bytes.ts";
import { checkStream } from "../../src/inspect/check/check-stream.ts";
import { diffStreams } from "../../src/inspect/diff/diff-streams.ts";
import { reportJson } from "../../src/inspect/show/report-json.ts";
import type { StreamReport } from "../../src/inspect/model/stream-report.ts";
import { bytesSource, piecesSource } from "../../src/inspect/read/byte-source.ts";
import { readStream } from "../../src/inspect/read/read-stream.ts";
import { overview, sectionText } from "../../src/inspect/show/report-text.ts";
import { QEMU_VM, RAM_SAVE_FLAG } from "../../src/stream/wire.ts";
import { fuzzMachine } from "./fuzz/machines.ts";
import { checkReport, load } from "./fuzz/targets.ts";

/** Processor time of the whole process; ten times the usual or more. */
const LIMIT_MS = 20_000;

const start = (): ByteWriter => new ByteWriter().u32(0x5145564d).u32(3);
const finish = (out: ByteWriter, json?: string): Uint8Array => {
  out.u8(QEMU_VM.EOF);
  if (json !== undefined) {
    const text = Buffer.from(json);
    out.u8(QEMU_VM.VMDESCRIPTION).u32(text.length).bytes(text);
  }
  return out.finish();
};
function section(out: ByteWriter, id: number, idstr: string, size: number, footer = true): void {
  out.u8(QEMU_VM.SECTION_FULL).u32(id).countedString(idstr).u32(id).u32(1);
  out.bytes(new Uint8Array(size));
  if (footer) out.u8(QEMU_VM.SECTION_FOOTER).u32(id);
}
function device(fields: unknown[], more = {}): string {
  const toy = { name: "toy", instance_id: 1, vmsd_name: "toy", version: 1, fields, ...more };
  return JSON.stringify({ page_size: 4096, devices: [toy] });
}
function oneSection(size: number, json: string): Uint8Array {
  const out = start();
  section(out, 1, "toy", size);
  return finish(out, json);
}
const many = <T>(count: number, make: (i: number) => T): T[] =>
  Array.from({ length: count }, (_, i) => make(i));

const N = 10_000;
const STREAMS: Record<string, () => Uint8Array> = {
  "many sections": () => {
    const out = start();
    for (let i = 0; i < N; i++) section(out, i, `s${i}`, 8);
    return finish(out);
  },
  "many sections of one name": () => {
    const out = start();
    for (let i = 0; i < N; i++)
      out.u8(QEMU_VM.SECTION_FULL).u32(2).countedString("s").u32(0).u32(1).u8(7).u8(0x7e).u32(2);
    return finish(out);
  },
  "many sections without footers": () => {
    const out = start();
    for (let i = 0; i < N; i++) section(out, i, `s${i}`, 8, false);
    return finish(out);
  },
  "many sections, all described": () => {
    const out = start();
    for (let i = 0; i < N; i++) section(out, i, "toy", 4);
    const fields = [{ name: "x", type: "uint32", size: 4 }];
    const devices = many(N, (i) => ({ name: "toy", instance_id: i, vmsd_name: "toy", version: 1, fields }));
    return finish(out, JSON.stringify({ page_size: 4096, devices }));
  },
  "many false footers": () => {
    const out = start();
    section(out, 0x7e7e7e7e, "toy", 0, false);
    out.bytes(new Uint8Array(4_000_000).fill(0x7e));
    return finish(out);
  },
  "many false heads": () => {
    const out = start();
    section(out, 1, "toy", 0, false);
    out.bytes(Buffer.from("\u0004\u0000\u0000\u0000\u0001\u0060".repeat(600_000)));
    return finish(out);
  },
  "many fields": () =>
    oneSection(N * 4, device(many(N * 4, (i) => ({ name: `f${i}`, type: "uint8", size: 1 })))),
  "fields of one name": () =>
    oneSection(N * 4, device(many(N * 4, () => ({ name: "f", type: "uint8", size: 1 })))),
  "an array of nothing": () =>
    oneSection(4, device([{ name: "a", type: "uint8", array_len: 2 ** 31, size: 0 }])),
  "arrays in arrays of nothing": () => {
    let field: Record<string, unknown> = { name: "x", type: "uint8", size: 0 };
    for (let i = 0; i < 12; i++) {
      const struct = { vmsd_name: "s", version: 1, fields: [field] };
      field = { name: "a", type: "struct", array_len: 1000, size: 0, struct };
    }
    return oneSection(4, device([field]));
  },
  "a deep description": () => {
    const depth = 100_000;
    const open = '{"name":"a","type":"struct","size":1,"struct":{"vmsd_name":"s","version":1,"fields":[';
    return oneSection(
      1,
      `{"page_size":4096,"devices":[{"name":"toy","instance_id":1,"fields":[${open.repeat(depth)}${"]}}".repeat(depth)}]}]}`,
    );
  },
  "many subsections": () => {
    const names = many(N, (i) => `toy/${i}`);
    const out = start();
    out.u8(QEMU_VM.SECTION_FULL).u32(1).countedString("toy").u32(1).u32(1);
    for (const name of names) out.u8(QEMU_VM.SUBSECTION).countedString(name).u32(1);
    out.u8(QEMU_VM.SECTION_FOOTER).u32(1);
    const subsections = names.map((name) => ({ vmsd_name: name, version: 1, fields: [] }));
    return finish(out, device([], { subsections }));
  },
  "many RAM blocks": () => {
    const out = start();
    out.u8(QEMU_VM.SECTION_START).u32(2).countedString("ram").u32(0).u32(4);
    const count = 20_000;
    const size = 2n ** 40n;
    out.u64((BigInt(count) * size) | BigInt(RAM_SAVE_FLAG.MEM_SIZE));
    for (let i = 0; i < count; i++) out.countedString(`b${i}`).u64(size);
    for (let i = 0; i < count; i++) {
      out
        .u64(BigInt(RAM_SAVE_FLAG.ZERO) | (2n ** 40n - 4096n))
        .countedString(`b${i}`)
        .u8(0);
    }
    out.u64(BigInt(RAM_SAVE_FLAG.EOS)).u8(QEMU_VM.SECTION_FOOTER).u32(2);
    return finish(out);
  },
  "many commands": () => {
    const out = start();
    for (let i = 0; i < 200_000; i++) out.u8(QEMU_VM.COMMAND).u16(2).u16(4).u32(i);
    return finish(out);
  },
  "a long section that is dropped": () => {
    // RAM of the fuzzer's machine without pages, then QEMU's user network with bytes that look like footers.
    const out = start().u8(QEMU_VM.CONFIGURATION).u32(4).bytes(Buffer.from("virt"));
    out.u8(QEMU_VM.SECTION_START).u32(2).countedString("ram").u32(0).u32(4);
    out.u64(BigInt(21 * 4096) | BigInt(RAM_SAVE_FLAG.MEM_SIZE));
    out
      .countedString("riscv_virt_board.ram")
      .u64(16n * 4096n)
      .countedString("virt.flash0")
      .u64(2n * 4096n);
    out.countedString("riscv_virt_board.mrom").u64(3n * 4096n);
    out.u64(BigInt(RAM_SAVE_FLAG.EOS)).u8(QEMU_VM.SECTION_FOOTER).u32(2);
    out.u8(QEMU_VM.SECTION_END).u32(2).u64(BigInt(RAM_SAVE_FLAG.EOS)).u8(QEMU_VM.SECTION_FOOTER).u32(2);
    section(out, 0x7e7e7e7e, "slirp", 0, false);
    out.bytes(new Uint8Array(4_000_000).fill(0x7e));
    return finish(out);
  },
  "many names of bitmaps": () => {
    const out = start();
    out.u8(QEMU_VM.SECTION_START).u32(1).countedString("dirty-bitmap").u32(0).u32(1);
    for (let i = 0; i < 200_000; i++) out.u8(0x08 | 0x20).countedString(`n${i}`);
    out.u8(1).u8(QEMU_VM.SECTION_FOOTER).u32(1);
    return finish(out);
  },
};

async function* piecesOf(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += 1000) yield bytes.subarray(at, at + 1000);
}

function all(report: StreamReport): void {
  overview(report);
  report.sections.flatMap(sectionText);
  reportJson(report);
  diffStreams({ report }, { report });
  checkStream(report, [{ kind: "stream", name: "itself", report }]);
}

test.each(Object.entries(STREAMS))("%s", { timeout: 120_000 }, async (_, make) => {
  const bytes = make();
  const before = process.cpuUsage();
  const report = await readStream(bytesSource(bytes), { keepBytes: true });
  checkReport(report, bytes.length);
  await readStream(piecesSource(piecesOf(bytes)));
  all(report);
  await load(bytes, fuzzMachine(true));
  const { user, system } = process.cpuUsage(before);
  expect((user + system) / 1000).toBeLessThan(LIMIT_MS);
});
