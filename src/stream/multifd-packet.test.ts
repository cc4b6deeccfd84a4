// Golden packets that QEMU 7.2.22 and 11.1.3 sent for `-M virt -m 64M`, without their trailing zeros.
import { describe, expect, test } from "vitest";
import { ByteWriter } from "../base/bytes.ts";
import {
  decodeMultifdHello,
  decodeMultifdPacket,
  encodeMultifdHello,
  encodeMultifdPacket,
  MULTIFD_HELLO_BYTES,
  type MultifdPacket,
  multifdPacketBytes,
} from "./multifd-packet.ts";

const PAGE = 4096;
const BYTES = multifdPacketBytes(PAGE);
const RAM = "riscv_virt_board.ram";

function packet(head: string, block = "", offsets: readonly number[] = []): Uint8Array {
  const bytes = new Uint8Array(BYTES);
  bytes.set(Buffer.from(head, "hex"));
  bytes.set(new TextEncoder().encode(block), 64);
  const view = new DataView(bytes.buffer);
  for (const [i, offset] of offsets.entries()) view.setBigUint64(320 + 8 * i, BigInt(offset));
  return bytes;
}
const pagesFrom = (first: number, count: number) => Array.from({ length: count }, (_, i) => first + i * PAGE);

describe("packets from QEMU", () => {
  test("a hello", () => {
    const bytes = new Uint8Array(MULTIFD_HELLO_BYTES);
    bytes.set(Buffer.from("1122334400000001", "hex"));
    bytes[24] = 2;
    expect(decodeMultifdHello(bytes)).toEqual({ uuid: new Uint8Array(16), id: 2 });
    const writer = new ByteWriter();
    encodeMultifdHello(writer, { uuid: new Uint8Array(16), id: 2 });
    expect(writer.finish()).toEqual(bytes);
  });

  test("7.2: 41 pages, and a SYNC with the length of the packet before it", () => {
    const pages = pagesFrom(0, 41);
    const bytes = packet("11223344000000010000000000000080000000290002900000000000000000020000", RAM, pages);
    const decoded = decodeMultifdPacket(bytes, PAGE);
    expect(decoded).toEqual({
      sync: false,
      compression: "none",
      pagesAlloc: 128,
      packetNumber: 2n,
      payloadBytes: 41 * PAGE,
      block: RAM,
      normal: pages,
      zero: [],
    });
    const writer = new ByteWriter();
    encodeMultifdPacket(writer, decoded, PAGE);
    expect(writer.finish()).toEqual(bytes);
    const sync = packet("112233440000000100000001000000800000000000029000000000000000000a");
    expect(decodeMultifdPacket(sync, PAGE)).toMatchObject({ sync: true, payloadBytes: 0, packetNumber: 10n });
  });

  test("11.1: normal and zero pages, only zero pages, and a SYNC", () => {
    const pages = pagesFrom(0, 128);
    const mixed = packet(
      "1122334400000001000000000000008000000032000320000000000000000007" + "0000004e",
      RAM,
      pages,
    );
    expect(decodeMultifdPacket(mixed, PAGE)).toMatchObject({
      packetNumber: 7n,
      payloadBytes: 50 * PAGE,
      normal: pages.slice(0, 50),
      zero: pages.slice(50),
    });
    const zeros = packet(
      "11223344000000010000000000000080" + "0000000000000000" + "000000000000000a" + "00000080",
      RAM,
      pages,
    );
    expect(decodeMultifdPacket(zeros, PAGE)).toMatchObject({
      block: RAM,
      normal: [],
      zero: pages,
      payloadBytes: 0,
    });
    expect(decodeMultifdPacket(packet("112233440000000100000001"), PAGE)).toMatchObject({
      sync: true,
      block: "",
      pagesAlloc: 0,
    });
  });
});

test("an encoded packet decodes to the same packet", () => {
  for (const compression of ["none", "zlib", "zstd", "qpl", "uadk", "qatzip"] as const) {
    for (const normal of [0, 1, 100, 128]) {
      for (const zero of [0, 1, 28]) {
        if (normal + zero > 128) continue;
        const given: MultifdPacket = {
          sync: normal === 1,
          compression,
          pagesAlloc: 128,
          packetNumber: 2n ** 40n,
          payloadBytes: compression === "none" ? normal * PAGE : normal * 17,
          block: normal + zero === 0 ? "" : RAM,
          normal: pagesFrom(2 ** 36, normal),
          zero: pagesFrom(0, zero),
        };
        const writer = new ByteWriter();
        encodeMultifdPacket(writer, given, PAGE);
        expect(writer.length).toBe(BYTES);
        expect(decodeMultifdPacket(writer.view(), PAGE)).toEqual(given);
      }
    }
  }
});

describe("refused", () => {
  const head = (flags: string, alloc: string, normal: string, bytes: string, zero = "00000000") =>
    packet(`1122334400000001${flags}${alloc}${normal}${bytes}0000000000000001${zero}`, RAM);
  test.each([
    [packet("5145564d00000003"), /expected a multifd packet \(0x11223344\), found 0x5145564d/],
    [packet("1122334400000002"), /expected multifd version 1, found 2/],
    [head("00000040", "00000080", "00000000", "00000000"), /device state/],
    [head("00000006", "00000080", "00000001", "00001000"), /flags 0x6 mean nothing/],
    [head("00000080", "00000080", "00000001", "00001000"), /flags 0x80 mean nothing/],
    [head("00000000", "00000081", "00000000", "00000000"), /at most 128 fit/],
    [head("00000000", "00000080", "00000081", "00081000"), /at most 128 fit/],
    [head("00000000", "00000080", "00000080", "00080000", "00000001"), /at most 128 fit/],
    [head("00000000", "00000080", "ffffffff", "00000000", "ffffffff"), /at most 128 fit/],
    [head("00000000", "00000080", "00000002", "00001000"), /4096 bytes for 2 pages/],
    [head("00000000", "00000080", "00000001", "7fffffff"), /2147483647 bytes for 1 pages/],
    [
      head("00000004", "00000080", "00000001", "7fffffff"),
      /2147483647 bytes for 1 pages of 4096 bytes \(zstd\)/,
    ],
  ])("case %#", (bytes, message) => {
    expect(() => decodeMultifdPacket(bytes, PAGE)).toThrow(message);
  });
});
