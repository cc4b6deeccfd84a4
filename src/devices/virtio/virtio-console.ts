// virtio-console (virtio 1.3 §5.3) with one port over a CharBackend: input, output, size, emergency write.
// Left out: multiport. Its two control queues exist without a function, because QEMU's device with
// `max_ports=1` has them and its stream counts them.
import { Field } from "../../state/field.ts";
import { defineState, u8, u16, u32, u64, varStructArray } from "../../state/schema.ts";
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
export const VIRTIO_CONSOLE_F_EMERG_WRITE = 2;

const RECEIVEQ = 0;
const TRANSMITQ = 1;
const CONFIG_SIZE = 12;
const CONFIG_EMERG_WR = 8;
/** The piece size of a transfer: a driver may send gigabytes in one request. */
const PIECE_BYTES = 65536;

/** A port, and its output request while it waits for the reader. */
const port = defineState(
  "virtio-console-port",
  { version: 3 },
  {
    id: u32.range(0, 0),
    guestConnected: u8.range(0, 1),
    hostConnected: u8.range(0, 1).init(1),
    elemPopped: u32.range(0, 1),
    iovIdx: u32.when((s) => s.elemPopped === 1),
    iovOffset: u64.when((s) => s.elemPopped === 1),
    elem: new Field(elementCodec).when((s) => s.elemPopped === 1),
  },
);

const fields = {
  cols: u16,
  rows: u16,
  maxNrPorts: u32.init(1),
  portsMap: u32.range(1, 1).init(1),
  nrActivePorts: u32.range(1, 1).init(1),
  ports: varStructArray(port, "nrActivePorts", 1).init([port.create()]),
};

export interface VirtioConsoleOptions {
  readonly backend: CharBackend;
  /** Offers VIRTIO_CONSOLE_F_SIZE, which QEMU does not. */
  readonly size?: { readonly cols: number; readonly rows: number };
}

export class VirtioConsole extends VirtioDevice<typeof fields> {
  readonly #backend: CharBackend;

  constructor(board: VirtioBoard, options: VirtioConsoleOptions) {
    super(board, {
      deviceId: 3,
      name: "virtio-console",
      version: 3,
      fields,
      features:
        feature(VIRTIO_CONSOLE_F_EMERG_WRITE) |
        (options.size === undefined ? 0n : feature(VIRTIO_CONSOLE_F_SIZE)),
      queues: [
        { name: "receiveq", size: 128 },
        { name: "transmitq", size: 128 },
        { name: "control receiveq", size: 32 },
        { name: "control transmitq", size: 32 },
      ],
      configSize: CONFIG_SIZE,
    });
    this.#backend = options.backend;
    Object.assign(this.state, options.size ?? {});
    this.#backend.onReadable(() => this.notify(RECEIVEQ));
    this.#backend.onWritable?.(() => this.notify(TRANSMITQ));
  }

  /** The terminal was resized. */
  resize(cols: number, rows: number): void {
    if (cols === this.state.cols && rows === this.state.rows) return;
    Object.assign(this.state, { cols, rows });
    this.configChanged();
  }

  get #port(): VirtioState<typeof fields>["ports"][number] {
    return this.state.ports[0] as VirtioState<typeof fields>["ports"][number];
  }

  protected override fillConfig(config: DataView): void {
    config.setUint16(0, this.state.cols, true);
    config.setUint16(2, this.state.rows, true);
    config.setUint32(4, 1, true);
  }

  /** §5.3.4: an emergency write of one character, before the driver is up. Nothing waits for its reader. */
  protected override configWritten(offset: number): void {
    if (offset === CONFIG_EMERG_WR && this.#backend.writable !== false) {
      this.#backend.write(this.state.config.slice(CONFIG_EMERG_WR, CONFIG_EMERG_WR + 1));
    }
  }

  protected override statusChanged(): void {
    this.#port.guestConnected = this.state.status & VIRTIO_CONFIG_S_DRIVER_OK ? 1 : 0;
  }

  protected override onReset(): void {
    Object.assign(this.#port, { guestConnected: 0, elemPopped: 0 });
  }
  protected override onQueueReset(index: number): void {
    if (index === TRANSMITQ) this.#port.elemPopped = 0;
  }

  protected override handleQueue(index: number): void {
    if (index === TRANSMITQ) this.#transmit(this.queue(TRANSMITQ));
    else if (index === RECEIVEQ) this.#receive();
  }

  /** Writes the request that waits, if there is one, then the queue's. */
  #transmit(queue: Virtqueue): void {
    const { elemPopped, elem, iovIdx, iovOffset } = this.#port;
    if (elemPopped === 1) {
      if (!this.#write(elem, segmentsLength(elem.readable.slice(0, iovIdx)) + Number(iovOffset))) return;
      this.#port.elemPopped = 0;
      queue.push(elem, 0);
      this.interrupt(queue);
    }
    this.serveAll(queue, (chain) => (this.#write(chain, 0) ? 0 : undefined));
  }

  /** Writes a request from a byte on. Returns false, and keeps it, once the reader is behind. */
  #write(chain: Chain, from: number): boolean {
    const length = segmentsLength(chain.readable);
    for (let done = from; done < length; done += PIECE_BYTES) {
      if (this.#backend.writable === false) {
        this.#keep(chain, done);
        return false;
      }
      const piece = new Uint8Array(Math.min(PIECE_BYTES, length - done));
      readSegments(this.board.memory, chain.readable, piece, done);
      this.#backend.write(piece);
    }
    return true;
  }

  #keep(chain: Chain, written: number): void {
    let iovIdx = 0;
    let iovOffset = written;
    for (const { length } of chain.readable) {
      if (iovOffset < length) break;
      iovOffset -= length;
      iovIdx++;
    }
    Object.assign(this.#port, { elemPopped: 1, elem: chain, iovIdx, iovOffset: BigInt(iovOffset) });
  }

  /** Delivers as much input as there are buffers for; the rest stays in the backend. */
  #receive(): void {
    const queue = this.queue(RECEIVEQ);
    let filled = 0;
    for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) {
      const input = this.#backend.read(Math.min(PIECE_BYTES, segmentsLength(chain.writable)));
      if (input.length === 0) {
        queue.unpop(1);
        break;
      }
      queue.push(chain, writeSegments(this.board.memory, chain.writable, input));
      filled++;
    }
    if (filled > 0) this.interrupt(queue);
  }

  protected override inFlight(state: VirtioState<typeof fields>, index: number): number {
    return index === TRANSMITQ ? (state.ports[0]?.elemPopped ?? 0) : 0;
  }

  protected override checkDevice(state: VirtioState<typeof fields>): string | undefined {
    const [saved] = state.ports;
    return saved?.elemPopped === 1 ? chainProblem(this.board.memory, saved.elem) : undefined;
  }
}
