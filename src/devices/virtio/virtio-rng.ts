// virtio-rng, the entropy device (virtio 1.3 §5.4): fills the driver's buffers from an injected source.
import { VirtioDevice, type VirtioBoard } from "./virtio-device.ts";
import { type Chain, segmentsLength, writeSegments } from "./virtqueue.ts";

/** Fills `target` with unpredictable bytes. */
export type RandomSource = (target: Uint8Array) => void;

/** The maximum to return at once: a driver may request gigabytes. */
const MAX_BYTES = 65536;

export class VirtioRng extends VirtioDevice<Record<never, never>> {
  readonly #random: RandomSource;

  constructor(board: VirtioBoard, options: { random: RandomSource }) {
    super(board, {
      deviceId: 4,
      name: "virtio-rng",
      version: 1,
      fields: {},
      features: 0n,
      queues: [{ name: "requestq", size: 8 }],
      configSize: 0,
    });
    this.#random = options.random;
  }

  protected override handleQueue(): void {
    this.serveAll(this.queue(0), (chain) => this.#fill(chain));
  }

  #fill(chain: Chain): number {
    const bytes = new Uint8Array(Math.min(MAX_BYTES, segmentsLength(chain.writable)));
    this.#random(bytes);
    return writeSegments(this.board.memory, chain.writable, bytes);
  }
}
