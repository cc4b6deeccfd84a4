// What a saved machine knows of its user network: who is where on the guests' Ethernet, leases, connections,
// ports for datagrams, forwarded ports, names. A section of its own beside the card's: QEMU has none, nor had
// Wherry's older streams. The host's ends of connections cannot be saved: a guest's connection is reset at
// once, unless the network that it is loaded into has it still (docs/networking.md).
import {
  bool,
  buffer,
  defineState,
  type StateDefinition,
  type StateOf,
  u16,
  subsection,
  u32,
  varBuffer,
  varStructArray,
} from "../state/schema.ts";
import { type Section, sectionOf } from "../state/section.ts";
import { parseForward } from "./net-rules.ts";
import { isQueryName } from "./wire/dns-message.ts";
import type { DatagramEnds, Ends, ForwardPeer, TcpPosition } from "./transport/ends.ts";

/** A guest's address, and where on the Ethernet it is. */
export interface Neighbour {
  readonly address: Uint8Array;
  readonly mac: Uint8Array;
}

/** What a saved machine remembers of its user network. */
export interface UserNetMemory {
  readonly leases: readonly Neighbour[];
  readonly neighbours: readonly Neighbour[];
  readonly connections: readonly (Ends & TcpPosition)[];
  /** Ports for datagrams, by their remote ends. */
  readonly datagrams: readonly DatagramEnds[];
  /** Who has sent to forwarded ports for datagrams. */
  readonly peers: readonly ForwardPeer[];
  /** Forwarded ports; `isAnyPort`: which port of the host it is was left open. */
  readonly forwards: readonly { readonly rule: string; readonly isAnyPort: boolean }[];
  /** Names that the guests have asked for, and that open addresses (`allow`). */
  readonly names: readonly string[];
  /** Guests have asked for router advertisements. */
  readonly isAdvertising: boolean;
}

/** The most of each that is saved. */
export const SAVED = {
  neighbours: 1024,
  connections: 4096,
  datagrams: 4096,
  peers: 1024,
  forwards: 1024,
  names: 64,
} as const;
const NAME_MAX = 255;
const RULE_MAX = 255;

const neighbourState = defineState(
  "wherry/usernet/neighbour",
  { version: 1 },
  { address: buffer(16), mac: buffer(6) },
);

const connectionState = defineState(
  "wherry/usernet/connection",
  { version: 1 },
  {
    ...{ guest: buffer(16), guestPort: u16, remote: buffer(16), remotePort: u16 },
    ...{ sent: u32, acked: u32, expected: u32 },
  },
);

const datagramState = defineState(
  "wherry/usernet/datagrams",
  { version: 1 },
  { guest: buffer(16), guestPort: u16, remote: buffer(16), remotePort: u16, hostPort: u16 },
);

const peerState = defineState(
  "wherry/usernet/peer",
  { version: 1 },
  {
    ...{ guest: buffer(16), guestPort: u16, remote: buffer(16), remotePort: u16, hostPort: u16 },
    address: buffer(16),
  },
);

// Both are ASCII.
const text = (bytes: Uint8Array): string => String.fromCharCode(...bytes);
const bytesOf = (ascii: string): Uint8Array => Uint8Array.from(ascii, (each) => each.charCodeAt(0));

const forwardState = defineState(
  "wherry/usernet/forward",
  { version: 1 },
  {
    isAnyPort: bool,
    ruleLength: u32,
    rule: varBuffer("ruleLength", RULE_MAX).check((bytes) => {
      try {
        parseForward(text(bytes));
        return undefined;
      } catch {
        return "[tcp|udp]:[HOSTADDR]:HOSTPORT-[GUESTADDR]:GUESTPORT";
      }
    }),
  },
);

const nameState = defineState(
  "wherry/usernet/name",
  { version: 1 },
  { nameLength: u32, name: varBuffer("nameLength", NAME_MAX) },
);

interface NetworkState {
  isAdvertising: boolean;
  leaseCount: number;
  leases: StateOf<typeof neighbourState>[];
  neighbourCount: number;
  neighbours: StateOf<typeof neighbourState>[];
  connectionCount: number;
  connections: StateOf<typeof connectionState>[];
  datagramCount: number;
  datagrams: StateOf<typeof datagramState>[];
  forwardCount: number;
  forwards: StateOf<typeof forwardState>[];
  nameCount: number;
  names: StateOf<typeof nameState>[];
  peerCount: number;
  peers: StateOf<typeof peerState>[];
}

/** Addresses have sixteen bytes: IPv4's are ::ffff:a.b.c.d. */
export const networkState: StateDefinition<NetworkState> = defineState(
  "wherry/usernet",
  { version: 1 },
  {
    isAdvertising: bool,
    leaseCount: u32,
    leases: varStructArray(neighbourState, "leaseCount", SAVED.neighbours),
    neighbourCount: u32,
    neighbours: varStructArray(neighbourState, "neighbourCount", SAVED.neighbours),
    connectionCount: u32,
    connections: varStructArray(connectionState, "connectionCount", SAVED.connections),
    datagramCount: u32,
    datagrams: varStructArray(datagramState, "datagramCount", SAVED.datagrams),
    forwardCount: u32,
    forwards: varStructArray(forwardState, "forwardCount", SAVED.forwards),
    nameCount: u32,
    names: varStructArray(nameState, "nameCount", SAVED.names),
  },
  [
    subsection(
      "wherry/usernet/peers",
      { version: 1, needed: (state) => state["peerCount"] !== 0 },
      { peerCount: u32, peers: varStructArray(peerState, "peerCount", SAVED.peers) },
    ),
  ],
);

