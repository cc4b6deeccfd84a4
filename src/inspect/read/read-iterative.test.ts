// Sections with parts other than RAM: each format is read to its last byte, and its counts are right.
import { expect, test } from "vitest";
import type { ByteWriter } from "../../base/bytes.ts";
import { StreamBuilder } from "../../../test/support/stream-builder.ts";
import { bytesSource } from "./byte-source.ts";
import { readStream } from "./read-stream.ts";

async function counts(idstr: string, ...parts: ((out: ByteWriter) => void)[]) {
  const stream = new StreamBuilder().configuration("m");
  parts.forEach((write, i) =>
    stream.section(i === 0 ? 1 : i === parts.length - 1 ? 3 : 2, 5, idstr, 1, write),
  );
  stream.section(4, 6, "behind", 1, (out) => out.u8(1));
  stream.devices.push({ name: "behind", instance_id: 0, fields: [{ name: "x", type: "uint8", size: 1 }] });
  const report = await readStream(bytesSource(stream.end()));
  expect(report.sections.length).toBe(report.problem === undefined ? parts.length + 1 : parts.length);
  return { problem: report.problem?.code, ...report.iterative[0] };
}

test("dirty-bitmap", async () => {
  const found = await counts(
    "dirty-bitmap",
    (out) =>
      out
        .u8(0x08 | 0x04 | 0x10)
        .countedString("drive0")
        .countedString("bitmap0")
        .u32(65536)
        .u8(1)
        .u8(0x01),
    (out) => {
      out.u8(0x40).u64(0n).u32(2048).u64(4n).u32(0xffff_ffff);
      out.u8(0x42).u64(2048n).u32(100).u8(0x01);
    },
    (out) => out.u8(0x20).u8(0x01),
  );
  expect(found).toMatchObject({
    problem: undefined,
    names: ["drive0", "bitmap0"],
    counts: { bitmaps: 1, sectors: 2048, "clean sectors": 100, complete: 1 },
  });
});

test("block: old block migration", async () => {
  const found = await counts(
    "block",
    (out) => out.u64(0x02n),
    (out) => {
      out
        .u64((8n << 9n) | 1n)
        .countedString("ide0-hd0")
        .bytes(new Uint8Array(2 ** 20));
      out
        .u64((16n << 9n) | 9n)
        .countedString("ide0-hd0")
        .u64((50n << 9n) | 4n)
        .u64(0x02n);
    },
    (out) => out.u64((100n << 9n) | 4n).u64(0x02n),
  );
  expect(found).toMatchObject({
    problem: undefined,
    names: ["ide0-hd0"],
    counts: { blocks: 1, "zero blocks": 1 },
  });
});

test("spapr/htab", async () => {
  const entries = (out: ByteWriter) => out.u32(0).u32(16).u16(2).u16(3).bytes(new Uint8Array(32)).u64(0n);
  const found = await counts("spapr/htab", (out) => out.u32(24), entries, entries);
  expect(found).toMatchObject({ problem: undefined, counts: { shift: 24, valid: 4, invalid: 6 } });
  const without = await counts(
    "spapr/htab",
    (out) => out.u32(0xffff_ffff),
    (out) => out.u32(0xffff_ffff),
  );
  expect(without).toMatchObject({ problem: undefined, counts: {} });
});

test("s390-storage_attributes", async () => {
  const found = await counts(
    "s390-storage_attributes",
    (out) => out.u64(1n),
    (out) =>
      out
        .u64(0x1000n | 2n)
        .u64(5n)
        .bytes(new Uint8Array(5))
        .u64(1n),
    (out) => out.u64(8n).u64(1n),
  );
  expect(found).toMatchObject({ problem: undefined, counts: { pages: 5 } });
});

test("a VFIO device", async () => {
  const flag = (n: bigint) => 0xffff_ffff_ef10_0000n + n;
  const found = await counts(
    "0000:00:03.0/vfio",
    (out) => out.u64(flag(3n)).u64(flag(1n)),
    (out) => out.u64(flag(5n)),
    (out) => out.u64(flag(4n)).u64(100n).bytes(new Uint8Array(100)).u64(flag(1n)),
  );
  expect(found).toMatchObject({ problem: undefined, counts: { bytes: 100, "initial data sent": 1 } });
});

test("an unknown section ends at its footer and is reported", async () => {
  const stream = new StreamBuilder();
  stream
    .section(1, 5, "new-thing", 1, (out) => out.u32(0x7e000000))
    .section(3, 5, "new-thing", 1, (out) => out.u8(9));
  const report = await readStream(bytesSource(stream.end()));
  expect(report.problem).toBeUndefined();
  expect(report.sections.map(({ size }) => size)).toEqual([4, 1]);
  expect(report.warnings.map(({ code }) => code)).toEqual(["stream.guessed"]);
});

test("invalid flags", async () => {
  expect(await counts("block", (out) => out.u64(0x1000n))).toMatchObject({ problem: "stream.section-type" });
  expect(await counts("0000:00:03.0/vfio", (out) => out.u64(1n))).toMatchObject({
    problem: "stream.section-type",
  });
  const endless = (out: ByteWriter) => out.u64(2n).u64(2n ** 63n);
  expect(await counts("s390-storage_attributes", endless)).toMatchObject({ problem: "stream.section-type" });
});
