// The virtio core (virtio 1.3 §2): feature negotiation, status, queues, configuration space, interrupts,
// DEVICE_NEEDS_RESET, and stop, load and resume of a device. It knows no transport and no device type:
// transports call it, devices extend it.
import { hex } from "../../base/hex.ts";
import { WherryError } from "../../base/errors.ts";
import type { GuestMemory } from "../../memory/guest-memory.ts";
import { type InterruptStatus, LineStatus } from "../../memory/irq-line.ts";
import type { StateDefinition } from "../../state/schema.ts";
import {
  COMMON_FEATURES,
  feature,
  LEGACY_FEATURES,
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_CONFIG_S_FEATURES_OK,
  VIRTIO_CONFIG_S_NEEDS_RESET,
  VIRTIO_F_VERSION_1,
  VIRTIO_ISR_CONFIG,
  VIRTIO_ISR_USED,
} from "./virtio-feature-bits.ts";
import { DEVICE_ENDIAN_LITTLE, type Fields, type VirtioState, virtioState } from "./virtio-state.ts";
import { type Chain, legacyRings, type QueueOwner, queueProblem, Virtqueue } from "./virtqueue.ts";

/** An impossible virtio state in a stream: the message names the section, the queue and the value found. */
export class VirtioError extends WherryError {}

/** What every virtio device needs from the board that it is on. */
export interface VirtioBoard {
  readonly memory: GuestMemory;
  /** Runs `task` soon, after pending events of the VMM thread. */
  defer(task: () => void): void;
  /** A notification was served to its end at once: others that follow it closely may be waited for. */
  expectMore?(): void;
  /** mmio version 1 (QEMU's `force-legacy`). Default: version 2. */
  readonly legacy?: boolean;
  /** Reports a driver's mistake that put a device into DEVICE_NEEDS_RESET. */
  guestError?(message: string): void;
}

/** The properties of a device type. */
export interface VirtioKind<F extends Fields> {
  readonly deviceId: number;
  /** QEMU's name of the section, such as `virtio-blk`. */
  readonly name: string;
  /** The version of the section, and the device's own fields in it. */
  readonly version: number;
  readonly fields: F;
  /** Feature bits offered in addition to the core's, and bits of the core's that are not offered. */
  readonly features: bigint;
  readonly withheld?: bigint;
  /** Bits that are not offered, and that a loaded guest may use all the same. */
  readonly accepted?: bigint;
  readonly queues: readonly { readonly name: string; readonly size: number }[];
  readonly configSize: number;
}

export abstract class VirtioDevice<F extends Fields> implements QueueOwner {
  readonly kind: VirtioKind<F>;
  readonly legacy: boolean;
  readonly stateDefinition: StateDefinition<VirtioState<F>>;
  readonly state: VirtioState<F>;
  readonly queues: readonly Virtqueue[];
  /** All feature bits that the device supports; a legacy transport shows the low half. */
  readonly offeredFeatures: bigint;
  protected readonly board: VirtioBoard;
  /** The interrupt status, which the transport sets; `state.isr` is its copy in a stream. */
  interruptStatus: InterruptStatus = new LineStatus({ set: () => {} });
  /**
   * Configuration generation (§2.5.1). Not migrated, as in QEMU: a driver compares it within one read only.
   */
  generation = 0;
  /** Requests are served only while the machine runs. */
  #running = false;
  /** `state.guestFeatures` as it was last seen, and its halves. */
  #features = 0n;
  readonly #featureWords = new Uint32Array(2);

  constructor(board: VirtioBoard, kind: VirtioKind<F>) {
    this.board = board;
    this.kind = kind;
    this.legacy = board.legacy ?? false;
    this.stateDefinition = virtioState(kind.version, kind.fields, kind.queues.length, !this.legacy);
    const state = this.stateDefinition.create();
    this.state = state;
    const version = this.legacy ? 0n : feature(VIRTIO_F_VERSION_1);
    this.offeredFeatures = (kind.features | COMMON_FEATURES | version) & ~(kind.withheld ?? 0n);
    state.configLength = kind.configSize;
    state.config = new Uint8Array(kind.configSize);
    state.queueCount = kind.queues.length;
    this.queues = kind.queues.map(({ size }, i) => {
      const queue = { num: size, align: 4096, desc: 0n, lastAvailIdx: 0 };
      const rings = state.rings[i];
      const sizes = state.sizes[i];
      if (rings === undefined || sizes === undefined) throw new VirtioError("virtio.queues", `queue ${i}`);
      state.queues.push(queue);
      sizes.numDefault = size;
      return new Virtqueue(i, board.memory, this, queue, rings);
    });
  }

