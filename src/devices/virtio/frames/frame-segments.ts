// What a network card does for its guest where the network behind it does not: the checksum of a frame, and
// the segments of a large one of TCP (virtio 1.3 §5.1.6.2). Guests write both the header and the frame.
import { checksum, finishSum } from "../../../base/internet-sum.ts";

/**
 * What a frame leaves to its receiver, which takes a packet of one TCP connection as a whole: the checksum
 * from `sumStart` on, of which the field at `sumOffset` behind has the pseudo-header's sum; with
 * `segmentBytes`, the frame counts as segments with so many bytes of data, and is larger than the MTU.
 */
export interface FrameOffload {
  readonly family: 4 | 6;
  readonly sumStart: number;
  readonly sumOffset: number;
  /** 0: one segment. */
  readonly segmentBytes: number;
  readonly headerBytes: number;
}

/** struct virtio_net_hdr (§5.1.6). */
export const VIRTIO_NET_HDR_F_NEEDS_CSUM = 1;
export const VIRTIO_NET_HDR_GSO_TCP = { 4: 1, 6: 4 } as const;
const VIRTIO_NET_HDR_GSO_ECN = 0x80;

const ETHERNET = 14;
const VLAN_TAG = 4;
const ETHERTYPE = { 4: 0x0800, 6: 0x86dd } as const;
const ETHERTYPE_VLAN = 0x8100;
const TCP = 6;
const TCP_HEADER = 20;
const TCP_SUM_AT = 16;
const [TCP_FIN, TCP_PSH, TCP_CWR] = [1, 8, 0x80] as const;
/** Linux's least: 48 bytes without the largest options. It bounds how many segments a frame becomes. */
const MIN_SEGMENT = 8;

const viewOf = (bytes: Uint8Array): DataView =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
const networkStart = (frame: DataView): number =>
  frame.getUint16(12) === ETHERTYPE_VLAN ? ETHERNET + VLAN_TAG : ETHERNET;

/**
 * What the header of a frame leaves to the card; undefined: nothing. `invalid`: no such frame can be sent.
 * The frame has an Ethernet header; a large one is split at the header that it has, whatever hdr_len says.
 */
export function offloadOf(header: DataView, bytes: Uint8Array): FrameOffload | "invalid" | undefined {
  const kind = header.getUint8(1) & ~VIRTIO_NET_HDR_GSO_ECN;
  if ((header.getUint8(0) & VIRTIO_NET_HDR_F_NEEDS_CSUM) === 0) return kind === 0 ? undefined : "invalid";
  const [sumStart, sumOffset] = [header.getUint16(6, true), header.getUint16(8, true)];
  if (sumStart < ETHERNET || sumStart + sumOffset + 2 > bytes.length) return "invalid";
  const frame = viewOf(bytes);
  const isIpv6 = kind === 0 ? frame.getUint16(12) === ETHERTYPE[6] : kind === VIRTIO_NET_HDR_GSO_TCP[6];
  const family = isIpv6 ? 6 : 4;
  const whole = { family, sumStart, sumOffset, segmentBytes: 0, headerBytes: 0 } as const;
  if (kind === 0) return whole;
  const segmentBytes = header.getUint16(4, true);
  const ip = networkStart(frame);
  if (kind !== VIRTIO_NET_HDR_GSO_TCP[family] || segmentBytes < MIN_SEGMENT) return "invalid";
  if (sumOffset !== TCP_SUM_AT || sumStart + TCP_HEADER > bytes.length) return "invalid";
  if (frame.getUint16(ip - 2) !== ETHERTYPE[family] || sumStart < ip + (isIpv6 ? 40 : 20)) return "invalid";
  const isTcp = isIpv6 || (ip + (bytes[ip]! & 15) * 4 === sumStart && bytes[ip + 9] === TCP);
  const headerBytes = sumStart + (bytes[sumStart + 12]! >> 4) * 4;
  if (!isTcp || headerBytes < sumStart + TCP_HEADER || headerBytes > bytes.length) return "invalid";
  return bytes.length - headerBytes <= segmentBytes ? whole : { ...whole, segmentBytes, headerBytes };
}

/** The frames that go on the wire, with their checksums: the frame itself if it is one segment. */
export function* wholeFrames(bytes: Uint8Array, offload: FrameOffload): Generator<Uint8Array, void> {
  const { family, sumStart, sumOffset, segmentBytes, headerBytes } = offload;
  if (segmentBytes === 0) {
    finishSum(bytes, offload);
    yield bytes;
    return;
  }
  const frame = viewOf(bytes);
  const ip = networkStart(frame);
  const sum = frame.getUint16(sumStart + sumOffset);
  const [id, seq, flags] = [frame.getUint16(ip + 4), frame.getUint32(sumStart + 4), bytes[sumStart + 13]!];
  for (let at = headerBytes, n = 0; at < bytes.length; at += segmentBytes, n++) {
    const data = bytes.subarray(at, at + segmentBytes);
    const segment = new Uint8Array(headerBytes + data.length);
    segment.set(bytes.subarray(0, headerBytes));
    segment.set(data, headerBytes);
    const view = viewOf(segment);
    if (family === 4) {
      view.setUint16(ip + 2, segment.length - ip);
      view.setUint16(ip + 4, id + n);
      view.setUint16(ip + 10, 0);
      view.setUint16(ip + 10, checksum(segment, ip, sumStart));
    } else view.setUint16(ip + 4, segment.length - ip - 40);
    view.setUint32(sumStart + 4, seq + at - headerBytes);
    const later = at + segmentBytes < bytes.length ? TCP_FIN | TCP_PSH : 0;
    segment[sumStart + 13] = flags & ~(later | (n > 0 ? TCP_CWR : 0));
    // The pseudo-header has the length: the whole frame's is taken out of its sum, the segment's put in.
    let pseudo = sum + (~(bytes.length - sumStart) & 0xffff) + (segment.length - sumStart);
    while (pseudo > 0xffff) pseudo = (pseudo & 0xffff) + (pseudo >>> 16);
    view.setUint16(sumStart + sumOffset, pseudo);
    finishSum(segment, offload);
    yield segment;
  }
}
