// virtio-9p, QEMU's virtio-9p-device: a transport of 9P messages to a server. The configuration space has the
// tag under which the guest mounts the share. Each request is a chain: the message, and room for the reply. A
// save waits for the requests under way, so that the stream has none.
import { encodeUtf8 } from "../../base/text.ts";
import { VirtioDevice, type VirtioBoard } from "./virtio-device.ts";
import { feature } from "./virtio-feature-bits.ts";
import { type Chain, readSegments, segmentsLength, writeSegments } from "./virtqueue.ts";

export const VIRTIO_9P_MOUNT_TAG = 0;

const HEADER_BYTES = 7;
const QUEUE_SIZE = 128;
/** Of requests and their replies; one request is served in any case. */
const MAX_BYTES_UNDER_WAY = 8 << 20;

/** What answers the messages. */
export interface Service9p {
  readonly tag: string;
  /** The longest message that a client may send, in bytes. */
  readonly msize: number;
  /** Calls `answer` once, with at most `room` bytes; the message has a header. Never throws. */
  request(message: Uint8Array, room: number, answer: (reply: Uint8Array) => void): void;
  /** The driver starts anew. */
  reset(): void;
}

export class Virtio9p extends VirtioDevice<Record<never, never>> {
  readonly #service: Service9p;
  readonly #tag: Uint8Array;
  #requests = 0;
  #bytes = 0;
  readonly #settled: (() => void)[] = [];

  constructor(board: VirtioBoard, service: Service9p) {
    const tag = encodeUtf8(service.tag);
    super(board, {
      deviceId: 9,
      name: "virtio-9p",
      version: 1,
      fields: {},
      features: feature(VIRTIO_9P_MOUNT_TAG),
      queues: [{ name: "requestq", size: QUEUE_SIZE }],
      configSize: 2 + tag.length,
    });
    this.#service = service;
    this.#tag = tag;
  }

  protected override fillConfig(config: DataView): void {
    config.setUint16(0, this.#tag.length, true);
    for (const [i, byte] of this.#tag.entries()) config.setUint8(2 + i, byte);
  }

  protected override onReset(): void {
    this.#service.reset();
  }

  protected override handleQueue(): void {
    const queue = this.queue(0);
    while (this.#bytes < MAX_BYTES_UNDER_WAY) {
      const chain = queue.pop();
      if (chain === undefined) return;
      const header = new DataView(new ArrayBuffer(HEADER_BYTES));
      const got = readSegments(this.board.memory, chain.readable, new Uint8Array(header.buffer));
      const length = header.getUint32(0, true);
      const [sent, room] = [segmentsLength(chain.readable), segmentsLength(chain.writable)];
      if (got < HEADER_BYTES || length < HEADER_BYTES || length > sent || room < HEADER_BYTES) {
        this.needsReset(`a message of ${length} bytes in ${sent}, with ${room} for the reply`);
        return;
      }
      if (length > this.#service.msize) {
        this.needsReset(`a message of ${length} bytes, longer than the ${this.#service.msize} agreed upon`);
        return;
      }
      this.#serve(chain, length, room);
    }
  }

  #serve(chain: Chain, length: number, room: number): void {
    const queue = this.queue(0);
    const { epoch } = queue;
    const bytes = length + Math.min(room, this.#service.msize);
    this.#requests++;
    this.#bytes += bytes;
    const message = new Uint8Array(length);
    readSegments(this.board.memory, chain.readable, message);
    this.#service.request(message, room, (reply) => {
      this.#requests--;
      const wasFull = this.#bytes >= MAX_BYTES_UNDER_WAY;
      this.#bytes -= bytes;
      // After a reset, guest memory is not this request's any more.
      if (queue.epoch === epoch && !this.broken) {
        queue.push(chain, writeSegments(this.board.memory, chain.writable, reply));
        this.interrupt(queue);
      }
      if (wasFull) this.notify(0);
      if (this.#requests === 0) for (const done of this.#settled.splice(0)) done();
    });
  }

  /** Waits for the requests under way. */
  protected override settle(): Promise<void> {
    if (this.#requests === 0) return Promise.resolve();
    return new Promise((resolve) => this.#settled.push(resolve));
  }
}