  get broken(): boolean {
    return this.state.broken || this.state.disabled;
  }
  get running(): boolean {
    return this.#running;
  }
  /** Asked several times for each buffer. */
  has(featureBit: number): boolean {
    const { guestFeatures } = this.state;
    if (guestFeatures !== this.#features) {
      this.#features = guestFeatures;
      this.#featureWords[0] = Number(guestFeatures & 0xffff_ffffn);
      this.#featureWords[1] = Number(guestFeatures >> 32n);
    }
    return ((this.#featureWords[featureBit >>> 5]! >>> (featureBit & 31)) & 1) === 1;
  }

  // Overridden by device types.

  /** Serves queue `index`, which may have new buffers. */
  protected abstract handleQueue(index: number): void;
  /** Updates `config`; all multi-byte fields are little-endian. */
  protected fillConfig(_config: DataView): void {}
  /** The driver wrote to the configuration space. */
  protected configWritten(_offset: number, _size: number): void {}
  /** Features were negotiated or loaded: sets up what depends on them. */
  protected featuresChanged(): void {}
  /** The status changed; `state.status` has the new value. */
  protected statusChanged(): void {}
  /**
   * Device reset: drops requests in flight and restores the device's own fields. The core resets the queues.
   */
  protected onReset(): void {}
  /** Queue reset: drops the requests in flight on this queue. */
  protected onQueueReset(_index: number): void {}
  /** The machine stops: resolves when no more writes to guest memory follow. */
  protected async settle(): Promise<void> {}
  /** The machine resumes; each queue is polled afterwards. */
  protected resume(): void {}
  /**
   * Reports an impossible value in the loaded fields of the device. `state` is complete but not yet applied.
   */
  protected checkDevice(_state: VirtioState<F>): string | undefined {
    return undefined;
  }
  /** The number of requests of queue `index` that were popped and not returned, according to `state`. */
  protected inFlight(_state: VirtioState<F>, _index: number): number {
    return 0;
  }
  /** State was loaded: rebuilds caches. */
  protected loaded(): void {}

  // Called by transports.

  /** §3.1.1 steps 4 to 5 (modern). Returns false if the driver must not continue. */
  negotiate(bits: bigint): boolean {
    if ((bits & ~(this.offeredFeatures & ~LEGACY_FEATURES)) !== 0n) return false;
    if ((bits & feature(VIRTIO_F_VERSION_1)) === 0n) return false;
    this.setFeatures(bits);
    return true;
  }

  /** Bits that were not offered are dropped. No effect after FEATURES_OK is set. */
  setFeatures(bits: bigint): void {
    if (this.state.status & VIRTIO_CONFIG_S_FEATURES_OK) return;
    this.state.guestFeatures = bits & this.offeredFeatures;
    this.featuresChanged();
  }

  setStatus(status: number): void {
    if (status === 0) return this.reset();
    const { state } = this;
    state.status = status | (state.status & VIRTIO_CONFIG_S_NEEDS_RESET);
    const ok = (status & VIRTIO_CONFIG_S_DRIVER_OK) !== 0;
    const started = ok && !state.started;
    if (started) state.started = true;
    this.statusChanged();
    if (started) this.#pollQueues();
  }

  /** §2.4. Also called by the transport for a machine reset. */
  reset(): void {
    const { state } = this;
    for (const queue of this.queues) queue.reset(state.sizes[queue.index]?.numDefault ?? 0);
    Object.assign(state, { status: 0, queueSel: 0, guestFeatures: 0n });
    Object.assign(state, { broken: false, started: false, disabled: false });
    this.onReset();
    this.featuresChanged();
    this.acknowledge(~0);
  }

  /** §2.6.1 */
  resetQueue(index: number): void {
    const queue = this.queues[index];
    if (queue === undefined) return;
    queue.reset(this.state.sizes[index]?.numDefault ?? 0);
    this.onQueueReset(index);
  }

  /** The driver notified queue `index`, by register or ioeventfd. */
  notify(index: number): void {
    const queue = this.queues[index];
    if (!this.#running || queue === undefined || !queue.ready) return;
    if (!this.state.started) {
      // Legacy drivers may notify before DRIVER_OK (§3.1.2); that makes the device live.
      if (this.has(VIRTIO_F_VERSION_1)) return;
      this.state.started = true;
    }
    this.handleQueue(index);
  }

  configRead(offset: number, size: 1 | 2 | 4): number {
    const { config } = this.state;
    if (offset + size > config.length) return 0;
    const view = new DataView(config.buffer, config.byteOffset, config.length);
    this.fillConfig(view);
    if (size === 1) return view.getUint8(offset);
    return size === 2 ? view.getUint16(offset, true) : view.getUint32(offset, true);
  }

  configWrite(offset: number, size: 1 | 2 | 4, value: number): void {
    const { config } = this.state;
    if (offset + size > config.length) return;
    for (let i = 0; i < size; i++) config[offset + i] = value >>> (8 * i);
    this.configWritten(offset, size);
  }

  acknowledge(bits: number): void {
    this.interruptStatus.acknowledge(bits);
  }

  // Called by devices.

  /** §2.1.2: stops serving until the driver resets the device, and notifies the driver. */
  needsReset(reason: string): void {
    if (this.state.broken) return;
    this.state.broken = true;
    this.board.guestError?.(`${this.kind.name}: ${reason}`);
    if (!this.has(VIRTIO_F_VERSION_1)) return;
    this.state.status |= VIRTIO_CONFIG_S_NEEDS_RESET;
    this.configChanged();
  }

  /** The device changed its configuration space. */
  protected configChanged(): void {
    this.generation = (this.generation + 1) >>> 0;
    // Sets the used bit as well, as QEMU does; a driver ignores it if nothing was used.
    if (this.state.status & VIRTIO_CONFIG_S_DRIVER_OK)
      this.interruptStatus.raise(VIRTIO_ISR_CONFIG | VIRTIO_ISR_USED);
  }

  /** Used buffers were published on `queue`: interrupts if the driver wants it. */
  protected interrupt(queue: Virtqueue): void {
    if (queue.shouldInterrupt()) this.interruptStatus.raise(VIRTIO_ISR_USED);
  }

  /**
   * Serves all available buffers of a queue: `serve` returns the bytes written to the writable part of each
   * chain, or undefined if it keeps the chain; then no more are served now. If the driver adds buffers as
   * fast as this serves them, the rest waits until other events were handled.
   */
  protected serveAll(queue: Virtqueue, serve: (chain: Chain) => number | undefined): void {
    let served = 0;
    for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) {
      const written = serve(chain);
      if (written === undefined) break;
      queue.push(chain, written);
      if (++served >= queue.state.num) {
        this.board.defer(() => this.notify(queue.index));
        break;
      }
    }
    if (served > 0) this.interrupt(queue);
  }

  protected queue(index: number): Virtqueue {
    const queue = this.queues[index];
    if (queue === undefined) throw new VirtioError("virtio.queue", `${this.kind.name} has no queue ${index}`);
    return queue;
  }

  // Stop, load, resume.

  /** The vCPUs have stopped. After it resolves, guest memory is not written. */
  async quiesce(): Promise<void> {
    // A kick after the last poll is served now: if the machine resumes in another VMM, that one may poll a
    // queue only when it is kicked. Poll twice, since the first poll of a full queue ends before it enables
    // the next kick.
    if (this.#running) for (let polls = 0; polls < 2; polls++) this.#pollQueues();
    this.#running = false;
    await this.settle();
    // A queue that its driver has just corrupted must not make a stream that cannot be loaded.
    for (const queue of this.queues) {
      const problem = queue.indexProblem();
      if (problem !== undefined) this.needsReset(problem);
    }
  }

  /** The vCPUs are about to run. A kick after the last poll must not be lost. */
  unquiesce(): void {
    this.#running = true;
    this.resume();
    this.#pollQueues();
  }

  #pollQueues(): void {
    if (!this.state.started) return;
    for (const queue of this.queues) this.notify(queue.index);
  }

  /**
   * Checks a decoded state against this host and the loaded guest memory, and fills in what older or legacy
   * streams omit. Changes only `state`. Throws VirtioError.
   */
  checkState(state: VirtioState<F>, where: string): void {
    const fail = (what: string): never => {
      throw new VirtioError("virtio.state", `${where}: ${what}`);
    };
    if (state.deviceEndian === 0) state.deviceEndian = DEVICE_ENDIAN_LITTLE;
    if (state.deviceEndian !== DEVICE_ENDIAN_LITTLE) {
      fail(`device_endian ${state.deviceEndian}: only little-endian (1) guests are run here`);
    }
    if (state.guestFeatures === 0n) state.guestFeatures = BigInt(state.guestFeaturesLow);
    if (Number(state.guestFeatures & 0xffff_ffffn) !== state.guestFeaturesLow) {
      fail(`features ${hex(state.guestFeatures)} and their low half ${hex(state.guestFeaturesLow)} differ`);
    }
    const modern = (state.guestFeatures & feature(VIRTIO_F_VERSION_1)) !== 0n;
    const driven = (state.status & VIRTIO_CONFIG_S_DRIVER_OK) !== 0;
    if (modern === this.legacy && (modern || (driven && !state.mmio.vqs.some(({ enabled }) => enabled)))) {
      const [theirs, ours] = modern ? ["modern", "legacy"] : ["legacy", "modern"];
      fail(`the guest drives a ${theirs} device, this one is ${ours}: start it with ${theirs} virtio`);
    }
    const missing = state.guestFeatures & ~(this.offeredFeatures | (this.kind.accepted ?? 0n));
    if (missing !== 0n) {
      fail(
        `the guest uses features ${hex(missing)} that are not offered here (${hex(this.offeredFeatures)}): turn them ` +
          "off in the device that the guest starts with (QEMU: -device NAME,help lists its properties)",
      );
    }
    if (state.queueCount !== this.queues.length) {
      fail(`${state.queueCount} queues, this device has ${this.queues.length}: give it the same options`);
    }
    this.#completeState(state);
    const problem = this.checkDevice(state);
    if (problem !== undefined) fail(problem);
    if (state.broken) return;
    for (const queue of this.queues) this.#checkQueue(state, queue.index, fail);
  }

  #completeState(state: VirtioState<F>): void {
    if (state.configLength !== this.kind.configSize) {
      const config = new Uint8Array(this.kind.configSize);
      config.set(state.config.subarray(0, config.length));
      state.config = config;
      state.configLength = config.length;
    }
    if (state.sizes.every((s) => s.numDefault === 0)) {
      // Absent if no queue's size was changed: then it is the default size of this side, whatever the other
      // side's default is.
      for (const [i, { num }] of state.queues.entries())
        Object.assign(state.sizes[i] ?? {}, { numDefault: num });
    }
    if (this.legacy) {
      for (const [i, queue] of state.queues.entries())
        Object.assign(state.rings[i] ?? {}, legacyRings(queue));
    }
  }

  #checkQueue(state: VirtioState<F>, index: number, fail: (what: string) => never): void {
    const queue = state.queues[index];
    const rings = state.rings[index];
    if (queue === undefined || rings === undefined) return;
    const name = `queue ${index} (${this.kind.queues[index]?.name})`;
    const last = queue.lastAvailIdx;
    if (!this.legacy && state.mmio.vqs[index]?.enabled !== true && queue.desc !== 0n) return;
    if (queue.desc === 0n) {
      if (last !== 0) fail(`${name}: has no rings, but last_avail_idx ${hex(last)}`);
      return;
    }
    const problem = queueProblem(name, this.board.memory, queue, rings);
    if (problem !== undefined) fail(problem);
    const avail = this.board.memory.readU16(Number(rings.avail) + 2) ?? 0;
    const used = this.board.memory.readU16(Number(rings.used) + 2) ?? 0;
    const pending = (avail - last) & 0xffff;
    if (pending > queue.num) {
      fail(
        `${name}: avail index ${hex(avail)} − last_avail_idx ${hex(last)} is ${hex(pending)}, more than its ` +
          `size ${hex(queue.num)}: device state and RAM are not of the same moment; stop the guest before it is saved`,
      );
    }
    const inUse = (last - used) & 0xffff;
    const expected = this.inFlight(state, index);
    if (inUse !== expected) {
      fail(
        `${name}: last_avail_idx ${hex(last)} − used index ${hex(used)} is ${hex(inUse)} requests in flight, ` +
          `the stream has ${expected}`,
      );
    }
  }

  /** The transport calls this after the state was replaced by one that passed `checkState`. */
  afterLoad(): void {
    for (const queue of this.queues) {
      queue.epoch++;
      queue.attach(this.board.memory.readU16(Number(queue.rings.used) + 2) ?? 0);
    }
    this.featuresChanged();
    this.loaded();
  }
}