const V4_PREFIX = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff);
const long = (address: Uint8Array): Uint8Array =>
  address.length === 4 ? Uint8Array.of(...V4_PREFIX, ...address) : address;
const short = (address: Uint8Array): Uint8Array =>
  V4_PREFIX.every((byte, i) => address[i] === byte) ? address.slice(12) : address.slice();
const longEnds = <T extends Ends>(ends: T): T => ({
  ...ends,
  guest: long(ends.guest),
  remote: long(ends.remote),
});
const shortEnds = <T extends Ends>(ends: T): T => ({
  ...ends,
  guest: short(ends.guest),
  remote: short(ends.remote),
});
const longPlace = ({ address, mac }: Neighbour): Neighbour => ({ address: long(address), mac });
const shortPlace = ({ address, mac }: Neighbour): Neighbour => ({ address: short(address), mac });

/** The latest of each, if there are too many. What has no room is left out: no guest can prevent a save. */
function stateOf(memory: UserNetMemory): NetworkState {
  const leases = memory.leases.slice(-SAVED.neighbours).map(longPlace);
  const neighbours = memory.neighbours.slice(-SAVED.neighbours).map(longPlace);
  const connections = memory.connections.slice(-SAVED.connections).map(longEnds);
  const datagrams = memory.datagrams.slice(-SAVED.datagrams).map(longEnds);
  const peers = memory.peers
    .slice(-SAVED.peers)
    .map((peer) => ({ ...longEnds(peer), address: long(peer.address) }));
  const forwards = memory.forwards
    .map(({ rule, isAnyPort }) => ({ isAnyPort, ruleLength: rule.length, rule: bytesOf(rule) }))
    .filter(({ ruleLength }) => ruleLength <= RULE_MAX)
    .slice(-SAVED.forwards);
  const names = memory.names
    .filter(isQueryName)
    .slice(-SAVED.names)
    .map((name) => ({ nameLength: name.length, name: bytesOf(name) }));
  return {
    isAdvertising: memory.isAdvertising,
    ...{ leaseCount: leases.length, leases, neighbourCount: neighbours.length, neighbours },
    ...{ connectionCount: connections.length, connections },
    ...{ datagramCount: datagrams.length, datagrams, peerCount: peers.length, peers },
    ...{ forwardCount: forwards.length, forwards, nameCount: names.length, names },
  };
}

function memoryOf(state: NetworkState): UserNetMemory {
  return {
    isAdvertising: state.isAdvertising,
    leases: state.leases.map(shortPlace),
    neighbours: state.neighbours.map(shortPlace),
    connections: state.connections.map(shortEnds),
    datagrams: state.datagrams.map(shortEnds),
    peers: state.peers.map((peer) => ({ ...shortEnds(peer), address: short(peer.address) })),
    forwards: state.forwards.map(({ rule, isAnyPort }) => ({ rule: text(rule), isAnyPort })),
    names: state.names.map(({ name }) => text(name)),
  };
}

function networkSection(get: () => UserNetMemory, apply: (memory: UserNetMemory) => void): Section {
  const section = sectionOf({
    definition: networkState,
    get: () => stateOf(get()),
    apply: (state) => apply(memoryOf(state)),
  });
  return { ...section, isOptional: true };
}

/** For a machine whose card is on another network: what comes is read and forgotten, and none is written. */
export const forgottenNetwork = (): Section => ({
  ...networkSection(
    () => memoryOf(networkState.create()),
    () => {},
  ),
  isWritten: false,
});

/** What a network does for a machine that is saved, leaves or arrives. */
export interface RememberingNetwork {
  remember(): UserNetMemory;
  suspend(): void;
  resume(memory?: UserNetMemory): Promise<void>;
  endConnections(reason: string): void;
}

/** A network as a part of a machine: saved, loaded, and active while the machine is here. */
export class SavedNetwork {
  readonly section: Section;
  readonly #network: RememberingNetwork;
  /** Loaded, and not yet taken over. */
  #arriving: UserNetMemory | undefined;

  constructor(network: RememberingNetwork) {
    this.#network = network;
    this.section = networkSection(
      () => this.#arriving ?? network.remember(),
      (memory) => (this.#arriving = memory),
    );
  }

  async inactivate(): Promise<void> {
    this.#network.suspend();
  }
  /** What is left of a machine that runs elsewhere: servers outside see the end of its connections. */
  left(how: "moved" | "closed"): void {
    if (how === "moved") this.#network.endConnections("the guest has moved away");
  }
  async activate(): Promise<void> {
    const memory = this.#arriving;
    this.#arriving = undefined;
    await this.#network.resume(memory);
  }
}
