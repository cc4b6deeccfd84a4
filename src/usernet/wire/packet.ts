// Frames: Ethernet with ARP, IPv4 or IPv6, and in those ICMP, TCP or UDP. A parser returns undefined for what
// is cut, has a wrong checksum or is not of this kind; builders leave room for what precedes them.
import { checksum, sum16 } from "../../base/internet-sum.ts";
import { sameBytes, type Mac } from "./ip-address.ts";

export const ETHERNET = 14;
export const ETHERTYPE_IPV4 = 0x0800;
export const ETHERTYPE_ARP = 0x0806;
export const ETHERTYPE_IPV6 = 0x86dd;
export const ICMP = 1;
export const TCP = 6;
export const UDP = 17;
export const ICMPV6 = 58;
export const BROADCAST_MAC: Mac = Uint8Array.of(255, 255, 255, 255, 255, 255);
const UDP_HEADER = 8;

export const u16 = (bytes: Uint8Array, at: number): number => (bytes[at]! << 8) | bytes[at + 1]!;
export const u32 = (bytes: Uint8Array, at: number): number =>
  ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0;
export function putU16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 8;
  bytes[at + 1] = value;
}
export function putU32(bytes: Uint8Array, at: number, value: number): void {
  putU16(bytes, at, value >>> 16);
  putU16(bytes, at + 2, value & 0xffff);
}

/** The sum of the pseudo-header of TCP, UDP and ICMPv6. */
function pseudoSum(source: Uint8Array, target: Uint8Array, protocol: number, length: number): number {
  let sum = protocol + (length & 0xffff) + (length >>> 16);
  for (let i = 0; i < source.length; i += 2) sum += u16(source, i) + u16(target, i);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return sum;
}

/** An IP packet as it came, or put together from its fragments. */
export interface IpPacket {
  readonly source: Uint8Array;
  readonly target: Uint8Array;
  readonly protocol: number;
  readonly ttl: number;
  /** The packet with its IP header; its upper layer is at [start, end). */
  readonly bytes: Uint8Array;
  readonly start: number;
  readonly end: number;
  /** Its sender left the upper layer's checksum out, by agreement: there is nothing to compare. */
  readonly isUnsummed?: boolean;
  /** An IPv4 fragment: all of a datagram's have the same id. */
  readonly fragment?: { readonly id: number; readonly offset: number; readonly more: boolean } | undefined;
}

/** `frame` from its Ethernet header. */
export function parseIpv4(frame: Uint8Array): IpPacket | undefined {
  const at = ETHERNET;
  if (frame.length < at + 20 || frame[at]! >> 4 !== 4) return undefined;
  const header = (frame[at]! & 15) * 4;
  const total = u16(frame, at + 2);
  if (header < 20 || total < header || at + total > frame.length) return undefined;
  if (sum16(frame, at, at + header) !== 0xffff) return undefined;
  const flags = u16(frame, at + 6);
  const fragment =
    (flags & 0x3fff) === 0
      ? undefined
      : { id: u16(frame, at + 4), offset: (flags & 0x1fff) * 8, more: (flags & 0x2000) !== 0 };
  return {
    source: frame.slice(at + 12, at + 16),
    target: frame.slice(at + 16, at + 20),
    protocol: frame[at + 9]!,
    ttl: frame[at + 8]!,
    bytes: frame,
    start: at + header,
    end: at + total,
    fragment,
  };
}

/** Extension headers are skipped, except for fragments: those packets are not taken. */
export function parseIpv6(frame: Uint8Array): IpPacket | undefined {
  const at = ETHERNET;
  if (frame.length < at + 40 || frame[at]! >> 4 !== 6) return undefined;
  const end = at + 40 + u16(frame, at + 4);
  if (end > frame.length) return undefined;
  let protocol = frame[at + 6]!;
  let start = at + 40;
  // Hop-by-hop, routing and destination options.
  while (protocol === 0 || protocol === 43 || protocol === 60) {
    if (start + 8 > end) return undefined;
    protocol = frame[start]!;
    start += 8 + 8 * frame[start + 1]!;
  }
  if (start > end) return undefined;
  const [source, target] = [frame.slice(at + 8, at + 24), frame.slice(at + 24, at + 40)];
  return { source, target, protocol, ttl: frame[at + 7]!, bytes: frame, start, end };
}

/** True if the checksum of the upper layer, over the pseudo-header, is right or left out. */
export function upperSumIsRight(packet: IpPacket): boolean {
  if (packet.isUnsummed === true) return true;
  const { bytes, source, target, protocol, start, end } = packet;
  return sum16(bytes, start, end, pseudoSum(source, target, protocol, end - start)) === 0xffff;
}

/** Where the upper layer begins in a frame to build. */
export const upperStart = (address: Uint8Array): number => ETHERNET + (address.length === 4 ? 20 : 40);

/** An empty frame with room for `length` bytes of the upper layer at `upperStart`. */
export const ipFrame = (address: Uint8Array, length: number): Uint8Array =>
  new Uint8Array(upperStart(address) + length);

