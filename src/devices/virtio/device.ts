// The virtio core (virtio 1.3 §2): feature negotiation, status, queues, configuration space, interrupts,
// DEVICE_NEEDS_RESET, and what a device does when the machine stops, loads and goes on. It knows no
// transport and no kind of device: a transport drives it, devices extend it.
import { hex } from "../../base/hex.ts";
import { WherryError } from "../../base/errors.ts";
import type { GuestMemory } from "../../memory/guest-memory.ts";
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
} from "./features.ts";
import { DEVICE_ENDIAN_LITTLE, type Fields, type VirtioState, virtioState } from "./state.ts";
import { type Chain, legacyRings, type QueueOwner, queueProblem, Virtqueue } from "./virtqueue.ts";

/** A stream's virtio state that cannot be: the message names the section, the queue, what was found. */
export class VirtioError extends WherryError {}

/** What every virtio device needs of the machine. */
export interface VirtioHost {
  readonly memory: GuestMemory;
  /** Run `task` soon, after other events of the VMM thread had their turn. */
  defer(task: () => void): void;
  /** mmio version 1 (QEMU's `force-legacy`). Default: version 2. */
  readonly legacy?: boolean;
  /** A driver's mistake that made a device need a reset. */
  guestError?(message: string): void;
}

/** What a kind of device is. */
export interface VirtioKind<F extends Fields> {
  readonly deviceId: number;
  /** QEMU's name of the section, such as `virtio-blk`. */
  readonly name: string;
  /** Version of the section, and the device's own fields in it. */
  readonly version: number;
  readonly fields: F;
  /** Device feature bits offered, on top of the core's, and bits of the core's that are not. */
  readonly features: bigint;
  readonly withheld?: bigint;
  readonly queues: readonly { readonly name: string; readonly size: number }[];
  readonly configSize: number;
}

export abstract class VirtioDevice<F extends Fields> implements QueueOwner {
  readonly kind: VirtioKind<F>;
  readonly legacy: boolean;
  readonly stateDefinition: StateDefinition<VirtioState<F>>;
  readonly state: VirtioState<F>;
  readonly queues: readonly Virtqueue[];
  /** All bits that the host supports; a legacy transport shows the low half. */
  readonly offeredFeatures: bigint;
  protected readonly host: VirtioHost;
  /** Called when the interrupt status may have changed; the transport sets it. */
  onInterruptStatus: () => void = () => {};
  /** Configuration generation (§2.5.1). QEMU does not migrate it: drivers compare it within one read. */
  generation = 0;
  /** Requests are served only while the machine runs. */
  #running = false;

