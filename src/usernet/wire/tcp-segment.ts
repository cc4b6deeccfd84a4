// TCP segments (RFC 9293) as bytes: header, MSS and window scale.
import { type IpPacket, putU16, putU32, u16, u32, upperSumIsRight } from "./packet.ts";

export const FIN = 1;
export const SYN = 2;
export const RST = 4;
export const PSH = 8;
export const ACK = 16;
export const TCP_HEADER = 20;
/** Where the checksum is. */
export const TCP_SUM_AT = 16;
const OPTION_MSS = 2;
const OPTION_WINDOW_SCALE = 3;
/** MSS, a byte to align, window scale. */
const SYN_OPTIONS = 8;
/** RFC 7323 §2.3. */
const MAX_SCALE = 14;

export interface TcpSegment {
  readonly sourcePort: number;
  readonly targetPort: number;
  readonly seq: number;
  readonly ack: number;
  readonly flags: number;
  /** Not scaled. */
  readonly window: number;
  /** Of a SYN: the options that it has. */
  readonly mss?: number | undefined;
  readonly scale?: number | undefined;
  readonly data: Uint8Array;
}

export function parseTcp(packet: IpPacket): TcpSegment | undefined {
  const { bytes, start, end } = packet;
  if (end - start < TCP_HEADER) return undefined;
  const header = (bytes[start + 12]! >> 4) * 4;
  if (header < TCP_HEADER || start + header > end || !upperSumIsRight(packet)) return undefined;
  const flags = bytes[start + 13]! & 0x3f;
  return {
    sourcePort: u16(bytes, start),
    targetPort: u16(bytes, start + 2),
    seq: u32(bytes, start + 4),
    ack: u32(bytes, start + 8),
    flags,
    window: u16(bytes, start + 14),
    ...((flags & SYN) === 0 ? {} : synOptions(bytes, start + TCP_HEADER, start + header)),
    data: bytes.subarray(start + header, end),
  };
}

function synOptions(bytes: Uint8Array, start: number, end: number): { mss?: number; scale?: number } {
  const found: { mss?: number; scale?: number } = {};
  for (let at = start; at < end; ) {
    const kind = bytes[at]!;
    if (kind === 0) break;
    if (kind === 1) {
      at++;
      continue;
    }
    const length = bytes[at + 1] ?? 0;
    if (length < 2 || at + length > end) break;
    if (kind === OPTION_MSS && length === 4) found.mss = u16(bytes, at + 2);
    if (kind === OPTION_WINDOW_SCALE && length === 3) found.scale = Math.min(MAX_SCALE, bytes[at + 2]!);
    at += length;
  }
  return found;
}

export const tcpHeaderBytes = (flags: number): number => TCP_HEADER + ((flags & SYN) === 0 ? 0 : SYN_OPTIONS);

/** Writes a header without its checksum. `scale` undefined: the peer's SYN had none. */
export function putTcpHeader(bytes: Uint8Array, at: number, segment: Omit<TcpSegment, "data">): void {
  const { flags, mss = 0, scale } = segment;
  putU16(bytes, at, segment.sourcePort);
  putU16(bytes, at + 2, segment.targetPort);
  putU32(bytes, at + 4, segment.seq);
  putU32(bytes, at + 8, segment.ack);
  bytes[at + 12] = (tcpHeaderBytes(flags) / 4) << 4;
  bytes[at + 13] = flags;
  putU16(bytes, at + 14, segment.window);
  if ((flags & SYN) === 0) return;
  bytes.set([OPTION_MSS, 4, mss >> 8, mss & 255, 1], at + TCP_HEADER);
  bytes.set(scale === undefined ? [1, 1, 1] : [OPTION_WINDOW_SCALE, 3, scale], at + TCP_HEADER + 5);
}
