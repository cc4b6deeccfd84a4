// A guest on a user network in virtual time: its wire, its connections, what arrived.
import { UserNetwork } from "../../src/usernet/user-network.ts";
import type { UserNetOptions } from "../../src/usernet/user-network-options.ts";
import { ByteReader, ByteWriter } from "../../src/base/bytes.ts";
import { SavedNetwork } from "../../src/usernet/saved-network.ts";
import { Random } from "../support/random.ts";
import {
  badWire,
  GUEST_MAC,
  GuestTcp,
  ip4,
  ipv4Frame,
  readIpv4,
  readTcp,
  type Segment,
  type TcpHabits,
  tcpPayload,
  udpPayload,
} from "./fake-guest.ts";
import { type Peer, VirtualHost } from "./virtual-host.ts";

export interface WireOptions {
  readonly loss: number;
  readonly doubles: number;
  readonly delays: number;
}
export const GOOD_WIRE: WireOptions = { loss: 0, doubles: 0, delays: 0 };
export const OWN = "10.0.2.15";

export class GuestWire {
  readonly host: VirtualHost;
  readonly network: UserNetwork;
  readonly random: Random;
  readonly connections: GuestTcp[] = [];
  /** All frames that arrived and are not TCP. */
  readonly frames: Uint8Array[] = [];
  /** Segments for ports without a connection. */
  readonly stray: (Segment & { source: string })[] = [];
  readonly #send: (frame: Uint8Array) => void;
  readonly #receive: (frame: Uint8Array) => void;
  /** What a new connection from outside is answered with. */
  onSyn: ((segment: Segment, source: string) => GuestTcp | undefined) | undefined;

  private constructor(host: VirtualHost, network: UserNetwork, random: Random, wire: WireOptions) {
    this.host = host;
    this.network = network;
    this.random = random;
    this.#send = badWire(host, random, wire, (frame) => network.send(frame));
    this.#receive = badWire(host, random, wire, (frame) => this.#arrived(frame));
    this.listen();
    // As a guest's first ARP does.
    network.send(
      ipv4Frame(
        17,
        ip4(OWN),
        ip4("10.0.2.2"),
        udpPayload(ip4(OWN), ip4("10.0.2.2"), 9, 0, new Uint8Array(0)),
      ),
    );
  }

  static async open(
    random: Random,
    options: UserNetOptions = {},
    wire: WireOptions = GOOD_WIRE,
    host: VirtualHost = new VirtualHost(random),
  ): Promise<GuestWire> {
    return new GuestWire(host, await UserNetwork.open(host, options), random, wire);
  }

  /** The network's frames are for this guest. */
  listen(): void {
    this.network.onFrame(this.#receive);
  }

  send(frame: Uint8Array): void {
    this.#send(frame);
  }

  tcp(target: string, port: number, ownPort: number, habits: TcpHabits): GuestTcp {
    const out = (segment: Segment): void =>
      this.#send(ipv4Frame(6, ip4(OWN), ip4(target), tcpPayload(ip4(OWN), ip4(target), segment)));
    const made = new GuestTcp(this.host, ownPort, port, habits, this.random.u32(), out);
    this.connections.push(made);
    return made;
  }

  udp(target: string, port: number, ownPort: number, data: Uint8Array): void {
    this.#send(ipv4Frame(17, ip4(OWN), ip4(target), udpPayload(ip4(OWN), ip4(target), ownPort, port, data)));
  }

  /** Datagrams that came. */
  get datagrams(): { source: string; sourcePort: number; targetPort: number; data: string }[] {
    return this.frames.flatMap((frame) => {
      const ip = readIpv4(frame);
      if (ip?.protocol !== 17) return [];
      const { payload } = ip;
      return [
        {
          ...{ source: ip.source, sourcePort: payload.readUInt16BE(0), targetPort: payload.readUInt16BE(2) },
          data: payload.subarray(8).toString("latin1"),
        },
      ];
    });
  }

  #arrived(frame: Uint8Array): void {
    const ip = readIpv4(frame);
    const to = Buffer.from(frame.subarray(0, 6));
    if ((to[0]! & 1) === 0 && !to.equals(GUEST_MAC)) throw new Error(`a frame for ${to.toString("hex")}`);
    if (ip?.protocol !== 6) return void this.frames.push(frame);
    const segment = readTcp(ip.payload);
    const found = this.connections.find(
      (it) => it.port === segment.targetPort && it.peerPort === segment.sourcePort,
    );
    const connection = found ?? this.onSyn?.(segment, ip.source);
    if (connection === undefined) this.stray.push({ ...segment, source: ip.source });
    else connection.input(segment);
  }
}

const EASY: TcpHabits = { mss: 1460, scale: 4, buffer: 1 << 20, rate: 1e6, keepsEarly: true, rtoMs: 400 };

/** A guest with a connection to a server outside. */
export async function connected(options = {}): Promise<{
  guest: GuestWire;
  client: ReturnType<GuestWire["tcp"]>;
  peer: Peer;
}> {
  const guest = await GuestWire.open(new Random(1), options);
  let peer: Peer | undefined;
  guest.host.serve = () => (it) => (peer = it);
  const client = guest.tcp("198.51.100.7", 80, 4000, EASY);
  client.connect();
  await guest.host.run(() => client.state === "open" && peer !== undefined, 1000);
  await guest.host.pass(5);
  return { guest, client, peer: peer! };
}

/** What `from` has, as it is written and read, taken over by `to`. */
/** A state of one network is loaded into another. */
export async function carry(from: UserNetwork, to: UserNetwork): Promise<void> {
  const writer = new ByteWriter();
  new SavedNetwork(from).section.encode(writer);
  const arriving = new SavedNetwork(to);
  arriving.section.decode(new ByteReader(writer.view()), 1)();
  await arriving.activate();
}
