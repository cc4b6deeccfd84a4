// virtio-console (virtio 1.3 §5.3): a console with one port over a CharBackend (input, output, size,
// emergency write), or with VIRTIO_CONSOLE_F_MULTIPORT named ports, as QEMU's virtio-serial-device with its
// virtserialports. Names are not in the stream, as in QEMU's. Left out: ports that come and go at run time.
import { encodeUtf8 } from "../../base/text.ts";
import { Field } from "../../state/field.ts";
import { defineState, type StateOf, u8, u16, u32, u64, varStructArray } from "../../state/schema.ts";
import type { CharBackend } from "../char-backend.ts";
import { VirtioDevice, type VirtioBoard } from "./virtio-device.ts";
import { elementCodec } from "./virtqueue-element.ts";
import { feature, VIRTIO_CONFIG_S_DRIVER_OK } from "./virtio-feature-bits.ts";
import type { VirtioState } from "./virtio-state.ts";
import {
  type Chain,
  chainProblem,
  readSegments,
  segmentsLength,
  type Virtqueue,
  writeSegments,
} from "./virtqueue.ts";

export const VIRTIO_CONSOLE_F_SIZE = 0;
export const VIRTIO_CONSOLE_F_MULTIPORT = 1;
export const VIRTIO_CONSOLE_F_EMERG_WRITE = 2;

/** Events of control messages (§5.3.6.2). */
export const CONTROL = { DEVICE_READY: 0, PORT_ADD: 1, PORT_READY: 3, PORT_OPEN: 6, PORT_NAME: 7 } as const;
const CONTROL_BYTES = 8;

const CONTROL_RECEIVEQ = 2;
const CONTROL_TRANSMITQ = 3;
const CONFIG_SIZE = 12;
const CONFIG_EMERG_WR = 8;
/** The piece size of a transfer: a driver may send gigabytes in one request. */
const PIECE_BYTES = 65536;
/**
 * QEMU's default `max_ports` of a virtio-serial-device: its queues are in the stream. Port 0 is a console's.
 */
const MAX_PORTS = 31;
/** The number of named ports that a device can have. */
export const MAX_NAMED_PORTS: number = MAX_PORTS - 1;

/** A port, and its output request while it waits for the reader. */
const port = defineState(
  "virtio-console-port",
  { version: 3 },
  {
    id: u32.range(0, MAX_PORTS - 1),
    guestConnected: u8.range(0, 1),
    /** What the guest was told last; the backend knows what is so. */
    hostConnected: u8.range(0, 1).init(1),
    elemPopped: u32.range(0, 1),
    iovIdx: u32.when((s) => s.elemPopped === 1),
    iovOffset: u64.when((s) => s.elemPopped === 1),
    elem: new Field(elementCodec).when((s) => s.elemPopped === 1),
  },
);
type PortState = StateOf<typeof port>;

/** QEMU reserves port 0 for a console: its bit is set in any map. */
function fieldsFor(ids: readonly number[], maxPorts: number) {
  const map = ids.reduce((bits, id) => bits | (1 << id), 1) >>> 0;
  const ports = ids.map((id) => Object.assign(port.create(), { id }));
  return {
    cols: u16,
    rows: u16,
    maxNrPorts: u32.init(maxPorts),
    portsMap: u32.range(map, map).init(map),
    nrActivePorts: u32.range(ids.length, ids.length).init(ids.length),
    ports: varStructArray(port, "nrActivePorts", ids.length).init(ports),
  };
}
type ConsoleFields = ReturnType<typeof fieldsFor>;

/** A serial port that the guest finds by its name, in /dev/virtio-ports on Linux. */
export interface SerialPort {
  readonly name: string;
  readonly backend: CharBackend;
}

export type VirtioConsoleOptions =
  | {
      readonly backend: CharBackend;
      /** Offers VIRTIO_CONSOLE_F_SIZE, which QEMU does not. */
      readonly size?: { readonly cols: number; readonly rows: number };
    }
  /** Ports 1, 2, … in this order; offers VIRTIO_CONSOLE_F_MULTIPORT. At most MAX_NAMED_PORTS. */
  | { readonly ports: readonly SerialPort[] };

