// A network for guests behind this host, as QEMU's user network: a gateway that answers ARP, neighbour
// discovery and echo, gives addresses by DHCP and router advertisements, relays names, and carries TCP and
// UDP over the host's sockets. It needs no privilege, and knows its platform only by NetPlatform.
//
// It is a network card's backend, or an end on a switch: `send` takes the guests' frames, `onFrame` gives
// theirs. Nothing is made for a guest that has no room: connections wait until it has (`setReceiving`).
import { messageOf } from "../base/errors.ts";
import { finishSum, type PartialSum } from "../base/internet-sum.ts";
import { ConnectionLog, type ConnectionEvent, type OnConnection } from "./connection-log.ts";
import { DHCP_SERVER_PORT } from "./wire/dhcp.ts";
import { type FrameListener, NO_OFFLOADS, type GuestOffloads, type TcpOffload } from "./frame-offload.ts";
import { GuestLink, LIMITED_BROADCAST } from "./guest-link.ts";
import { DnsRelay } from "./dns-relay.ts";
import { Fragments } from "./wire/fragments.ts";
import { addressKind, ipText, parseIp, sameBytes } from "./wire/ip-address.ts";
import type {
  AcceptStream,
  NetListener,
  NetPlatform,
  NetStream,
  StreamEvents,
} from "./transport/net-platform.ts";
import { type ForwardRule, NetRules, parseForward, type Refusal } from "./net-rules.ts";
import { PortForwards } from "./port-forwards.ts";
import {
  ETHERNET,
  ETHERTYPE_ARP,
  ETHERTYPE_IPV4,
  ETHERTYPE_IPV6,
  ICMP,
  ICMPV6,
  ipFrame,
  type IpPacket,
  parseIpv4,
  parseIpv6,
  parseUdp,
  TCP,
  u16,
  UDP,
  upperStart,
} from "./wire/packet.ts";
import { type DatagramEnds, flowKey, type ForwardPeer, placeText } from "./transport/ends.ts";
import { type OutgoingSegment, TcpConnection, type TcpLink } from "./transport/tcp-connection.ts";
import {
  ACK,
  FIN,
  parseTcp,
  putTcpHeader,
  RST,
  SYN,
  TCP_SUM_AT,
  tcpHeaderBytes,
  type TcpSegment,
} from "./wire/tcp-segment.ts";
import { SAVED, type UserNetMemory } from "./saved-network.ts";
import { type UdpRemote, UdpRelay } from "./transport/udp-relay.ts";
import { userNetConfig, type UserNetConfig, type UserNetOptions } from "./user-network-options.ts";

/** Bytes that all connections keep together, above which each keeps little. */
const BUDGET_BYTES = 64 << 20;
const MAX_KEPT = 512 << 10;
const MIN_KEPT = 16 << 10;
const MAX_CONNECTIONS = 4096;
/** Data in one frame, for IPv4 and IPv6: a packet has at most 65,535 bytes. */
const MAX_BURST = 65_475;
/** Frames in a row before other events are handled, and those of one connection before the next one's. */
const MAX_IN_A_ROW = 256;
const MAX_OF_ONE = 8;
const TICK_MS = 100;
const IDLE_TICK_MS = 30_000;
const UNSPECIFIED = [new Uint8Array(4), new Uint8Array(16)];
const DNS_PORT = 53;
const LOOPBACK = { 4: "127.0.0.1", 6: "::1" } as const;

interface Flow {
  readonly connection: TcpConnection;
  readonly key: string;
  readonly guest: Uint8Array;
  readonly guestPort: number;
  readonly remote: Uint8Array;
  readonly remotePort: number;
  readonly direction: "out" | "in";
  readonly name: string | undefined;
  isQueued: boolean;
}

/** A connection as `info usernet` shows it. */
export interface UserNetConnection {
  readonly protocol: "tcp" | "udp";
  readonly state: string;
  readonly guest: string;
  readonly remote: string;
}

