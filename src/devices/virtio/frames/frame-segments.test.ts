// What a card makes of frames that leave work to it: judged by sums that are computed a byte at a time.
import { describe, expect, it } from "vitest";
import { offloadOf, wholeFrames } from "./frame-segments.ts";

const [SEQ, ID, DATA, MSS] = [0xffff_fff0, 0xfffe, 5000, 1448];
const OPTIONS = 12;

/** The ones' complement sum of 16-bit words. */
function sumOf(...parts: Uint8Array[]): number {
  let sum = 0;
  for (const [i, byte] of Buffer.concat(parts).entries()) sum += i % 2 === 0 ? byte * 256 : byte;
  while (sum > 0xffff) sum = (sum % 65_536) + Math.floor(sum / 65_536);
  return sum;
}
const pseudo = (family: 4 | 6, ip: Uint8Array, length: number): Buffer =>
  Buffer.concat([
    family === 4 ? ip.subarray(12, 20) : ip.subarray(8, 40),
    Buffer.from([0, 6, length >> 8, length]),
  ]);

/** A large segment as Linux gives it to a card, and the header with it. */
function large(family: 4 | 6, tag: Buffer = Buffer.alloc(0)) {
  const tcp = Buffer.alloc(20 + OPTIONS + DATA, "abcdefghijk");
  tcp.writeUInt32BE(SEQ, 4);
  tcp[12] = ((20 + OPTIONS) / 4) << 4;
  tcp[13] = 0x80 | 0x10 | 8 | 1; // CWR, ACK, PSH, FIN
  const ip = Buffer.alloc(family === 4 ? 20 : 40, 3);
  if (family === 4) {
    ip[0] = 0x45;
    ip.writeUInt16BE(20 + tcp.length, 2);
    ip.writeUInt16BE(ID, 4);
    ip[9] = 6;
    ip.writeUInt16BE(0, 10);
    ip.writeUInt16BE(0xffff - sumOf(ip), 10);
  } else ip.writeUInt16BE(tcp.length, 4);
  tcp.writeUInt16BE(sumOf(pseudo(family, ip, tcp.length)), 16);
  const head = Buffer.concat([Buffer.alloc(12, 2), tag, Buffer.from(family === 4 ? "0800" : "86dd", "hex")]);
  const frame = Buffer.concat([head, ip, tcp]);
  const header = new DataView(new ArrayBuffer(12));
  header.setUint8(0, 1);
  header.setUint8(1, family === 4 ? 1 : 4);
  header.setUint16(2, 77, true); // hdr_len: only a hint
  header.setUint16(4, MSS, true);
  header.setUint16(6, head.length + ip.length, true);
  header.setUint16(8, 16, true);
  return { frame, header, ip, tcp, head };
}

describe.each([4, 6] as const)("IPv%i", (family) => {
  it.each([
    ["", ""],
    [" with a VLAN tag", "81000005"],
  ])("a large frame%s becomes segments", (_, tag) => {
    const { frame, header, head, ip, tcp } = large(family, Buffer.from(tag, "hex"));
    header.setUint8(1, header.getUint8(1) | 0x80); // ECN
    const offload = offloadOf(header, frame);
    if (offload === undefined || offload === "invalid") throw new Error("no offload");
    const pieces = [...wholeFrames(frame, offload)].map((piece) => Buffer.from(piece));
    expect(pieces.length).toBe(Math.ceil(DATA / MSS));
    const data: Buffer[] = [];
    for (const [n, piece] of pieces.entries()) {
      const ownIp = piece.subarray(head.length, head.length + ip.length);
      const ownTcp = piece.subarray(head.length + ip.length);
      expect(piece.subarray(0, head.length)).toEqual(head);
      if (family === 4) {
        expect(sumOf(ownIp)).toBe(0xffff);
        expect([ownIp.readUInt16BE(2), ownIp.readUInt16BE(4)]).toEqual([
          piece.length - head.length,
          (ID + n) & 0xffff,
        ]);
      } else expect(ownIp.readUInt16BE(4)).toBe(ownTcp.length);
      expect(sumOf(pseudo(family, ownIp, ownTcp.length), ownTcp)).toBe(0xffff);
      expect(ownTcp.readUInt32BE(4)).toBe((SEQ + n * MSS) >>> 0);
      const isLast = n === pieces.length - 1;
      expect(ownTcp[13]).toBe(0x10 | (n === 0 ? 0x80 : 0) | (isLast ? 8 | 1 : 0));
      expect(ownTcp.subarray(20, 20 + OPTIONS)).toEqual(tcp.subarray(20, 20 + OPTIONS));
      data.push(ownTcp.subarray(20 + OPTIONS));
    }
    expect(Buffer.concat(data)).toEqual(tcp.subarray(20 + OPTIONS));
  });

  it("one segment only gets its checksum", () => {
    const { frame, header, ip, tcp } = large(family);
    header.setUint16(4, DATA, true);
    const offload = offloadOf(header, frame);
    expect(offload).toMatchObject({ family, segmentBytes: 0 });
    const pieces = [...wholeFrames(frame, offload as Exclude<typeof offload, "invalid" | undefined>)];
    expect(pieces).toEqual([frame]);
    expect(sumOf(pseudo(family, ip, tcp.length), frame.subarray(14 + ip.length))).toBe(0xffff);
  });

  it.each<[string, (given: ReturnType<typeof large>) => unknown]>([
    ["segments without a checksum", ({ header }) => header.setUint8(0, 0)],
    ["segments of UDP", ({ header }) => header.setUint8(1, 3)],
    ["the other family", ({ header }) => header.setUint8(1, family === 4 ? 4 : 1)],
    ["an unknown kind", ({ header }) => header.setUint8(1, 0x7f)],
    ["segments of nothing", ({ header }) => header.setUint16(4, 0, true)],
    ["segments of seven bytes", ({ header }) => header.setUint16(4, 7, true)],
    ["a checksum in the Ethernet header", ({ header }) => header.setUint16(6, 13, true)],
    ["a checksum before the TCP header", ({ header }) => header.setUint16(6, 20, true)],
    ["a checksum behind the frame", ({ header }) => header.setUint16(6, 0xffff, true)],
    ["a checksum's field behind the frame", ({ header }) => header.setUint16(8, 0xffff, true)],
    ["another field of TCP", ({ header }) => header.setUint16(8, 14, true)],
    ["a TCP header that ends before itself", ({ frame, ip }) => (frame[14 + ip.length + 12] = 0x40)],
    ["another ethertype", ({ frame }) => frame.writeUInt16BE(0x0806, 12)],
  ])("%s is not sent", (_, damage) => {
    const given = large(family);
    damage(given);
    expect(offloadOf(given.header, given.frame)).toBe("invalid");
  });
});

it("a UDP checksum that comes to zero is written as 0xffff", () => {
  const frame = Buffer.concat([Buffer.alloc(12), Buffer.from("0800", "hex"), Buffer.alloc(28)]);
  frame.writeUInt16BE(0xffff, 34);
  const header = new DataView(Uint8Array.of(1, 0, 0, 0, 0, 0, 34, 0, 6, 0, 0, 0).buffer);
  const offload = offloadOf(header, frame);
  const [whole] = wholeFrames(frame, offload as Exclude<typeof offload, "invalid" | undefined>);
  expect(Buffer.from(whole!).readUInt16BE(40)).toBe(0xffff);
});
