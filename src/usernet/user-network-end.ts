// A machine's end of a user network. Machines of a program may follow each other on one network, as a
// restored machine does on that of the saved one: it belongs to the one that was active last, and the guests
// of others, who have the same addresses and connections, are not heard.
import { type FrameListener, NO_OFFLOADS, type GuestOffloads, type TcpOffload } from "./frame-offload.ts";
import type { NetworkEnd } from "./ethernet-switch.ts";
import { SavedNetwork } from "./saved-network.ts";
import type { UserNetwork } from "./user-network.ts";

const owners = new WeakMap<UserNetwork, UserNetworkEnd>();

export class UserNetworkEnd implements NetworkEnd {
  readonly #network: UserNetwork;
  readonly #saved: SavedNetwork;
  #listener: FrameListener = () => {};
  #offloads = NO_OFFLOADS;
  /** Undefined: the network leaves nothing to the guest. */
  readonly setOffloads: ((offloads: GuestOffloads) => void) | undefined;
  #receiving = true;

  constructor(network: UserNetwork) {
    this.#network = network;
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
    owners.set(this.#network, this);
    this.#network.onFrame((frame, offload) => this.#listener(frame, offload));
    this.#network.setOffloads(this.#offloads);
    this.#network.setReceiving(this.#receiving);
    await this.#saved.activate();
  }
  async inactivate(): Promise<void> {
    if (!this.#isOwner) return;
    owners.delete(this.#network);
    this.#network.setReceiving(false);
    await this.#saved.inactivate();
  }

  get #isOwner(): boolean {
    return owners.get(this.#network) === this;
  }
}
