// Multifd channels as files: pages by block, whole pages visited; truncated and damaged channels.
import { expect, test } from "vitest";
import { ByteWriter } from "../../base/bytes.ts";
import { encodeMultifdHello, encodeMultifdPacket, type MultifdPacket } from "../../stream/multifd-packet.ts";
import { PAGE, pageOf } from "../../../test/support/stream-builder.ts";
import { bytesSource } from "./byte-source.ts";
import { readStream } from "./read-stream.ts";
import { overview } from "../show/report-text.ts";

const SYNC: MultifdPacket = {
  sync: true,
  compression: "none",
  pagesAlloc: 128,
  packetNumber: 1n,
  payloadBytes: 0,
  block: "",
  normal: [],
  zero: [],
};

function channel(pageSize = PAGE, packets: readonly Partial<MultifdPacket>[] = []): ByteWriter {
  const out = new ByteWriter();
  encodeMultifdHello(out, { uuid: new Uint8Array(16).fill(9), id: 3 });
  for (const packet of packets) {
    const whole = { ...SYNC, pagesAlloc: (512 * 1024) / pageSize, sync: false, ...packet };
    encodeMultifdPacket(out, whole, pageSize);
    if (whole.compression === "none") whole.normal.forEach((_, i) => out.bytes(pageOf(i + 1, pageSize)));
    else out.bytes(new Uint8Array(whole.payloadBytes));
  }
  return out;
}

test("pages, zeros, compressed pages, synchronisation", async () => {
  for (const size of [PAGE, 1024, 65536]) {
    const bytes = channel(size, [
      { block: "r", normal: [0, 2 * size], zero: [size], payloadBytes: 2 * size },
      { sync: true },
      { block: "other", compression: "zstd", normal: [0, size, 4 * size], payloadBytes: 100 },
      { block: "r", normal: [0], payloadBytes: size },
    ]).finish();
    const seen: unknown[] = [];
    const report = await readStream(bytesSource(bytes), {
      onPage: ({ name }, offset, kind, data) => seen.push([name, offset / size, kind, data?.[0]]),
    });
    expect(report.problem).toBeUndefined();
    expect(report.size).toBe(bytes.length);
    expect(report.channel).toMatchObject({ id: 3, packets: 4 });
    expect(report.capabilities).toEqual(["multifd", "multifd-compression zstd"]);
    const [r, other] = report.ram;
    expect(r).toMatchObject({ name: "r", size: 3 * size, pages: 3, repeated: 1, pageSize: size });
    expect(r?.records).toEqual({ page: 3, zero: 1, xbzrle: 0, compressed: 0 });
    expect([...(r?.heat.subarray(0, 3) ?? [])]).toEqual([2, 1, 1]);
    expect(other).toMatchObject({ size: 5 * size, pages: 3, records: { compressed: 3 } });
    expect(seen).toEqual([
      ["r", 1, "zero", undefined],
      ["r", 0, "page", 31],
      ["r", 2, "page", 62],
      ["r", 0, "page", 31],
    ]);
    expect(overview(report)[0]).toBe(
      `multifd        channel 3, 4 packets, ${bytes.length} bytes read, complete`,
    );
  }
});

test("truncated, damaged and hostile channels", async () => {
  const packets = [{ block: "r", normal: [0], payloadBytes: PAGE }, { sync: true }];
  const bytes = channel(PAGE, packets).finish();
  const packet = 320 + 8 * 128;
  const ends = [64, 64 + packet + PAGE, bytes.length];
  for (let end = 4; end < bytes.length; end += 13) {
    const report = await readStream(bytesSource(bytes.subarray(0, end)));
    expect(report.problem?.code).toBe(ends.includes(end) ? undefined : "stream.cut");
  }
  const damaged = bytes.slice();
  damaged[64] = 0;
  expect((await readStream(bytesSource(damaged))).problem?.code).toBe("multifd.packet");
  const far = channel(PAGE, [{ block: "r", zero: [2 ** 52] }]).finish();
  const report = await readStream(bytesSource(far));
  expect(report.problem).toBeUndefined();
  expect(report.ram[0]).toMatchObject({ pages: 1, size: 2 ** 52 + PAGE });
  const odd = channel(PAGE, [{ block: "r", zero: [100] }]).finish();
  expect((await readStream(bytesSource(odd))).problem?.code).toBe("ram.range");
});
