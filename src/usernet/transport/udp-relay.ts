// UDP between guests and the outside: a socket of the host for each port of a guest, until it was idle for a
// while. Datagrams come back only from where the guest sent to.
import { ipText, parseIp, sameBytes } from "../wire/ip-address.ts";
import type { DatagramEnds, ForwardPeer } from "./ends.ts";
import type { NetDatagrams, NetPlatform, ReceiveDatagram } from "./net-platform.ts";

/** QEMU's time-out. */
const IDLE_MS = 240_000;
const MAX_FLOWS = 1024;
const MAX_REMOTES = 64;
const MAX_FORWARD_REMOTES = 1024;

/** The other end: as the guest sees it, and as the host does. */
export interface UdpRemote {
  readonly seen: Uint8Array;
  readonly seenPort: number;
  readonly address: string;
  readonly port: number;
}

interface Flow {
  readonly guest: Uint8Array;
  readonly guestPort: number;
  readonly sockets: { 4?: NetDatagrams; 6?: NetDatagrams };
  /** By address and port on the host's side; the least recently used first. */
  readonly remotes: Map<string, UdpRemote>;
  usedMs: number;
}

/** A forwarded port: its peers by how the guest sees them. */
interface Forward {
  readonly guest: Uint8Array;
  readonly guestPort: number;
  readonly socket: NetDatagrams;
  readonly remotes: Map<string, UdpRemote>;
}

export type DeliverDatagram = (
  remote: UdpRemote,
  guest: Uint8Array,
  guestPort: number,
  data: Uint8Array,
) => void;

const familyOf = (address: string): 4 | 6 => (address.includes(":") ? 6 : 4);
const keyOf = (address: string, port: number): string => `${address} ${port}`;

function touch<T>(map: Map<string, T>, key: string, value: T, max: number): void {
  map.delete(key);
  map.set(key, value);
  const [oldest] = map.keys();
  if (map.size > max && oldest !== undefined) map.delete(oldest);
}

export class UdpRelay {
  readonly #platform: NetPlatform;
  readonly #deliver: DeliverDatagram;
  /** The least recently used first. */
  readonly #flows = new Map<string, Flow>();
  readonly #forwards = new Set<Forward>();
  /** Peers of forwarded ports that are still to be opened. */
  #peers: readonly ForwardPeer[] = [];

  constructor(platform: NetPlatform, deliver: DeliverDatagram) {
    this.#platform = platform;
    this.#deliver = deliver;
  }

