// The link to the guests: their addresses on the Ethernet, the answers to what they ask the network itself
// (ARP, neighbour discovery, echo, DHCP), and the frames that wait for them.
import { answerDhcp, DHCP_CLIENT_PORT, DHCP_SERVER_PORT } from "./wire/dhcp.ts";
import {
  ECHO,
  echoReply,
  ICMP_SUM_AT,
  multicastMac,
  NEIGHBOUR_ADVERTISEMENT,
  NEIGHBOUR_SOLICITATION,
  neighbourAdvertisement,
  neighbourSolicitation,
  ROUTER_SOLICITATION,
  routerAdvertisement,
  solicitedNode,
  type Unreachable,
  unreachable,
} from "./wire/icmp-messages.ts";
import { addressKind, ipText, type Mac, parseIp, sameBytes, Subnet } from "./wire/ip-address.ts";
import {
  ARP_REPLY,
  ARP_REQUEST,
  arpFrame,
  BROADCAST_MAC,
  ETHERNET,
  finishIp,
  ICMP,
  ICMPV6,
  ipFrame,
  type IpPacket,
  parseArp,
  TCP,
  UDP,
  udpBytes,
  upperStart,
  upperSumIsRight,
} from "./wire/packet.ts";
import { TCP_HEADER, TCP_SUM_AT } from "./wire/tcp-segment.ts";
import { type FrameListener, NO_OFFLOADS, type GuestOffloads } from "./frame-offload.ts";
import type { NetPlatform } from "./transport/net-platform.ts";
import type { UserNetMemory } from "./saved-network.ts";
import type { UserNetConfig } from "./user-network-options.ts";

const MAX_NEIGHBOURS = 1024;
/** Frames that wait for a neighbour's address, for each. */
const MAX_PENDING = 3;
const MAX_PENDING_NEIGHBOURS = 64;
/** Datagrams and answers that wait for a guest that has no room; more are lost. */
const MAX_QUEUED_BYTES = 1 << 20;
const ADVERTISEMENT_MS = 600_000;
/** What a guest's link takes for certain: larger datagrams are fragmented. */
const SAFE_MTU = 1500;
const IPV6_PREFIX = Subnet.parse("fec0::/64")!;
const LINK_LOCAL = Subnet.parse("fe80::/64")!;
const ALL_NODES = parseIp("ff02::1")!;
export const LIMITED_BROADCAST: Uint8Array = Uint8Array.of(255, 255, 255, 255);
const UDP_SUM_AT = 6;

export class GuestLink {
  readonly #platform: NetPlatform;
  readonly #config: UserNetConfig;
  readonly #wake: () => void;
  /** The network's own Ethernet address, as QEMU makes it. */
  readonly mac: Mac;
  readonly ipv6: Readonly<Record<"gateway" | "dns" | "link", Uint8Array>> = {
    gateway: IPV6_PREFIX.host(2),
    dns: IPV6_PREFIX.host(3),
    link: LINK_LOCAL.host(2),
  };
  /** By the Ethernet address. */
  readonly #leases = new Map<string, Uint8Array>();
  readonly #neighbours = new Map<string, Mac>();
  readonly #pending = new Map<string, Uint8Array[]>();
  listener: FrameListener | undefined;
  /** What the guest's card takes. */
  offloads: GuestOffloads = NO_OFFLOADS;
  /** The guests have room. */
  receiving = true;
  #queued: Uint8Array[] = [];
  #queuedBytes = 0;
  /** When the next router advertisement is due; 0: no guest has asked for any. */
  advertiseAt = 0;
  #id = 0;

  /** `wake` is called when frames are queued. */
  constructor(platform: NetPlatform, config: UserNetConfig, wake: () => void) {
    this.#platform = platform;
    this.#config = config;
    this.#wake = wake;
    this.mac = Uint8Array.of(0x52, 0x55, ...config.gateway);
  }

