// DHCP (RFC 2131, 2132), the server's side: one address for each guest, by its Ethernet address, for ever.
import { sameBytes, type Mac } from "./ip-address.ts";
import { putU16, putU32, u16, u32 } from "./packet.ts";

export const DHCP_SERVER_PORT = 67;
export const DHCP_CLIENT_PORT = 68;
const MAGIC = 0x63825363;
const FIXED = 240;
/** BOOTP's least size, which some clients expect. */
const MIN_MESSAGE = 300;
const BOOTREQUEST = 1;
const BOOTREPLY = 2;
const DISCOVER = 1;
const OFFER = 2;
const REQUEST = 3;
const ACK = 5;
const NAK = 6;
const INFORM = 8;
const OPTION_MASK = 1;
const OPTION_ROUTER = 3;
const OPTION_DNS = 6;
const OPTION_HOSTNAME = 12;
const OPTION_DOMAIN = 15;
const OPTION_MTU = 26;
const OPTION_BROADCAST = 28;
const OPTION_REQUESTED = 50;
const OPTION_LEASE = 51;
const OPTION_TYPE = 53;
const OPTION_SERVER = 54;
const OPTION_SEARCH = 119;
const OPTION_END = 255;
/** QEMU's. */
const LEASE_SECONDS = 86_400;

export interface DhcpNetwork {
  readonly server: Uint8Array;
  readonly mask: Uint8Array;
  readonly broadcast: Uint8Array;
  readonly dns: Uint8Array;
  readonly mtu: number;
  readonly hostname?: string | undefined;
  readonly domain?: string | undefined;
  readonly search: readonly string[];
  /** Without them, the guest is told no router (restrict=on). */
  readonly isRouted: boolean;
}

export interface DhcpReply {
  readonly message: Uint8Array;
  /** The client's address, or undefined for a broadcast. */
  readonly to: Uint8Array | undefined;
  readonly mac: Mac;
}

/**
 * Answers a client's message. `lease` gives the address of a client, if it can the one that it wants;
 * undefined if there is none left.
 */
export function answerDhcp(
  message: Uint8Array,
  network: DhcpNetwork,
  lease: (mac: Mac, wanted: Uint8Array | undefined) => Uint8Array | undefined,
): DhcpReply | undefined {
  if (message.length < FIXED || message[0] !== BOOTREQUEST || u32(message, 236) !== MAGIC) return undefined;
  if (message[1] !== 1 || message[2] !== 6) return undefined;
  const options = readOptions(message);
  const type = options.get(OPTION_TYPE)?.[0] ?? DISCOVER;
  if (![DISCOVER, REQUEST, INFORM].includes(type)) return undefined;
  const server = options.get(OPTION_SERVER);
  // The request is for another server's offer.
  if (server !== undefined && !sameBytes(server, network.server)) return undefined;
  const mac = message.slice(28, 34);
  const current = message.slice(12, 16);
  const wanted = options.get(OPTION_REQUESTED) ?? (current.some((byte) => byte !== 0) ? current : undefined);
  const address = type === INFORM ? current : lease(mac, wanted);
  if (address === undefined) return undefined;
  const isRefused = type === REQUEST && wanted !== undefined && !sameBytes(wanted, address);
  const answer = type === DISCOVER ? OFFER : isRefused ? NAK : ACK;
  const bytes: number[] = [];
  const add = (option: number, value: ArrayLike<number>): void => {
    if (value.length > 0 && value.length <= 255) bytes.push(option, value.length, ...Array.from(value));
  };
  const text = (value: string): number[] => Array.from(value, (char) => char.charCodeAt(0) & 0x7f);
  const number32 = (value: number): number[] => [
    value >>> 24,
    (value >> 16) & 255,
    (value >> 8) & 255,
    value & 255,
  ];
  add(OPTION_TYPE, [answer]);
  add(OPTION_SERVER, network.server);
  if (!isRefused) {
    add(OPTION_MASK, network.mask);
    add(OPTION_BROADCAST, network.broadcast);
    if (network.isRouted) add(OPTION_ROUTER, network.server);
    add(OPTION_DNS, network.dns);
    if (type !== INFORM) add(OPTION_LEASE, number32(LEASE_SECONDS));
    add(OPTION_MTU, [network.mtu >> 8, network.mtu & 255]);
    add(OPTION_HOSTNAME, text(network.hostname ?? ""));
    add(OPTION_DOMAIN, text(network.domain ?? ""));
    add(
      OPTION_SEARCH,
      network.search.flatMap((name) => [
        ...name.split(".").flatMap((label) => [label.length, ...text(label)]),
        0,
      ]),
    );
  }
  bytes.push(OPTION_END);
  const reply = new Uint8Array(Math.max(MIN_MESSAGE, FIXED + bytes.length));
  reply.set([BOOTREPLY, 1, 6]);
  putU32(reply, 4, u32(message, 4));
  putU16(reply, 10, u16(message, 10));
  if (type === INFORM) reply.set(current, 12);
  if (!isRefused && type !== INFORM) reply.set(address, 16);
  if (!isRefused) reply.set(network.server, 20);
  reply.set(message.subarray(24, 44), 24);
  putU32(reply, 236, MAGIC);
  reply.set(bytes, FIXED);
  // RFC 2131 §4.1: to the address that the client has; a NAK and a client that asks for it get a broadcast.
  const isBroadcast = isRefused || (u16(message, 10) & 0x8000) !== 0;
  return { message: reply, to: isBroadcast ? undefined : address, mac };
}

function readOptions(message: Uint8Array): Map<number, Uint8Array> {
  const options = new Map<number, Uint8Array>();
  for (let at = FIXED; at < message.length; ) {
    const option = message[at]!;
    if (option === OPTION_END) break;
    if (option === 0) {
      at++;
      continue;
    }
    const length = message[at + 1] ?? 0;
    if (at + 2 + length > message.length) break;
    options.set(option, message.slice(at + 2, at + 2 + length));
    at += 2 + length;
  }
  return options;
}