export interface IpHeader {
  readonly from: Mac;
  readonly to: Mac;
  readonly source: Uint8Array;
  readonly target: Uint8Array;
  readonly protocol: number;
  readonly ttl?: number;
  /** IPv4: of a fragment, else 0. */
  readonly id?: number;
  readonly flags?: number;
}

/**
 * Fills in the headers of a frame whose upper layer is there. `sumAt`: where in it the checksum belongs;
 * `isPartial`: only the pseudo-header's sum, for a guest that adds the rest.
 */
export function finishIp(frame: Uint8Array, header: IpHeader, sumAt?: number, isPartial = false): Uint8Array {
  const { source, target, protocol } = header;
  const start = upperStart(source);
  const length = frame.length - start;
  frame.set(header.to, 0);
  frame.set(header.from, 6);
  const at = ETHERNET;
  if (source.length === 4) {
    putU16(frame, 12, ETHERTYPE_IPV4);
    frame[at] = 0x45;
    putU16(frame, at + 2, 20 + length);
    putU16(frame, at + 4, header.id ?? 0);
    putU16(frame, at + 6, header.flags ?? 0x4000);
    frame[at + 8] = header.ttl ?? 64;
    frame[at + 9] = protocol;
    frame.set(source, at + 12);
    frame.set(target, at + 16);
    putU16(frame, at + 10, checksum(frame, at, at + 20));
  } else {
    putU16(frame, 12, ETHERTYPE_IPV6);
    frame[at] = 0x60;
    putU16(frame, at + 4, length);
    frame[at + 6] = protocol;
    frame[at + 7] = header.ttl ?? 64;
    frame.set(source, at + 8);
    frame.set(target, at + 24);
  }
  if (sumAt !== undefined) {
    // ICMP of IPv4 has no pseudo-header. A UDP checksum of zero would mean none.
    const initial = protocol === ICMP ? 0 : pseudoSum(source, target, protocol, length);
    if (isPartial) {
      putU16(frame, start + sumAt, initial);
      return frame;
    }
    const sum = checksum(frame, start, frame.length, initial);
    putU16(frame, start + sumAt, sum === 0 && protocol === UDP ? 0xffff : sum);
  }
  return frame;
}

/** A UDP datagram: ports and where its data is in the packet. */
export interface Datagram {
  readonly sourcePort: number;
  readonly targetPort: number;
  readonly data: Uint8Array;
}

export function parseUdp(packet: IpPacket): Datagram | undefined {
  const { bytes, start, end } = packet;
  if (end - start < UDP_HEADER) return undefined;
  const length = u16(bytes, start + 4);
  if (length < UDP_HEADER || start + length > end) return undefined;
  // Without a checksum, in IPv4 only.
  const unchecked = u16(bytes, start + 6) === 0 && packet.source.length === 4;
  if (!unchecked && !upperSumIsRight({ ...packet, end: start + length })) return undefined;
  return {
    sourcePort: u16(bytes, start),
    targetPort: u16(bytes, start + 2),
    data: bytes.subarray(start + UDP_HEADER, start + length),
  };
}

/** The upper layer of a UDP datagram, without its checksum. */
export function udpBytes(sourcePort: number, targetPort: number, data: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(UDP_HEADER + data.length);
  putU16(bytes, 0, sourcePort);
  putU16(bytes, 2, targetPort);
  putU16(bytes, 4, bytes.length);
  bytes.set(data, UDP_HEADER);
  return bytes;
}

export interface ArpPacket {
  readonly operation: number;
  readonly senderMac: Mac;
  readonly sender: Uint8Array;
  readonly target: Uint8Array;
}
export const ARP_REQUEST = 1;
export const ARP_REPLY = 2;
/** Ethernet and IPv4, with addresses of 6 and 4 bytes. */
const ARP_KIND = Uint8Array.of(0, 1, 8, 0, 6, 4);

export function parseArp(frame: Uint8Array): ArpPacket | undefined {
  if (frame.length < ETHERNET + 28 || !sameBytes(frame.subarray(14, 20), ARP_KIND)) return undefined;
  return {
    operation: u16(frame, 20),
    senderMac: frame.slice(22, 28),
    sender: frame.slice(28, 32),
    target: frame.slice(38, 42),
  };
}

export function arpFrame(
  operation: number,
  senderMac: Mac,
  sender: Uint8Array,
  to: Mac,
  target: Uint8Array,
): Uint8Array {
  const frame = new Uint8Array(ETHERNET + 28);
  frame.set(to, 0);
  frame.set(senderMac, 6);
  putU16(frame, 12, ETHERTYPE_ARP);
  frame.set(ARP_KIND, 14);
  putU16(frame, 20, operation);
  frame.set(senderMac, 22);
  frame.set(sender, 28);
  if (operation === ARP_REPLY) frame.set(to, 32);
  frame.set(target, 38);
  return frame;
}
