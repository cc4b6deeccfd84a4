// A switch: several guests, and what connects them to the outside, on one Ethernet. It learns which address
// is at which port. A port that does not receive keeps a bounded number of bytes; more for it are lost, so
// that one stopped guest does not stop the others.
const MAX_QUEUED_BYTES = 2 << 20;
const MAX_ADDRESSES = 4096;

/** One end of a cable: what is plugged into a switch takes frames and gives them. */
export interface NetworkEnd {
  send(frame: Uint8Array): void;
  onFrame(listener: (frame: Uint8Array) => void): void;
  setReceiving?(on: boolean): void;
}

/** An end that may be full, such as a socket: see NetBackend. */
export interface StallingEnd extends NetworkEnd {
  readonly writable?: boolean;
  onWritable?(listener: () => void): void;
}

/** Connects two ends; `b` waits while `a` is full. */
export function plug(a: StallingEnd, b: NetworkEnd): void {
  a.onFrame((frame) => b.send(frame));
  b.onFrame((frame) => {
    a.send(frame);
    if (a.writable === false) b.setReceiving?.(false);
  });
  a.onWritable?.(() => b.setReceiving?.(true));
}

/** A port of a switch. What it is plugged into calls `send`, and hears frames by `onFrame`. */
export class SwitchPort implements NetworkEnd {
  readonly #forward: (from: SwitchPort, frame: Uint8Array) => void;
  readonly #unplug: (port: SwitchPort) => void;
  #listener: ((frame: Uint8Array) => void) | undefined;
  #receiving = true;
  #queue: Uint8Array[] = [];
  #queuedBytes = 0;
  /** Frames that were lost since the port does not receive. */
  lost = 0;

  constructor(forward: (from: SwitchPort, frame: Uint8Array) => void, unplug: (port: SwitchPort) => void) {
    this.#forward = forward;
    this.#unplug = unplug;
  }

  send(frame: Uint8Array): void {
    this.#forward(this, frame);
  }
  onFrame(listener: (frame: Uint8Array) => void): void {
    this.#listener = listener;
  }
  setReceiving(on: boolean): void {
    this.#receiving = on;
    while (this.#receiving) {
      const frame = this.#queue.shift();
      if (frame === undefined) break;
      this.#queuedBytes -= frame.length;
      this.#listener?.(frame);
    }
  }
  /** Takes it out of the switch. */
  close(): void {
    this.#unplug(this);
    this.#listener = undefined;
    this.#queue = [];
  }

  /** For the switch. */
  deliver(frame: Uint8Array): void {
    if (this.#receiving && this.#queue.length === 0) return this.#listener?.(frame);
    if (this.#queuedBytes + frame.length > MAX_QUEUED_BYTES) {
      this.lost++;
      return;
    }
    this.#queue.push(frame);
    this.#queuedBytes += frame.length;
  }
}

/** A switch. It has as many ports as are asked for. */
export class EthernetSwitch {
  readonly #ports = new Set<SwitchPort>();
  /** By Ethernet address; the one that was learned first is first. */
  readonly #places = new Map<string, SwitchPort>();

  /** A new port: the backend of a network card, or something to `plug` to another end. */
  port(): SwitchPort {
    const port: SwitchPort = new SwitchPort(
      (from, frame) => this.#forward(from, frame),
      (gone) => {
        this.#ports.delete(gone);
        for (const [key, place] of this.#places) if (place === gone) this.#places.delete(key);
      },
    );
    this.#ports.add(port);
    return port;
  }

  /** The address is at this port, as its latest frame said. */
  isAt(port: SwitchPort, mac: Uint8Array): boolean {
    return this.#places.get(addressKey(mac, 0)) === port;
  }

  #forward(from: SwitchPort, frame: Uint8Array): void {
    if (frame.length < 14 || !this.#ports.has(from)) return;
    this.#learn(frame, from);
    const isMany = (frame[0]! & 1) !== 0;
    const place = isMany ? undefined : this.#places.get(addressKey(frame, 0));
    if (place !== undefined) {
      if (place !== from) place.deliver(frame);
      return;
    }
    for (const port of this.#ports) if (port !== from) port.deliver(frame);
  }

  #learn(frame: Uint8Array, port: SwitchPort): void {
    // Many cannot be a source.
    if ((frame[6]! & 1) !== 0) return;
    const key = addressKey(frame, 6);
    const known = this.#places.get(key);
    if (known === port) return;
    this.#places.delete(key);
    this.#places.set(key, port);
    const [oldest] = this.#places.keys();
    if (this.#places.size > MAX_ADDRESSES && oldest !== undefined) this.#places.delete(oldest);
  }
}

const addressKey = (frame: Uint8Array, at: number): string =>
  String.fromCharCode(
    (frame[at]! << 8) | frame[at + 1]!,
    (frame[at + 2]! << 8) | frame[at + 3]!,
    (frame[at + 4]! << 8) | frame[at + 5]!,
  );