const controlQueues = [
  { name: "control receiveq", size: 32 },
  { name: "control transmitq", size: 32 },
];
const portQueues = [
  { name: "receiveq", size: 128 },
  { name: "transmitq", size: 128 },
];

/** §5.3.2: port 0, control, then the other ports. */
const receiveqOf = (id: number): number => (id === 0 ? 0 : 2 + 2 * id);
const portOf = (queue: number): number => (queue < 2 ? 0 : (queue >> 1) - 1);

export class VirtioConsole extends VirtioDevice<ConsoleFields> {
  readonly #backends: ReadonlyMap<number, CharBackend>;
  readonly #names: ReadonlyMap<number, string>;

  constructor(board: VirtioBoard, options: VirtioConsoleOptions) {
    const named = "ports" in options ? options.ports : [];
    const ids = "ports" in options ? named.map((_, i) => i + 1) : [0];
    // One port's two control queues exist without a function: QEMU's device with `max_ports=1` has them.
    const maxPorts = "ports" in options ? MAX_PORTS : 1;
    const size = "size" in options ? options.size : undefined;
    super(board, {
      deviceId: 3,
      name: "virtio-console",
      version: 3,
      fields: fieldsFor(ids, maxPorts),
      features:
        feature(VIRTIO_CONSOLE_F_EMERG_WRITE) |
        (maxPorts > 1 ? feature(VIRTIO_CONSOLE_F_MULTIPORT) : 0n) |
        (size === undefined ? 0n : feature(VIRTIO_CONSOLE_F_SIZE)),
      queues: [
        ...portQueues,
        ...controlQueues,
        ...Array.from({ length: maxPorts - 1 }, () => portQueues).flat(),
      ],
      configSize: CONFIG_SIZE,
    });
    this.#names = new Map(named.map(({ name }, i) => [i + 1, name]));
    this.#backends = new Map(
      "ports" in options ? named.map(({ backend }, i) => [i + 1, backend]) : [[0, options.backend]],
    );
    Object.assign(this.state, size ?? {});
    for (const [id, backend] of this.#backends) {
      backend.onReadable(() => this.notify(receiveqOf(id)));
      backend.onWritable?.(() => this.notify(receiveqOf(id) + 1));
      backend.onConnected?.(() => this.#hostChanged());
    }
    this.#tellNobody();
  }

  /** Of named ports, in their order; undefined for a console. */
  get portNames(): readonly string[] | undefined {
    return this.#names.size === 0 ? undefined : [...this.#names.values()];
  }

  /** The terminal was resized. */
  resize(cols: number, rows: number): void {
    if (cols === this.state.cols && rows === this.state.rows) return;
    Object.assign(this.state, { cols, rows });
    this.configChanged();
  }