  get size(): number {
    return this.#flows.size;
  }
  /** Each remote end of each port, with the port of the host's socket. */
  remember(): DatagramEnds[] {
    return [...this.#flows.values()].flatMap(({ guest, guestPort, sockets, remotes }) =>
      [...remotes.values()].map(({ seen, seenPort, address }) => ({
        ...{ guest, guestPort, remote: seen, remotePort: seenPort },
        hostPort: sockets[familyOf(address)]?.port ?? 0,
      })),
    );
  }
  /** The peers of each forwarded port, with the port of the host's socket. */
  rememberPeers(): ForwardPeer[] {
    return [...this.#forwards].flatMap(({ guest, guestPort, socket, remotes }) =>
      [...remotes.values()].flatMap(({ seen, seenPort, address }) => {
        const bytes = parseIp(address);
        const ends = { guest, guestPort, remote: seen, remotePort: seenPort, hostPort: socket.port };
        return bytes === undefined ? [] : [{ ...ends, address: bytes }];
      }),
    );
  }
  /** Forwarded ports, those that are opened later too, know these peers. */
  expectPeers(peers: readonly ForwardPeer[]): void {
    this.#peers = peers;
    for (const forward of this.#forwards) this.#greet(forward);
  }
  #greet({ guest, guestPort, remotes }: Forward): void {
    for (const peer of this.#peers) {
      if (peer.guestPort !== guestPort || !sameBytes(peer.guest, guest)) continue;
      const [seen, port] = [peer.remote, peer.remotePort];
      const remote = { seen, seenPort: port, address: ipText(peer.address), port };
      touch(remotes, keyOf(ipText(seen), port), remote, MAX_FORWARD_REMOTES);
    }
  }
  list(): { guest: string; guestPort: number; remotes: readonly UdpRemote[] }[] {
    return [...this.#flows.values()].map(({ guest, guestPort, remotes }) => ({
      guest: ipText(guest),
      guestPort,
      remotes: [...remotes.values()],
    }));
  }

  /** An answer of the guest to a forwarded port's peer. Returns false if it is none. */
  answerForward(
    guest: Uint8Array,
    guestPort: number,
    seen: string,
    seenPort: number,
    data: Uint8Array,
  ): boolean {
    for (const forward of this.#forwards) {
      if (forward.guestPort !== guestPort || ipText(forward.guest) !== ipText(guest)) continue;
      const remote = forward.remotes.get(keyOf(seen, seenPort));
      if (remote === undefined) continue;
      forward.socket.send(data, remote.address, remote.port);
      return true;
    }
    return false;
  }

  /** Sends for the guest. Returns true if its port or the remote is new. */
  send(guest: Uint8Array, guestPort: number, remote: UdpRemote, data: Uint8Array): boolean {
    const { socket, isNew } = this.#use(guest, guestPort, remote);
    socket.send(data, remote.address, remote.port);
    return isNew;
  }

  /**
   * Hears from a remote end as if the guest had sent to it, by this port of the host if that is free.
   * Returns true if its port or the remote is new.
   */
  expect(guest: Uint8Array, guestPort: number, remote: UdpRemote, hostPort: number): boolean {
    return this.#use(guest, guestPort, remote, hostPort).isNew;
  }

  #use(
    guest: Uint8Array,
    guestPort: number,
    remote: UdpRemote,
    hostPort?: number,
  ): { readonly socket: NetDatagrams; readonly isNew: boolean } {
    const key = keyOf(ipText(guest), guestPort);
    const flow: Flow = this.#flows.get(key) ?? {
      ...{ guest, guestPort, sockets: {}, remotes: new Map<string, UdpRemote>() },
      usedMs: 0,
    };
    flow.usedMs = this.#platform.nowMs();
    if (!this.#flows.has(key) && this.#flows.size >= MAX_FLOWS) {
      const [oldest] = this.#flows.keys();
      if (oldest !== undefined) this.#end(oldest);
    }
    touch(this.#flows, key, flow, MAX_FLOWS);
    const remoteKey = keyOf(remote.address, remote.port);
    const isNew = !flow.remotes.has(remoteKey);
    touch(flow.remotes, remoteKey, remote, MAX_REMOTES);
    const family = familyOf(remote.address);
    const receive: ReceiveDatagram = (bytes, address, port) => {
      const from = flow.remotes.get(keyOf(address, port));
      if (from === undefined) return;
      flow.usedMs = this.#platform.nowMs();
      this.#deliver(from, guest, guestPort, bytes);
    };
    flow.sockets[family] ??= this.#platform.datagrams(family, receive, hostPort);
    return { socket: flow.sockets[family], isNew };
  }

  /** Forwards a port of the host; `seen` gives how the guest sees a peer's address. */
  async forward(
    bound: { readonly address: string; readonly port: number },
    guest: Uint8Array,
    guestPort: number,
    seen: (address: string) => Uint8Array,
  ): Promise<{ readonly port: number; close(): void }> {
    const remotes = new Map<string, UdpRemote>();
    const socket = await this.#platform.bindDatagrams(bound.address, bound.port, (bytes, address, port) => {
      const remote = { seen: seen(address), seenPort: port, address, port };
      touch(remotes, keyOf(ipText(remote.seen), port), remote, MAX_FORWARD_REMOTES);
      this.#deliver(remote, guest, guestPort, bytes);
    });
    const forward = { guest, guestPort, socket, remotes };
    this.#forwards.add(forward);
    this.#greet(forward);
    return {
      port: socket.port,
      close: () => {
        this.#forwards.delete(forward);
        socket.close();
      },
    };
  }

  /** Ends what was idle for long. Returns true if flows are left. */
  tick(nowMs: number): boolean {
    for (const [key, flow] of this.#flows) if (nowMs - flow.usedMs > IDLE_MS) this.#end(key);
    return this.#flows.size > 0;
  }

  /** Ends the guests' own ports. */
  endFlows(): void {
    for (const key of [...this.#flows.keys()]) this.#end(key);
  }

  close(): void {
    this.endFlows();
    for (const { socket } of this.#forwards) socket.close();
    this.#forwards.clear();
  }

  #end(key: string): void {
    const flow = this.#flows.get(key);
    this.#flows.delete(key);
    flow?.sockets[4]?.close();
    flow?.sockets[6]?.close();
  }
}
