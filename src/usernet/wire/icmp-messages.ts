// ICMP and ICMPv6 (RFC 792, 4443, 4861, 8106), as bytes of the upper layer without their checksums.
import type { Mac } from "./ip-address.ts";
import { ICMP, type IpPacket, putU16, putU32 } from "./packet.ts";

/** Where the checksum is. */
export const ICMP_SUM_AT = 2;
export const ECHO = { 4: 8, 6: 128 } as const;
const ECHO_REPLY = { 4: 0, 6: 129 } as const;
export const ROUTER_SOLICITATION = 133;
const ROUTER_ADVERTISEMENT = 134;
export const NEIGHBOUR_SOLICITATION = 135;
export const NEIGHBOUR_ADVERTISEMENT = 136;
const OPTION_SOURCE = 1;
const OPTION_TARGET = 2;
const OPTION_PREFIX = 3;
const OPTION_MTU = 5;
const OPTION_RDNSS = 25;
const FOREVER = 0xffff_ffff;
/** The most that RFC 4861 permits. */
const ROUTER_SECONDS = 9000;

export function echoReply({ protocol, bytes, start, end }: IpPacket): Uint8Array {
  const reply = bytes.slice(start, end);
  reply[0] = ECHO_REPLY[protocol === ICMP ? 4 : 6];
  putU16(reply, ICMP_SUM_AT, 0);
  return reply;
}

export type Unreachable = "prohibited" | "port";

/** The answer to a packet that cannot be delivered, with its beginning. */
export function unreachable(
  { bytes, start, source }: IpPacket,
  why: Unreachable,
  ethernet: number,
): Uint8Array {
  const isV4 = source.length === 4;
  const quoted = bytes.subarray(ethernet, Math.min(bytes.length, start + (isV4 ? 8 : 512)));
  const message = new Uint8Array(8 + quoted.length);
  message[0] = isV4 ? 3 : 1;
  message[1] = why === "port" ? (isV4 ? 3 : 4) : isV4 ? 13 : 1;
  message.set(quoted, 8);
  return message;
}

const linkAddress = (option: number, mac: Mac): number[] => [option, 1, ...mac];

/** `solicited`: the answer to a solicitation, not an announcement. */
export function neighbourAdvertisement(address: Uint8Array, mac: Mac, solicited: boolean): Uint8Array {
  const flags = 0x80 | (solicited ? 0x40 : 0) | 0x20;
  const head = [NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, flags, 0, 0, 0];
  return Uint8Array.from([...head, ...address, ...linkAddress(OPTION_TARGET, mac)]);
}

export function neighbourSolicitation(address: Uint8Array, mac: Mac): Uint8Array {
  const head = [NEIGHBOUR_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
  return Uint8Array.from([...head, ...address, ...linkAddress(OPTION_SOURCE, mac)]);
}

/** The multicast address at which a neighbour is asked. */
export function solicitedNode(address: Uint8Array): Uint8Array {
  const node = Uint8Array.of(0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 0);
  node.set(address.subarray(13), 13);
  return node;
}
/** The Ethernet address of an IPv6 multicast address. */
export const multicastMac = (address: Uint8Array): Mac => Uint8Array.of(0x33, 0x33, ...address.subarray(12));

export interface Advertised {
  readonly mac: Mac;
  /** 64 bits. */
  readonly prefix: Uint8Array;
  readonly dns: Uint8Array;
  readonly mtu: number;
  /** It routes to the outside. */
  readonly isRouter: boolean;
}

export function routerAdvertisement({ mac, prefix, dns, mtu, isRouter }: Advertised): Uint8Array {
  const lifetime = isRouter ? ROUTER_SECONDS : 0;
  const head = [ROUTER_ADVERTISEMENT, 0, 0, 0, 64, 0, lifetime >> 8, lifetime & 255, 0, 0, 0, 0, 0, 0, 0, 0];
  // On the link, and for addresses that guests make themselves.
  const prefixOption = [OPTION_PREFIX, 4, 64, 0xc0, ...Array<number>(12).fill(0), ...prefix];
  const mtuOption = [OPTION_MTU, 1, 0, 0, 0, 0, mtu >> 8, mtu & 255];
  const dnsOption = [OPTION_RDNSS, 3, 0, 0, 0, 0, 0, 0, ...dns];
  const bytes = Uint8Array.from([
    ...head,
    ...linkAddress(OPTION_SOURCE, mac),
    ...prefixOption,
    ...mtuOption,
    ...dnsOption,
  ]);
  const prefixAt = head.length + 8;
  putU32(bytes, prefixAt + 4, FOREVER);
  putU32(bytes, prefixAt + 8, FOREVER);
  putU32(bytes, prefixAt + prefixOption.length + mtuOption.length + 4, FOREVER);
  return bytes;
}
