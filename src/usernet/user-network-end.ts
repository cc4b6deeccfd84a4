// A machine's end of a user network. Machines of a program may follow each other on one network, as a
// restored machine does on that of the saved one: it belongs to the one that was active last, and the guests
// of others, who have the same addresses and connections, are not heard until it has left for good.
import { type FrameListener, NO_OFFLOADS, type GuestOffloads, type TcpOffload } from "./frame-offload.ts";
import type { NetworkEnd } from "./ethernet-switch.ts";
import { SavedNetwork, type UserNetMemory } from "./saved-network.ts";
import type { UserNetwork } from "./user-network.ts";

/** The ends of a network whose machines are active, the latest last, and the one that is heard. */
interface Ends {
  readonly active: Set<UserNetworkEnd>;
  owner: UserNetworkEnd | undefined;
}
const endsOf = new WeakMap<UserNetwork, Ends>();

export class UserNetworkEnd implements NetworkEnd {
  readonly #network: UserNetwork;
  readonly #saved: SavedNetwork;
  #listener: FrameListener = () => {};
  #offloads = NO_OFFLOADS;
  /** Undefined: the network leaves nothing to the guest. */
  readonly setOffloads: ((offloads: GuestOffloads) => void) | undefined;
  #receiving = true;
  readonly #ends: Ends;
  /** What the network was when another machine took it. */
  #taken: UserNetMemory | undefined;

  constructor(network: UserNetwork) {
    this.#network = network;
    this.#ends = endsOf.get(network) ?? { active: new Set(), owner: undefined };
    endsOf.set(network, this.#ends);
    this.#saved = new SavedNetwork(network);
    if (!network.hasOffloads) return;
    this.setOffloads = (offloads) => {
      this.#offloads = offloads;
      if (this.#isOwner) network.setOffloads(offloads);
    };
  }

  // A network card's backend.
  send(frame: Uint8Array, offload?: TcpOffload): void {
    if (this.#isOwner) this.#network.send(frame, offload);
  }
  onFrame(listener: FrameListener): void {
    this.#listener = listener;
  }
  setReceiving(on: boolean): void {
    this.#receiving = on;
    if (this.#isOwner) this.#network.setReceiving(on);
  }

  // A part of a machine: see SavedNetwork.
  get section(): SavedNetwork["section"] {
    return this.#saved.section;
  }
  async activate(): Promise<void> {
    const { owner, active } = this.#ends;
    if (owner !== undefined && owner !== this) owner.#taken = this.#network.remember();
    active.delete(this);
    active.add(this);
    this.#own();
    await this.#saved.activate();
  }
  async inactivate(): Promise<void> {
    this.#ends.active.delete(this);
    if (!this.#isOwner) return;
    this.#ends.owner = undefined;
    this.#network.setReceiving(false);
    await this.#saved.inactivate();
  }
  /** The network is that of the machine from which this one took it, as far as it can go on with it. */
  left(how: "moved" | "closed"): void {
    const { active, owner } = this.#ends;
    if (owner !== undefined) return;
    const former = [...active].at(-1);
    if (former === undefined) return this.#saved.left(how);
    former.#own();
    void this.#network.resume(former.#taken);
  }

  #own(): void {
    this.#ends.owner = this;
    this.#network.onFrame((frame, offload) => this.#listener(frame, offload));
    this.#network.setOffloads(this.#offloads);
    this.#network.setReceiving(this.#receiving);
  }
  get #isOwner(): boolean {
    return this.#ends.owner === this;
  }
}