/** A user network; `openUserNetwork` opens one. */
export class UserNetwork {
  readonly #platform: NetPlatform;
  readonly #config: UserNetConfig;
  readonly #rules: NetRules;
  readonly #log: ConnectionLog;
  readonly #dns: DnsRelay;
  readonly #udp: UdpRelay;
  readonly #guests: GuestLink;
  readonly #fragments = new Fragments();
  readonly #flows = new Map<string, Flow>();
  readonly #byConnection = new Map<TcpConnection, Flow>();
  readonly #links: { readonly 4: TcpLink; readonly 6: TcpLink };
  readonly #forwards: PortForwards;
  readonly #exposed = new Map<number, (events: StreamEvents) => NetStream>();
  #kept = 0;
  #ready: Flow[] = [];
  #isScheduled = false;
  #isOwn: ((mac: Uint8Array) => boolean) | undefined;
  #tick: { readonly at: number; cancel(): void } | undefined;
  #closed = false;
  /** Counts arrivals and departures of machines: what an earlier one began must stop. */
  #stay = 0;
  /** Datagrams' ports and forwarded ports' peers while no machine is here. */
  #resting: Pick<UserNetMemory, "datagrams" | "peers"> | undefined;

  private constructor(platform: NetPlatform, config: UserNetConfig) {
    this.#platform = platform;
    this.#config = config;
    this.#guests = new GuestLink(platform, config, () => this.#schedule());
    const nowMs = (): number => platform.nowMs();
    this.#log = new ConnectionLog(nowMs);
    this.#rules = new NetRules(config, () => platform.ownAddresses(), nowMs);
    this.#dns = new DnsRelay(platform, this.#rules, (name) =>
      this.#log.add({
        kind: "refused",
        protocol: "dns",
        direction: "out",
        name,
        reason: "not in the allow-list",
      }),
    );
    this.#udp = new UdpRelay(platform, (remote, guest, guestPort, data) =>
      this.#guests.sendDatagram(remote.seen, remote.seenPort, guest, guestPort, data),
    );
    this.#forwards = new PortForwards({
      firstGuest: config.firstGuest,
      isGuest: (address) => this.#guests.isGuest(address),
      listen: (rule, guest, port) => this.#listen(rule, guest, port),
    });
    this.#links = { 4: this.#tcpLink(4, config.mtu - 40), 6: this.#tcpLink(6, config.mtu - 60) };
  }

  /**
   * Opens the forwarded ports; with `isAwaiting` they wait for a machine that arrives (`resume`), since its
   * source may still have them. Rejects with UserNetError; then nothing is left open.
   */
  static async open(
    platform: NetPlatform,
    options: UserNetOptions,
    isAwaiting = false,
  ): Promise<UserNetwork> {
    const network = new UserNetwork(platform, userNetConfig(options));
    try {
      for (const rule of network.#config.forwards) await network.#forwards.add(rule, { isAwaiting });
    } catch (error) {
      network.close();
      throw error;
    }
    return network;
  }

  // A network card's backend.

  /** A frame of a guest, and what it leaves to the network, which may keep and change its bytes. */
  send(frame: Uint8Array, offload?: Pick<TcpOffload, "sumStart" | "sumOffset">): void {
    if (this.#closed || frame.length < ETHERNET) return;
    const type = u16(frame, 12);
    if (type === ETHERTYPE_ARP) return this.#guests.arp(frame);
    // For another guest of a switch.
    if ((frame[0]! & 1) === 0 && !sameBytes(frame.subarray(0, 6), this.#guests.mac)) return;
    if (type === ETHERTYPE_IPV4) this.#ipv4(frame, offload);
    else if (type === ETHERTYPE_IPV6 && this.#config.ipv6) this.#ip6(frame, offload);
  }

  /** The latest listener receives the frames, and is to say what it can be left to do (`setOffloads`). */
  onFrame(listener: FrameListener): void {
    this.#guests.listener = listener;
    this.#guests.offloads = NO_OFFLOADS;
    this.setReceiving(true);
  }

  /** The listener's guest takes large frames of TCP, and checksums itself. */
  setOffloads(offloads: GuestOffloads): void {
    if (this.#config.offload) this.#guests.offloads = offloads;
  }

  /** Frames may have more data than the MTU, if the guest's card takes them. */
  get hasOffloads(): boolean {
    return this.#config.offload;
  }

  setReceiving(on: boolean): void {
    this.#guests.receiving = on;
    if (on) this.#schedule();
  }

  // The host's side.

  /** Hears of each connection. A listener that throws is the caller's fault. */
  onConnection(listener: OnConnection | undefined): void {
    this.#log.listen(listener);
  }

  /**
   * Forwards a port of the host: QEMU's notation. Resolves with the port. `isTransient`: it is not saved.
   * Rejects with UserNetError.
   */
  async forward(text: string, isTransient = false): Promise<number> {
    return this.#forwards.add(parseForward(text), { isTransient });
  }

  /** Ends what `[tcp|udp]:[HOSTADDR]:HOSTPORT` names. Returns false if there is none. Throws UserNetError. */
  unforward(text: string): boolean {
    return this.#forwards.remove(text);
  }

  /** The network is on a switch; `isOwn` tells the Ethernet addresses of the machine whose network it is. */
  joinSwitch(isOwn: (mac: Uint8Array) => boolean): void {
    this.#isOwn = isOwn;
  }

  /**
   * The IPv4 address of the machine whose network it is, among others on a switch: null if it is not known,
   * undefined if there are no others.
   */
  get ownGuest(): string | null | undefined {
    if (this.#isOwn === undefined) return undefined;
    const { neighbours } = this.#guests.remember();
    const own = neighbours.findLast(({ address, mac }) => address.length === 4 && this.#isOwn!(mac));
    return own === undefined ? null : ipText(own.address);
  }

  /** The forwarded ports that are open, in QEMU's notation. */
  get forwards(): string[] {
    return this.#forwards.list();
  }

  /**
   * Connects to a port of a guest (default: the first), as from the gateway. `stream` is the host's end; the
   * events that are returned are for it. Undefined: there are too many connections.
   */
  dial(
    stream: NetStream,
    guestPort: number,
    guest: Uint8Array = this.#config.firstGuest,
  ): StreamEvents | undefined {
    const remote = guest.length === 4 ? this.#config.gateway : this.#guests.ipv6.gateway;
    for (let tries = 0; tries < 16; tries++) {
      const port = 49_152 + (u16(this.#platform.randomBytes(2), 0) & 0x3fff);
      if (!this.#flows.has(flowKey(guest, guestPort, remote, port)))
        return this.#toGuest(stream, guest, guestPort, remote, port);
    }
    return undefined;
  }

  /** Guests reach this at a port of the gateway. Undefined ends it. */
  expose(port: number, open: ((events: StreamEvents) => NetStream) | undefined): void {
    if (open === undefined) this.#exposed.delete(port);
    else this.#exposed.set(port, open);
  }

  get connections(): UserNetConnection[] {
    const tcp = [...this.#flows.values()].map((flow) => ({
      protocol: "tcp" as const,
      state: flow.connection.phase,
      guest: placeText(flow.guest, flow.guestPort),
      remote: placeText(flow.remote, flow.remotePort),
    }));
    const udp = this.#udp.list().flatMap(({ guest, guestPort, remotes }) =>
      remotes.map(({ seen, seenPort }) => ({
        protocol: "udp" as const,
        state: `${ipText(seen).includes(":") ? "v6" : "v4"}`,
        guest: `${guest}:${guestPort}`,
        remote: placeText(seen, seenPort),
      })),
    );
    return [...tcp, ...udp];
  }

  /** Bytes that all connections keep. */
  get keptBytes(): number {
    return this.#kept;
  }

  // Machines that are saved, leave and arrive.

  /** Hears of forwarded ports that an arriving machine brings, or that cannot be opened for it. */
  onWarning(listener: ((message: string) => void) | undefined): void {
    this.#forwards.warn = listener ?? (() => {});
  }

  /** What another network needs to take over this one's guests. */
  remember(): UserNetMemory {
    const connections = [...this.#flows.values()].flatMap(
      ({ connection: { position }, guest, guestPort, remote, remotePort }) =>
        position === undefined ? [] : [{ guest, guestPort, remote, remotePort, ...position }],
    );
    return {
      ...this.#guests.remember(),
      ...{ connections, forwards: this.#forwards.remember() },
      ...(this.#resting ?? this.#datagramMemory()),
      names: this.#rules.namesInUse(SAVED.names),
    };
  }

  /** The machine leaves: gives up the host's ports, which its next place may need. */
  suspend(): void {
    this.#stay++;
    this.#resting ??= this.#datagramMemory();
    this.#forwards.suspend();
    this.#udp.endFlows();
  }
  #datagramMemory(): Pick<UserNetMemory, "datagrams" | "peers"> {
    return { datagrams: this.#udp.remember(), peers: this.#udp.rememberPeers() };
  }

  /**
   * The machine is here: opens the ports again. With a saved machine's memory, takes its guests over: goes on
   * with their connections if this network has them as they were then, and resets the others at once.
   */
  async resume(memory?: UserNetMemory): Promise<void> {
    if (this.#closed) return;
    const stay = ++this.#stay;
    const isHere = (): boolean => this.#stay === stay;
    const resting = this.#resting ?? { datagrams: [], peers: [] };
    this.#resting = undefined;
    if (memory !== undefined) {
      this.#guests.takeOver(memory);
      this.#fragments.clear();
      this.#continue(memory.connections);
    }
    let refused = this.#expect(memory?.datagrams ?? resting.datagrams);
    if (memory !== undefined)
      void this.#dns.askAgain(memory.names, isHere, () => {
        refused = this.#expect(refused);
      });
    // Those that were heard here are known; what a state says must be what the rules permit.
    const brought = (memory?.peers ?? []).filter((peer) => this.#isPermitted(peer));
    this.#udp.expectPeers([...resting.peers, ...brought]);
    await this.#forwards.resume(memory?.forwards ?? []);
    if (isHere()) this.#udp.expectPeers([]);
  }
  #isPermitted({ remote, remotePort, address }: ForwardPeer): boolean {
    const place = this.#place(remote, remotePort);
    return typeof place !== "string" && place.address === ipText(address);
  }

  /** Resets the host's ends of the connections of the machine, which has left. */
  endConnections(reason: string): void {
    for (const { connection, guest } of [...this.#flows.values()])
      if (this.#isOwnGuest(guest)) connection.drop(reason);
  }

  /** Opens the guests' ports for datagrams. Returns those whose remote ends may not be reached, yet. */
  #expect(datagrams: readonly DatagramEnds[]): DatagramEnds[] {
    return datagrams.filter(({ guest, guestPort, remote, remotePort, hostPort }) => {
      if (!this.#guests.isGuest(guest)) return false;
      const place = this.#place(remote, remotePort);
      if (typeof place === "string") return true;
      const ends: UdpRemote = { seen: remote, seenPort: remotePort, ...place };
      if (this.#udp.expect(guest, guestPort, ends, hostPort))
        this.#logUdp("open", guest, guestPort, remote, remotePort);
      this.#scheduleTick(IDLE_TICK_MS);
      return false;
    });
  }

  /** Of the machine that has this network; the others on a switch are not set back with it. */
  #isOwnGuest(address: Uint8Array): boolean {
    const mac = this.#guests.macOf(address);
    return this.#isOwn === undefined || (mac !== undefined && this.#isOwn(mac));
  }

  #continue(connections: UserNetMemory["connections"]): void {
    const kept = new Set<Flow>();
    for (const { guest, guestPort, remote, remotePort, ...position } of connections) {
      if (!this.#guests.isGuest(guest)) continue;
      const flow = this.#flows.get(flowKey(guest, guestPort, remote, remotePort));
      if (flow?.connection.continueAt(position) === true) {
        kept.add(flow);
        continue;
      }
      // The guest has all that was sent, or what it acknowledged; else its answer gets a reset that fits.
      const { sent, acked, expected } = position;
      for (const seq of new Set([sent, acked]))
        this.#sendReset(guest, guestPort, remote, remotePort, seq, expected);
    }
    for (const flow of [...this.#flows.values()])
      if (!kept.has(flow) && flow.connection.position !== undefined && this.#isOwnGuest(flow.guest))
        flow.connection.drop("the guest was set back to a time without it");
  }

  /** Ends everything. */
  close(): void {
    if (this.#closed) return;
    this.#stay++;
    this.#forwards.close();
    for (const { connection } of [...this.#flows.values()]) connection.abort("the network is closed");
    this.#closed = true;
    this.#udp.close();
    this.#tick?.cancel();
    this.#guests.close();
    this.#ready = [];
  }

  // Packets of the guests.

  #ipv4(frame: Uint8Array, offload: PartialSum | undefined): void {
    const packet = withoutSum(parseIpv4(frame), offload);
    if (packet === undefined) return;
    const { source, target } = packet;
    const hasAddress = this.#guests.isGuest(source);
    if (hasAddress) this.#guests.learn(source, frame.subarray(6, 12));
    const whole =
      packet.fragment === undefined ? packet : this.#fragments.add(packet, this.#platform.nowMs());
    if (whole === undefined) return;
    // A client without an address asks for one.
    if (whole.protocol === UDP && (hasAddress || sameBytes(source, UNSPECIFIED[0]!))) {
      const { gateway, subnet } = this.#config;
      const isForUs = [LIMITED_BROADCAST, gateway, subnet.broadcast].some((each) => sameBytes(each, target));
      const datagram = isForUs ? parseUdp(whole) : undefined;
      if (datagram?.targetPort === DHCP_SERVER_PORT) return this.#guests.dhcp(datagram.data);
    }
    if (hasAddress) this.#packet(whole);
  }

  #ip6(frame: Uint8Array, offload: PartialSum | undefined): void {
    const packet = withoutSum(parseIpv6(frame), offload);
    if (packet === undefined) return;
    if (packet.protocol === ICMPV6 && !this.#guests.neighbourDiscovery(packet)) return;
    if (!this.#guests.isGuest(packet.source)) return;
    this.#guests.learn(packet.source, frame.subarray(6, 12));
    this.#packet(packet);
  }

  #packet(packet: IpPacket): void {
    if (packet.protocol === TCP) this.#tcp(packet);
    else if (packet.protocol === UDP) this.#datagram(packet);
    else if (packet.protocol === ICMP || packet.protocol === ICMPV6) this.#guests.echo(packet);
  }

  // UDP.

  #datagram(packet: IpPacket): void {
    const datagram = parseUdp(packet);
    if (datagram === undefined || datagram.targetPort === 0) return;
    const { source, target } = packet;
    const { sourcePort, targetPort, data } = datagram;
    const { dns } = target.length === 4 ? this.#config : this.#guests.ipv6;
    if (sameBytes(target, dns)) {
      if (targetPort !== DNS_PORT) return this.#guests.refusePacket(packet, "port");
      const query = data.slice();
      void this.#dns.answerUdp(query).then((answer) => {
        if (answer !== undefined && !this.#closed)
          this.#guests.sendDatagram(target, targetPort, source, sourcePort, answer);
      });
      return;
    }
    if (this.#udp.answerForward(source, sourcePort, ipText(target), targetPort, data)) return;
    const place = this.#place(target, targetPort);
    if (typeof place === "string") {
      // Broadcasts and multicasts are for nobody here.
      if (addressKind(target) === "multicast" || this.#guests.isLocal(target)) return;
      this.#logUdp("refused", source, sourcePort, target, targetPort, place);
      return this.#guests.refusePacket(packet, "prohibited");
    }
    const remote: UdpRemote = { seen: target, seenPort: targetPort, ...place };
    const small = data.byteLength * 2 < data.buffer.byteLength ? data.slice() : data;
    if (this.#udp.send(source, sourcePort, remote, small)) {
      this.#logUdp("open", source, sourcePort, target, targetPort);
      this.#scheduleTick(IDLE_TICK_MS);
    }
  }

  #logUdp(
    kind: "open" | "refused",
    guest: Uint8Array,
    guestPort: number,
    remote: Uint8Array,
    remotePort: number,
    reason?: string,
  ): void {
    this.#log.add({
      ...{ kind, protocol: "udp", direction: "out", reason },
      guest: placeText(guest, guestPort),
      remote: placeText(remote, remotePort),
      name: this.#rules.namesOf(ipText(remote))[0],
    });
  }

  /** Where the host reaches what the guest calls so, or why it may not. */
  #place(target: Uint8Array, port: number): { readonly address: string; readonly port: number } | string {
    const family = target.length === 4 ? 4 : 6;
    const gateway = family === 4 ? this.#config.gateway : this.#guests.ipv6.gateway;
    let refusal: Refusal;
    let address = ipText(target);
    if (port === 0) refusal = "port 0";
    else if (sameBytes(target, gateway)) {
      refusal = this.#rules.gatewayRefusal(gateway, port);
      address = LOOPBACK[family];
    } else if (this.#guests.isLocal(target)) refusal = "no such guest";
    else refusal = this.#rules.refusal(target, port);
    return refusal ?? { address, port };
  }

  // TCP.

  #tcpLink(family: 4 | 6, mss: number): TcpLink {
    // oxlint-disable-next-line typescript/no-this-alias -- getters of the link have their own `this`
    const network = this;
    return {
      mss,
      nowMs: () => this.#platform.nowMs(),
      get limit() {
        const share = (BUDGET_BYTES - network.#kept) >> 3;
        return Math.max(MIN_KEPT, Math.min(MAX_KEPT, share));
      },
      get burst() {
        return network.#guests.offloads.segments[family] ? MAX_BURST : 0;
      },
      account: (change) => {
        this.#kept += change;
      },
      wantsToSend: (connection) => {
        const flow = this.#byConnection.get(connection);
        if (flow !== undefined) this.#wantsToSend(flow);
      },
      over: (connection, reason) => this.#over(connection, reason),
    };
  }

  #wantsToSend(flow: Flow): void {
    if (flow.isQueued) return;
    flow.isQueued = true;
    this.#ready.push(flow);
    this.#schedule();
  }

  #tcp(packet: IpPacket): void {
    const segment = parseTcp(packet);
    if (segment === undefined) return;
    const { source, target } = packet;
    const { sourcePort, targetPort, flags } = segment;
    const key = flowKey(source, sourcePort, target, targetPort);
    const flow = this.#flows.get(key);
    const isNew = (flags & (SYN | ACK | RST | FIN)) === SYN;
    if (flow !== undefined && !(isNew && flow.connection.phase === "time-wait"))
      return flow.connection.input(segment);
    flow?.connection.abort("its port is used again");
    if (isNew) return this.#fromGuest(packet, segment, key);
    // Of a connection that ended, or was another network's: it must not wait.
    if (flags & RST || addressKind(target) === "multicast") return;
    const length = segment.data.length + (flags & FIN ? 1 : 0) + (flags & SYN ? 1 : 0);
    const seq = flags & ACK ? segment.ack : 0;
    this.#sendReset(source, sourcePort, target, targetPort, seq, (segment.seq + length) >>> 0);
  }

  #fromGuest({ source, target }: IpPacket, syn: TcpSegment, key: string): void {
    const { sourcePort, targetPort } = syn;
    const { dns, gateway } = target.length === 4 ? this.#config : this.#guests.ipv6;
    const isGateway = sameBytes(target, gateway);
    const exposed = isGateway ? this.#exposed.get(targetPort) : undefined;
    const isDns = sameBytes(target, dns) && targetPort === DNS_PORT;
    const place =
      exposed !== undefined || isDns
        ? { address: "", port: 0 }
        : sameBytes(target, dns)
          ? "no such service"
          : this.#place(target, targetPort);
    const name = this.#rules.namesOf(ipText(target))[0];
    const refusal =
      typeof place === "string"
        ? place
        : this.#flows.size >= MAX_CONNECTIONS
          ? `more than ${MAX_CONNECTIONS} connections`
          : undefined;
    if (refusal !== undefined) {
      this.#log.add({
        ...{ kind: "refused", protocol: "tcp", direction: "out", name, reason: refusal },
        guest: placeText(source, sourcePort),
        remote: placeText(target, targetPort),
      });
      if (addressKind(target) !== "multicast")
        this.#sendReset(source, sourcePort, target, targetPort, 0, (syn.seq + 1) >>> 0);
      return;
    }
    const connection = TcpConnection.fromGuest(this.#linkOf(target), syn, this.#newSeq());
    this.#add({
      ...{ connection, key, guest: source, guestPort: sourcePort, remote: target, remotePort: targetPort },
      ...{ direction: "out", name, isQueued: false },
    });
    const { address, port } = place as Exclude<typeof place, string>;
    try {
      connection.attach(
        exposed !== undefined
          ? exposed(connection)
          : isDns
            ? this.#dns.serve(connection)
            : this.#platform.connect(address, port, connection),
      );
    } catch (error) {
      // Of the platform, or of a program: the guest's segment has no caller that could be told.
      return connection.abort(messageOf(error));
    }
    if (exposed !== undefined || isDns) connection.connected();
  }

  #toGuest(
    stream: NetStream,
    guest: Uint8Array,
    guestPort: number,
    remote: Uint8Array,
    remotePort: number,
  ): StreamEvents | undefined {
    const key = flowKey(guest, guestPort, remote, remotePort);
    if (this.#closed || this.#flows.size >= MAX_CONNECTIONS || this.#flows.has(key)) return undefined;
    const connection = TcpConnection.toGuest(this.#linkOf(guest), stream, this.#newSeq());
    this.#add({
      ...{ connection, key, guest, guestPort, remote, remotePort },
      ...{ direction: "in", name: undefined, isQueued: false },
    });
    return connection;
  }

  #add(flow: Flow): void {
    this.#flows.set(flow.key, flow);
    this.#byConnection.set(flow.connection, flow);
    this.#logTcp("open", flow);
    if (flow.direction === "in") this.#wantsToSend(flow);
    this.#scheduleTick(IDLE_TICK_MS);
  }

  #forget(flow: Flow): void {
    this.#flows.delete(flow.key);
    this.#byConnection.delete(flow.connection);
  }

  #over(connection: TcpConnection, reason: string): void {
    const flow = this.#byConnection.get(connection);
    if (flow === undefined) return;
    if (connection.resetSegment !== undefined) this.#sendSegment(flow, connection.resetSegment);
    this.#forget(flow);
    this.#logTcp("closed", flow, reason);
  }

  #logTcp(kind: "open" | "closed", flow: Flow, reason?: string): void {
    const { connection, direction, name } = flow;
    const event: ConnectionEvent = {
      ...{ kind, protocol: "tcp", direction, name, reason },
      guest: placeText(flow.guest, flow.guestPort),
      remote: placeText(flow.remote, flow.remotePort),
    };
    if (kind === "open") return this.#log.add(event);
    const { sentBytes, receivedBytes } = connection;
    this.#log.add({ ...event, toGuestBytes: sentBytes, fromGuestBytes: receivedBytes });
  }

  #linkOf(address: Uint8Array): TcpLink {
    return this.#links[address.length === 4 ? 4 : 6];
  }
  #newSeq(): number {
    const bytes = this.#platform.randomBytes(4);
    return ((u16(bytes, 0) << 16) | u16(bytes, 2)) >>> 0;
  }

  #sendSegment(flow: Flow, segment: OutgoingSegment): void {
    const { guest, guestPort, remote, remotePort } = flow;
    const header = tcpHeaderBytes(segment.flags);
    const frame = ipFrame(remote, header + segment.length);
    const start = upperStart(remote);
    putTcpHeader(frame, start, { ...segment, sourcePort: remotePort, targetPort: guestPort });
    if (segment.length > 0) segment.queue.copy(segment.offset, segment.length, frame, start + header);
    this.#guests.sendTcp(frame, remote, guest, segment.segmentBytes ?? 0);
  }

  #sendReset(
    guest: Uint8Array,
    guestPort: number,
    remote: Uint8Array,
    remotePort: number,
    seq: number,
    ack: number,
  ): void {
    const frame = ipFrame(remote, 20);
    const flags = RST | ACK;
    putTcpHeader(frame, upperStart(remote), {
      ...{ sourcePort: remotePort, targetPort: guestPort, seq, ack, flags, window: 0 },
    });
    this.#guests.sendIp(frame, remote, guest, TCP, TCP_SUM_AT);
  }

  // Forwarded ports.

  #listen(rule: ForwardRule, guest: Uint8Array, port: number): Promise<NetListener> {
    const address = rule.hostAddress === "" ? "0.0.0.0" : rule.hostAddress;
    const seen = (peer: string): Uint8Array => this.#seenAs(peer, guest.length);
    const accept: AcceptStream = (stream, peer, peerPort) =>
      this.#toGuest(stream, guest, rule.guestPort, seen(peer), peerPort);
    return rule.protocol === "tcp"
      ? this.#platform.listen(address, port, accept)
      : this.#udp.forward({ address, port }, guest, rule.guestPort, seen);
  }

  /** A peer's address as a guest sees it: the host itself, and another family's, are the gateway. */
  #seenAs(peer: string, length: number): Uint8Array {
    const address = parseIp(peer.replace(/^::ffff:/i, "").replace(/%.*$/, ""));
    const gateway = length === 4 ? this.#config.gateway : this.#guests.ipv6.gateway;
    if (address?.length !== length || addressKind(address) !== "ordinary") return gateway;
    return this.#guests.isLocal(address) ? gateway : address;
  }

  // What is to be sent.

  /** Sends soon: what one batch of the guest's frames causes goes out together. */
  #schedule(): void {
    if (this.#isScheduled || this.#closed) return;
    this.#isScheduled = true;
    void Promise.resolve().then(() => this.#pump());
  }

  #pump(): void {
    this.#isScheduled = false;
    let left = MAX_IN_A_ROW;
    left -= this.#guests.drain(left);
    let at = 0;
    for (; at < this.#ready.length && this.#guests.receiving && left > 0; at++) {
      const flow = this.#ready[at]!;
      flow.isQueued = false;
      let n = 0;
      while (
        n < MAX_OF_ONE &&
        this.#guests.receiving &&
        flow.connection.output((it) => this.#sendSegment(flow, it))
      )
        n++;
      left -= Math.max(1, n);
      if ((n === MAX_OF_ONE || !this.#guests.receiving) && !flow.connection.isOver) this.#wantsToSend(flow);
    }
    this.#ready.splice(0, at);
    if (this.#byConnection.size > 0 || this.#guests.advertiseAt > 0) this.#scheduleTick(TICK_MS);
    const isMore = this.#ready.length > 0 || this.#guests.hasQueued;
    if (isMore && this.#guests.receiving && !this.#closed && !this.#isScheduled) {
      this.#isScheduled = true;
      this.#platform.setTimer(0, () => this.#pump());
    }
  }

  // Time.

  #scheduleTick(delayMs: number): void {
    const at = this.#platform.nowMs() + delayMs;
    if (this.#closed || (this.#tick !== undefined && this.#tick.at <= at)) return;
    this.#tick?.cancel();
    const timer = this.#platform.setTimer(delayMs, () => this.#ticked());
    this.#tick = { at, cancel: () => timer.cancel() };
  }

  #ticked(): void {
    this.#tick = undefined;
    const now = this.#platform.nowMs();
    let next = Number.POSITIVE_INFINITY;
    // A guest that is stopped, or has no room, is not late.
    if (this.#guests.receiving) {
      for (const { connection } of [...this.#flows.values()]) {
        const wanted = connection.tick(now);
        if (wanted !== undefined) next = Math.min(next, wanted);
      }
      if (this.#guests.advertiseAt > 0 && now >= this.#guests.advertiseAt) this.#guests.advertise();
    }
    const hasUdp = this.#udp.tick(now);
    if (this.#flows.size === 0 && !hasUdp && this.#guests.advertiseAt === 0) return;
    this.#scheduleTick(Math.min(IDLE_TICK_MS, Math.max(TICK_MS, next - now)));
  }
}

/** The checksum that a frame leaves out is not needed, unless it is that of a packet inside of this one. */
function withoutSum(packet: IpPacket | undefined, offload: PartialSum | undefined): IpPacket | undefined {
  if (packet === undefined || offload === undefined) return packet;
  if (offload.sumStart === packet.start && packet.fragment === undefined)
    return { ...packet, isUnsummed: true };
  finishSum(packet.bytes, offload);
  return packet;
}