  get #isMultiport(): boolean {
    return this.has(VIRTIO_CONSOLE_F_MULTIPORT);
  }
  #port(id: number): PortState | undefined {
    return this.state.ports.find((one) => one.id === id);
  }

  protected override fillConfig(config: DataView): void {
    config.setUint16(0, this.state.cols, true);
    config.setUint16(2, this.state.rows, true);
    config.setUint32(4, this.state.maxNrPorts, true);
  }

  /** §5.3.4: an emergency write of one character, before the driver is up. Nothing waits for its reader. */
  protected override configWritten(offset: number): void {
    const backend = this.#backends.get(0);
    if (offset === CONFIG_EMERG_WR && backend !== undefined && backend.writable !== false) {
      backend.write(this.state.config.slice(CONFIG_EMERG_WR, CONFIG_EMERG_WR + 1));
    }
  }

  protected override statusChanged(): void {
    const isDriven = (this.state.status & VIRTIO_CONFIG_S_DRIVER_OK) !== 0;
    // With control messages, the guest opens each port.
    if (!isDriven || !this.#isMultiport)
      for (const one of this.state.ports) this.#setGuestConnected(one, isDriven);
  }

  protected override onReset(): void {
    for (const one of this.state.ports) {
      this.#setGuestConnected(one, false);
      one.elemPopped = 0;
    }
    this.#tellNobody();
  }
  protected override onQueueReset(index: number): void {
    const one = this.#port(portOf(index));
    if (one !== undefined && index === receiveqOf(one.id) + 1) one.elemPopped = 0;
  }
  protected override loaded(): void {
    for (const { id, guestConnected } of this.state.ports)
      this.#backends.get(id)?.guestConnected?.(guestConnected === 1);
  }

  #setGuestConnected(one: PortState, isOpen: boolean): void {
    if ((one.guestConnected === 1) === isOpen) return;
    one.guestConnected = isOpen ? 1 : 0;
    this.#backends.get(one.id)?.guestConnected?.(isOpen);
  }

  // Without a driver, nobody has to be told that the host's side is connected.

  #tellNobody(): void {
    for (const one of this.state.ports) one.hostConnected = this.#isHostConnected(one) ? 1 : 0;
  }
  #isHostConnected({ id }: PortState): boolean {
    return this.#backends.get(id)?.connected !== false;
  }
  #hostChanged(): void {
    if (!(this.state.status & VIRTIO_CONFIG_S_DRIVER_OK)) this.#tellNobody();
    else if (this.#isMultiport) this.notify(CONTROL_RECEIVEQ);
    for (const { id } of this.state.ports) this.notify(receiveqOf(id) + 1);
  }

  protected override handleQueue(index: number): void {
    if (index === CONTROL_RECEIVEQ || index === CONTROL_TRANSMITQ) {
      if (this.#isMultiport) this.#control(index);
      return;
    }
    const one = this.#port(portOf(index));
    if (one === undefined) {
      // A port that does not exist: as in QEMU, what is written to it is dropped.
      if ((index & 1) === 1) this.serveAll(this.queue(index), () => 0);
    } else if (index === receiveqOf(one.id)) this.#receive(one);
    else this.#transmit(one, this.queue(index));
  }

  // Control messages (§5.3.6.2): id, event and value, little-endian, and a name.

  #control(index: number): void {
    if (index === CONTROL_RECEIVEQ) {
      // The guest may have had no buffer for the last change.
      for (const one of this.state.ports)
        if (this.#isHostConnected(one) !== (one.hostConnected === 1) && !this.#tellConnected(one)) return;
      return;
    }
    this.serveAll(this.queue(CONTROL_TRANSMITQ), (chain) => {
      const bytes = new Uint8Array(Math.min(CONTROL_BYTES, segmentsLength(chain.readable)));
      readSegments(this.board.memory, chain.readable, bytes, 0);
      if (bytes.length < CONTROL_BYTES) this.board.guestError?.("virtio-console: a short control message");
      else this.#hear(new DataView(bytes.buffer));
      return 0;
    });
  }

  #hear(message: DataView): void {
    const [id, event, value] = [
      message.getUint32(0, true),
      message.getUint16(4, true),
      message.getUint16(6, true),
    ];
    if (event === CONTROL.DEVICE_READY) {
      if (value !== 0) for (const one of this.state.ports) this.#tell(one.id, CONTROL.PORT_ADD, 1);
      return;
    }
    const one = this.#port(id);
    if (one === undefined) {
      this.board.guestError?.(`virtio-console: a control message for port ${id}, which is not there`);
    } else if (event === CONTROL.PORT_READY && value !== 0) {
      const name = this.#names.get(id);
      if (name !== undefined) this.#tell(id, CONTROL.PORT_NAME, 1, encodeUtf8(`${name}\0`));
      this.#tellConnected(one);
    } else if (event === CONTROL.PORT_OPEN) {
      this.#setGuestConnected(one, value !== 0);
      if (value !== 0) this.notify(receiveqOf(id));
    }
  }

  #tellConnected(one: PortState): boolean {
    const isConnected = this.#isHostConnected(one) ? 1 : 0;
    if (!this.#tell(one.id, CONTROL.PORT_OPEN, isConnected)) return false;
    one.hostConnected = isConnected;
    return true;
  }

  /** Returns false, and drops the message as QEMU does, if the guest has no buffer for it. */
  #tell(id: number, event: number, value: number, text = new Uint8Array(0)): boolean {
    const queue = this.queue(CONTROL_RECEIVEQ);
    const chain = queue.ready ? queue.pop() : undefined;
    if (chain === undefined) return false;
    const message = new Uint8Array(CONTROL_BYTES + text.length);
    const view = new DataView(message.buffer);
    view.setUint32(0, id, true);
    view.setUint16(4, event, true);
    view.setUint16(6, value, true);
    message.set(text, CONTROL_BYTES);
    queue.push(chain, writeSegments(this.board.memory, chain.writable, message));
    this.interrupt(queue);
    return true;
  }

  // Data.

  /** Writes the request that waits, if there is one, then the queue's. */
  #transmit(one: PortState, queue: Virtqueue): void {
    const backend = this.#backends.get(one.id) as CharBackend;
    const { elemPopped, elem, iovIdx, iovOffset } = one;
    if (elemPopped === 1) {
      const done = segmentsLength(elem.readable.slice(0, iovIdx)) + Number(iovOffset);
      if (!this.#write(one, backend, elem, done)) return;
      one.elemPopped = 0;
      queue.push(elem, 0);
      this.interrupt(queue);
    }
    this.serveAll(queue, (chain) => (this.#write(one, backend, chain, 0) ? 0 : undefined));
  }

  /**
   * Writes a request from a byte on. Returns false, and keeps it, once the reader is behind. Without a
   * reader, the rest is dropped.
   */
  #write(one: PortState, backend: CharBackend, chain: Chain, from: number): boolean {
    const length = segmentsLength(chain.readable);
    for (let done = from; done < length && backend.connected !== false; done += PIECE_BYTES) {
      if (backend.writable === false) {
        keep(one, chain, done);
        return false;
      }
      const piece = new Uint8Array(Math.min(PIECE_BYTES, length - done));
      readSegments(this.board.memory, chain.readable, piece, done);
      backend.write(piece);
    }
    return true;
  }

  /** Delivers as much input as there are buffers for; the rest stays in the backend. */
  #receive(one: PortState): void {
    if (this.#isMultiport && one.guestConnected === 0) return;
    const backend = this.#backends.get(one.id) as CharBackend;
    const queue = this.queue(receiveqOf(one.id));
    let filled = 0;
    for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) {
      const input = backend.read(Math.min(PIECE_BYTES, segmentsLength(chain.writable)));
      if (input.length === 0) {
        queue.unpop(1);
        break;
      }
      queue.push(chain, writeSegments(this.board.memory, chain.writable, input));
      filled++;
    }
    if (filled > 0) this.interrupt(queue);
  }

  protected override inFlight(state: VirtioState<ConsoleFields>, index: number): number {
    const one = state.ports.find(({ id }) => index === receiveqOf(id) + 1);
    return one?.elemPopped ?? 0;
  }

  protected override checkDevice(state: VirtioState<ConsoleFields>): string | undefined {
    const theirs = state.ports.map(({ id }) => id).toSorted((a, b) => a - b);
    const ours = this.state.ports.map(({ id }) => id);
    if (theirs.join() !== ours.join())
      return `serial ports ${theirs.join(", ")}, this device has ${ours.join(", ")}: give it the same ports`;
    return state.ports
      .filter(({ elemPopped }) => elemPopped === 1)
      .map(({ elem }) => chainProblem(this.board.memory, elem))
      .find((problem) => problem !== undefined);
  }
}

function keep(one: PortState, chain: Chain, written: number): void {
  let iovIdx = 0;
  let iovOffset = written;
  for (const { length } of chain.readable) {
    if (iovOffset < length) break;
    iovOffset -= length;
    iovIdx++;
  }
  Object.assign(one, { elemPopped: 1, elem: chain, iovIdx, iovOffset: BigInt(iovOffset) });
}