  remember(): Pick<UserNetMemory, "leases" | "neighbours" | "isAdvertising"> {
    const macOf = (text: string): Mac => Uint8Array.from(text.split(","), Number);
    return {
      leases: [...this.#leases].map(([mac, address]) => ({ address, mac: macOf(mac) })),
      neighbours: [...this.#neighbours].map(([address, mac]) => ({ address: parseIp(address)!, mac })),
      isAdvertising: this.advertiseAt > 0,
    };
  }
  /** Guests of another network are here now. */
  takeOver({ leases, neighbours, isAdvertising }: ReturnType<GuestLink["remember"]>): void {
    // What waited was for the guests as they were.
    this.#queued = [];
    this.#queuedBytes = 0;
    this.#pending.clear();
    for (const { address, mac } of neighbours) if (this.isGuest(address)) this.learn(address, mac);
    for (const { address, mac } of leases) this.#giveLease(mac, address);
    // One that has its address by other means keeps it, too.
    for (const { address, mac } of neighbours) if (address.length === 4) this.#giveLease(mac, address);
    if (isAdvertising && this.#config.ipv6) this.advertise();
  }
  #giveLease(mac: Mac, address: Uint8Array): void {
    const key = mac.join();
    if (!this.isGuest(address) || this.#isTaken(address) || this.#leases.has(key)) return;
    if (this.#leases.size < MAX_NEIGHBOURS) this.#leases.set(key, address);
  }

  get hasQueued(): boolean {
    return this.#queued.length > 0;
  }
  /** Sends at most so many queued frames; returns their number. */
  drain(max: number): number {
    let n = 0;
    for (; n < max && this.receiving; n++) {
      const frame = this.#queued.shift();
      if (frame === undefined) break;
      this.#queuedBytes -= frame.length;
      this.listener?.(frame);
    }
    return n;
  }
  close(): void {
    this.#queued = [];
    this.listener = undefined;
  }

  isOurs(address: Uint8Array): boolean {
    const { gateway, dns } = this.#config;
    const ours = address.length === 4 ? [gateway, dns] : Object.values(this.ipv6);
    return ours.some((each) => sameBytes(each, address));
  }

  /** Where an address is on the Ethernet, if that is known. */
  macOf(address: Uint8Array): Mac | undefined {
    return this.#neighbours.get(ipText(address));
  }

  /** An address that a guest may have. */
  isGuest(address: Uint8Array): boolean {
    if (this.isOurs(address)) return false;
    const { subnet } = this.#config;
    if (address.length === 4) {
      return (
        subnet.contains(address) &&
        !sameBytes(address, subnet.broadcast) &&
        !sameBytes(address, subnet.host(0))
      );
    }
    return this.#config.ipv6 && (IPV6_PREFIX.contains(address) || LINK_LOCAL.contains(address));
  }

  /** In the guests' own network, but nobody that we know. */
  isLocal(address: Uint8Array): boolean {
    return (
      this.#config.subnet.contains(address) || IPV6_PREFIX.contains(address) || LINK_LOCAL.contains(address)
    );
  }

  learn(address: Uint8Array, mac: Mac): void {
    if ((mac[0]! & 1) !== 0) return;
    const key = ipText(address);
    const known = this.#neighbours.get(key);
    if (known !== undefined && sameBytes(known, mac)) return;
    this.#neighbours.delete(key);
    this.#neighbours.set(key, mac.slice());
    const [oldest] = this.#neighbours.keys();
    if (this.#neighbours.size > MAX_NEIGHBOURS && oldest !== undefined) this.#neighbours.delete(oldest);
    const waiting = this.#pending.get(key) ?? [];
    this.#pending.delete(key);
    for (const frame of waiting) {
      frame.set(mac, 0);
      this.#queue(frame);
    }
  }

  arp(frame: Uint8Array): void {
    const arp = parseArp(frame);
    if (arp === undefined) return;
    if (this.isGuest(arp.sender)) this.learn(arp.sender, arp.senderMac);
    const isOurs = arp.target.length === 4 && this.isOurs(arp.target);
    if (arp.operation === ARP_REQUEST && isOurs && !sameBytes(arp.sender, arp.target))
      this.#queue(arpFrame(ARP_REPLY, this.mac, arp.target, arp.senderMac, arp.sender));
  }

  /** Asks for the Ethernet address of a guest. */
  #solicit(address: Uint8Array): void {
    if (address.length === 4) {
      this.#queue(arpFrame(ARP_REQUEST, this.mac, this.#config.gateway, BROADCAST_MAC, address));
      return;
    }
    const target = solicitedNode(address);
    const source = LINK_LOCAL.contains(address) ? this.ipv6.link : this.ipv6.gateway;
    this.sendUpper(source, target, ICMPV6, neighbourSolicitation(address, this.mac), ICMP_SUM_AT, 255);
  }

  // What guests ask the network itself.

  /** Returns false if the packet needs no more. */
  neighbourDiscovery(packet: IpPacket): boolean {
    const { bytes, start, end, source, ttl } = packet;
    const type = bytes[start];
    if (end - start < 8 || !upperSumIsRight(packet)) return false;
    // RFC 4861 §6.1.1: what came through a router is not from the link.
    if (type === ROUTER_SOLICITATION && ttl === 255) {
      if (this.isGuest(source)) this.learn(source, bytes.subarray(6, 12));
      this.advertise();
    } else if (type === NEIGHBOUR_SOLICITATION && ttl === 255 && end - start >= 24) {
      const target = bytes.slice(start + 8, start + 24);
      // Without a source it asks whether another has the address.
      if (!this.isOurs(target) || !this.isGuest(source)) return false;
      this.learn(source, bytes.subarray(6, 12));
      const answer = neighbourAdvertisement(target, this.mac, true);
      this.sendUpper(target, source, ICMPV6, answer, ICMP_SUM_AT, 255);
    } else if (type === NEIGHBOUR_ADVERTISEMENT && ttl === 255 && end - start >= 24) {
      const target = bytes.slice(start + 8, start + 24);
      if (this.isGuest(target)) this.learn(target, bytes.subarray(6, 12));
    } else return type === ECHO[6];
    return false;
  }

  advertise(): void {
    const { mtu, restrict, allow } = this.#config;
    const message = routerAdvertisement({
      ...{ mac: this.mac, prefix: IPV6_PREFIX.address, dns: this.ipv6.dns, mtu },
      isRouter: !restrict || allow !== undefined,
    });
    this.sendUpper(this.ipv6.link, ALL_NODES, ICMPV6, message, ICMP_SUM_AT, 255);
    this.advertiseAt = this.#platform.nowMs() + ADVERTISEMENT_MS;
    this.#wake();
  }

  echo(packet: IpPacket): void {
    const { source, target, protocol, bytes, start, end } = packet;
    const isV4 = protocol === ICMP;
    if (end - start < 8 || isV4 !== (source.length === 4) || bytes[start] !== ECHO[isV4 ? 4 : 6]) return;
    if (this.isOurs(target)) this.sendUpper(target, source, protocol, echoReply(packet), ICMP_SUM_AT);
    // A socket for echoes needs a privilege.
    else if (addressKind(target) === "ordinary") this.refusePacket(packet, "prohibited");
  }

  refusePacket(packet: IpPacket, why: Unreachable): void {
    // Of fragments, the header is not there to be quoted.
    if (packet.start === 0) return;
    const { source } = packet;
    const isV4 = source.length === 4;
    const message = unreachable(packet, why, ETHERNET);
    const from = isV4 ? this.#config.gateway : this.ipv6.gateway;
    this.sendUpper(from, source, isV4 ? ICMP : ICMPV6, message, ICMP_SUM_AT);
  }

  dhcp(message: Uint8Array): void {
    const { subnet, gateway, dns, mtu, hostname, domain, search, restrict, allow } = this.#config;
    const reply = answerDhcp(
      message,
      {
        ...{
          server: gateway,
          mask: subnet.mask,
          broadcast: subnet.broadcast,
          dns,
          mtu,
          hostname,
          domain,
          search,
        },
        isRouted: !restrict || allow !== undefined,
      },
      (mac, wanted) => this.#lease(mac, wanted),
    );
    if (reply === undefined) return;
    const upper = udpBytes(DHCP_SERVER_PORT, DHCP_CLIENT_PORT, reply.message);
    const frame = ipFrame(gateway, upper.length);
    frame.set(upper, upperStart(gateway));
    const target = reply.to ?? LIMITED_BROADCAST;
    const to = reply.to === undefined ? BROADCAST_MAC : reply.mac;
    this.#queue(finishIp(frame, { from: this.mac, to, source: gateway, target, protocol: UDP }, UDP_SUM_AT));
  }

  #lease(mac: Mac, wanted: Uint8Array | undefined): Uint8Array | undefined {
    const key = mac.join();
    const has = this.#leases.get(key);
    if (has !== undefined) return has;
    if (this.#leases.size >= MAX_NEIGHBOURS) return undefined;
    const { firstGuest, subnet } = this.#config;
    let address = firstGuest;
    // A guest that came from elsewhere keeps its address.
    if (wanted?.length === 4 && this.isGuest(wanted) && !this.#isTaken(wanted)) address = wanted;
    while (this.#isTaken(address) || !this.isGuest(address)) {
      if (!subnet.contains(address) || address[3] === 255) return undefined;
      address = Uint8Array.of(...address.subarray(0, 3), address[3]! + 1);
    }
    this.#leases.set(key, address);
    return address;
  }
  #isTaken(address: Uint8Array): boolean {
    for (const each of this.#leases.values()) if (sameBytes(each, address)) return true;
    return false;
  }

  // Frames to the guests.

  sendDatagram(
    source: Uint8Array,
    sourcePort: number,
    target: Uint8Array,
    targetPort: number,
    data: Uint8Array,
  ): void {
    if (source.length !== target.length || data.length > 65_507) return;
    const upper = udpBytes(sourcePort, targetPort, data);
    if (source.length === 16 || 20 + upper.length <= SAFE_MTU) {
      this.sendUpper(source, target, UDP, upper, UDP_SUM_AT);
      return;
    }
    // The checksum is of the whole datagram.
    const whole = ipFrame(source, upper.length);
    const start = upperStart(source);
    whole.set(upper, start);
    finishIp(whole, { from: this.mac, to: this.mac, source, target, protocol: UDP }, UDP_SUM_AT);
    const step = (SAFE_MTU - 20) & ~7;
    const id = (this.#id = (this.#id + 1) & 0xffff);
    for (let at = 0; at < upper.length; at += step) {
      const piece = whole.subarray(start + at, start + Math.min(upper.length, at + step));
      const flags = (at + step < upper.length ? 0x2000 : 0) | (at >> 3);
      this.sendUpper(source, target, UDP, piece, undefined, 64, { id, flags });
    }
  }

  sendUpper(
    source: Uint8Array,
    target: Uint8Array,
    protocol: number,
    upper: Uint8Array,
    sumAt: number | undefined,
    ttl = 64,
    fragment?: { readonly id: number; readonly flags: number },
  ): void {
    const frame = ipFrame(source, upper.length);
    frame.set(upper, upperStart(source));
    this.sendIp(frame, source, target, protocol, sumAt, false, { ttl, ...fragment });
  }

  /**
   * A TCP segment for a guest that has room, larger than the MTU if the guest takes it so, as segments of
   * `segmentBytes`.
   */
  sendTcp(frame: Uint8Array, source: Uint8Array, target: Uint8Array, segmentBytes: number): void {
    const to = this.#neighbours.get(ipText(target));
    const { checksum } = this.offloads;
    if (!checksum || to === undefined) return this.sendIp(frame, source, target, TCP, TCP_SUM_AT, true);
    finishIp(frame, { from: this.mac, to, source, target, protocol: TCP }, TCP_SUM_AT, true);
    const start = upperStart(source);
    const headerBytes = start + TCP_HEADER;
    const isLarge = segmentBytes > 0 && frame.length - headerBytes > segmentBytes;
    this.listener?.(frame, {
      family: source.length === 4 ? 4 : 6,
      ...{ sumStart: start, sumOffset: TCP_SUM_AT, headerBytes },
      segmentBytes: isLarge ? segmentBytes : 0,
    });
  }

  /** `now`: the guest has room. */
  sendIp(
    frame: Uint8Array,
    source: Uint8Array,
    target: Uint8Array,
    protocol: number,
    sumAt: number | undefined,
    now = false,
    more: { readonly ttl?: number; readonly id?: number; readonly flags?: number } = {},
  ): void {
    const isMany = target.length === 16 && target[0] === 0xff;
    const to = isMany ? multicastMac(target) : this.#neighbours.get(ipText(target));
    finishIp(frame, { from: this.mac, to: to ?? BROADCAST_MAC, source, target, protocol, ...more }, sumAt);
    if (to === undefined) this.#awaitNeighbour(frame, target);
    else if (now) this.listener?.(frame);
    else this.#queue(frame);
  }

  #awaitNeighbour(frame: Uint8Array, target: Uint8Array): void {
    const key = ipText(target);
    const waiting = this.#pending.get(key) ?? [];
    waiting.push(frame);
    if (waiting.length > MAX_PENDING) waiting.shift();
    this.#pending.delete(key);
    this.#pending.set(key, waiting);
    const [oldest] = this.#pending.keys();
    if (this.#pending.size > MAX_PENDING_NEIGHBOURS && oldest !== undefined) this.#pending.delete(oldest);
    this.#solicit(target);
  }

  #queue(frame: Uint8Array): void {
    if (this.#queuedBytes + frame.length > MAX_QUEUED_BYTES) return;
    this.#queued.push(frame);
    this.#queuedBytes += frame.length;
    this.#wake();
  }
}