  constructor(host: VirtioHost, kind: VirtioKind<F>) {
    this.host = host;
    this.kind = kind;
    this.legacy = host.legacy ?? false;
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
      return new Virtqueue(i, host.memory, this, queue, rings);
    });
  }

  get broken(): boolean {
    return this.state.broken || this.state.disabled;
  }
  get running(): boolean {
    return this.#running;
  }
  has(featureBit: number): boolean {
    return (this.state.guestFeatures & feature(featureBit)) !== 0n;
  }

  // What kinds of devices fill in.

  /** Serve queue `index`: it may have something new. */
  protected abstract handleQueue(index: number): void;
  /** Bring `config` up to date; all multi-byte fields are little-endian. */
  protected fillConfig(_config: DataView): void {}
  /** The driver wrote bytes of the configuration space. */
  protected configWritten(_offset: number, _size: number): void {}
  /** Features were negotiated, or loaded: what depends on them is set up. */
  protected featuresChanged(): void {}
  /** The status changed; `state.status` has the new one. */
  protected statusChanged(): void {}
  /** Device reset: drop what was in flight, restore the device's own fields. Queues are reset by the core. */
  protected onReset(): void {}
  /** One queue is reset: drop what was in flight on it. */
  protected onQueueReset(_index: number): void {}
  /** The machine stops: resolve when nothing more is written to guest memory. */
  protected async settle(): Promise<void> {}
  /** The machine goes on; each queue is looked at afterwards. */
  protected resume(): void {}
  /** Loaded fields of the device that cannot be: what is wrong. `state` is whole but not yet applied. */
  protected checkDevice(_state: VirtioState<F>): string | undefined {
    return undefined;
  }
  /** Requests of queue `index` that `state` says are popped and not yet returned. */
  protected inFlight(_state: VirtioState<F>, _index: number): number {
    return 0;
  }
  /** State was loaded: rebuild caches. */
  protected loaded(): void {}

  // What transports call.

  /** §3.1.1 step 4–5 (modern). False: the driver must not go on. */
  negotiate(bits: bigint): boolean {
    if ((bits & ~(this.offeredFeatures & ~LEGACY_FEATURES)) !== 0n) return false;
    if ((bits & feature(VIRTIO_F_VERSION_1)) === 0n) return false;
    this.setFeatures(bits);
    return true;
  }

  /** Bits that were not offered are dropped. No effect once FEATURES_OK is set. */
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
    if (started) this.#lookAtQueues();
  }

  /** §2.4. Also the machine's reset, by way of the transport. */
  reset(): void {
    const { state } = this;
    for (const queue of this.queues) queue.reset(state.sizes[queue.index]?.numDefault ?? 0);
    Object.assign(state, { status: 0, isr: 0, queueSel: 0, guestFeatures: 0n });
    Object.assign(state, { broken: false, started: false, disabled: false });
    this.onReset();
    this.featuresChanged();
    this.onInterruptStatus();
  }

  /** §2.6.1 */
  resetQueue(index: number): void {
    const queue = this.queues[index];
    if (queue === undefined) return;
    queue.reset(this.state.sizes[index]?.numDefault ?? 0);
    this.onQueueReset(index);
  }

  /** The driver notified queue `index`, by register or by way of an ioeventfd. */
  notify(index: number): void {
    const queue = this.queues[index];
    if (!this.#running || queue === undefined || !queue.ready) return;
    if (!this.state.started) {
      // Legacy drivers may notify before DRIVER_OK (§3.1.2); from then on the device is live.
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
    this.state.isr &= ~bits;
    this.onInterruptStatus();
  }

  // What devices call.

  /** §2.1.2: stop until the driver resets the device, and say so. */
  needsReset(reason: string): void {
    if (this.state.broken) return;
    this.state.broken = true;
    this.host.guestError?.(`${this.kind.name}: ${reason}`);
    if (!this.has(VIRTIO_F_VERSION_1)) return;
    this.state.status |= VIRTIO_CONFIG_S_NEEDS_RESET;
    this.configChanged();
  }

  /** The configuration space changed by itself. */
  protected configChanged(): void {
    this.generation = (this.generation + 1) >>> 0;
    // With the used bit, as QEMU does: a driver that finds nothing used goes on.
    if (this.state.status & VIRTIO_CONFIG_S_DRIVER_OK) this.#raise(VIRTIO_ISR_CONFIG | VIRTIO_ISR_USED);
  }

  /** Used buffers were published on `queue`: interrupt if the driver wants it. */
  protected interrupt(queue: Virtqueue): void {
    if (queue.shouldInterrupt()) this.#raise(VIRTIO_ISR_USED);
  }

  /**
   * Serve what is in a queue at once: `serve` gives the bytes written to each chain's writable part. A
   * driver that adds as fast as this serves gets its next turn after other events.
   */
  protected serveAll(queue: Virtqueue, serve: (chain: Chain) => number): void {
    let served = 0;
    for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) {
      queue.push(chain, serve(chain));
      if (++served >= queue.state.num) {
        this.host.defer(() => this.notify(queue.index));
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

  #raise(bits: number): void {
    this.state.isr |= bits;
    this.onInterruptStatus();
  }

  // Stopping, loading, going on.

  /** The vCPUs have stopped. Nothing is written to guest memory once it resolves. */
  async quiesce(): Promise<void> {
    // A kick that came too late for the last look is served now: if the machine goes on in another VMM, that one looks at
    // a queue only when it is kicked. Twice, since the first look at a full queue ends before it asks for the next kick.
    if (this.#running) for (let looks = 0; looks < 2; looks++) this.#lookAtQueues();
    this.#running = false;
    await this.settle();
    // A queue that its driver has just ruined must not make a stream that cannot be loaded.
    for (const queue of this.queues) {
      const problem = queue.indexProblem();
      if (problem !== undefined) this.needsReset(problem);
    }
  }

  /** The vCPUs are about to run. A kick that came too late for the last look must not be lost. */
  unquiesce(): void {
    this.#running = true;
    this.resume();
    this.#lookAtQueues();
  }

  #lookAtQueues(): void {
    if (!this.state.started) return;
    for (const queue of this.queues) this.notify(queue.index);
  }

  /**
   * Check a decoded state against this host and against guest memory as loaded, and complete what older
   * or legacy streams leave out. Changes only `state`. Throws VirtioError.
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
      fail(`the guest drives a ${theirs} device, this one is ${ours}: start with --virtio ${theirs}`);
    }
    const missing = state.guestFeatures & ~this.offeredFeatures;
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
      // Left out where no queue's size was changed: it is the default still, whatever the other side's default is.
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
    const problem = queueProblem(name, this.host.memory, queue, rings);
    if (problem !== undefined) fail(problem);
    const avail = this.host.memory.readU16(Number(rings.avail) + 2) ?? 0;
    const used = this.host.memory.readU16(Number(rings.used) + 2) ?? 0;
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

  /** The state was replaced by one that passed `checkState`. The transport calls it. */
  afterLoad(): void {
    for (const queue of this.queues) {
      queue.epoch++;
      queue.attach(this.host.memory.readU16(Number(queue.rings.used) + 2) ?? 0);
    }
    this.featuresChanged();
    this.loaded();
  }
}
