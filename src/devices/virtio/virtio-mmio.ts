// The virtio transport over memory-mapped registers: version 2 (virtio 1.3 §4.2.2) and, if the device is
// legacy, version 1 (§4.2.4, guest page size and page frame numbers). Left out: shared memory regions and
// notification data. A slot without a device reads as QEMU's empty slot.
import type { InterruptStatus } from "../../memory/irq-line.ts";
import type { MmioDevice } from "../../memory/mmio.ts";
import { type Section, sectionOf } from "../../state/section.ts";
import type { VirtioDevice } from "./virtio-device.ts";
import {
  LEGACY_FEATURES,
  VIRTIO_CONFIG_S_FEATURES_OK,
  VIRTIO_F_RING_RESET,
  VIRTIO_QUEUE_MAX,
  VIRTQUEUE_MAX_SIZE,
} from "./virtio-feature-bits.ts";
import type { VirtioState } from "./virtio-state.ts";
import { legacyRings } from "./virtqueue.ts";

const VIRTIO_MMIO_MAGIC_VALUE = 0x000;
const VIRTIO_MMIO_VERSION = 0x004;
const VIRTIO_MMIO_DEVICE_ID = 0x008;
const VIRTIO_MMIO_VENDOR_ID = 0x00c;
const VIRTIO_MMIO_DEVICE_FEATURES = 0x010;
const VIRTIO_MMIO_DEVICE_FEATURES_SEL = 0x014;
const VIRTIO_MMIO_DRIVER_FEATURES = 0x020;
const VIRTIO_MMIO_DRIVER_FEATURES_SEL = 0x024;
const VIRTIO_MMIO_GUEST_PAGE_SIZE = 0x028;
const VIRTIO_MMIO_QUEUE_SEL = 0x030;
const VIRTIO_MMIO_QUEUE_NUM_MAX = 0x034;
const VIRTIO_MMIO_QUEUE_NUM = 0x038;
const VIRTIO_MMIO_QUEUE_ALIGN = 0x03c;
const VIRTIO_MMIO_QUEUE_PFN = 0x040;
const VIRTIO_MMIO_QUEUE_READY = 0x044;
export const VIRTIO_MMIO_QUEUE_NOTIFY = 0x050;
/** Its acknowledge register is the word after it. */
export const VIRTIO_MMIO_INTERRUPT_STATUS = 0x060;
const VIRTIO_MMIO_INTERRUPT_ACK = 0x064;
const VIRTIO_MMIO_STATUS = 0x070;
const VIRTIO_MMIO_QUEUE_DESC_LOW = 0x080;
const VIRTIO_MMIO_QUEUE_DESC_HIGH = 0x084;
const VIRTIO_MMIO_QUEUE_AVAIL_LOW = 0x090;
const VIRTIO_MMIO_QUEUE_AVAIL_HIGH = 0x094;
const VIRTIO_MMIO_QUEUE_USED_LOW = 0x0a0;
const VIRTIO_MMIO_QUEUE_USED_HIGH = 0x0a4;
const VIRTIO_MMIO_SHM_LEN_LOW = 0x0b0;
const VIRTIO_MMIO_SHM_BASE_HIGH = 0x0bc;
const VIRTIO_MMIO_QUEUE_RESET = 0x0c0;
const VIRTIO_MMIO_CONFIG_GENERATION = 0x0fc;
const VIRTIO_MMIO_CONFIG = 0x100;

const MAGIC = 0x74726976; // "virt"
const VENDOR = 0x554d4551; // "QEMU"

export interface VirtioMmioOptions {
  // The transport does not access the device's own state.
  // oxlint-disable-next-line typescript/no-explicit-any
  readonly device: VirtioDevice<any>;
  readonly interruptStatus: InterruptStatus;
  /** Start of the register window, which names the section. */
  readonly guestPhys: number;
}

/** A slot without a device: magic, version and vendor, device id 0 (§4.2.2.2). */
export class EmptyVirtioMmio implements MmioDevice {
  readonly #version: number;

  constructor(legacy = false) {
    this.#version = legacy ? 1 : 2;
  }
  read(offset: number, size: 1 | 2 | 4): number {
    if (size !== 4) return 0;
    if (offset === VIRTIO_MMIO_MAGIC_VALUE) return MAGIC;
    if (offset === VIRTIO_MMIO_VERSION) return this.#version;
    return offset === VIRTIO_MMIO_VENDOR_ID ? VENDOR : 0;
  }
  write(): void {}
}

export class VirtioMmio implements MmioDevice {
  readonly device: VirtioMmioOptions["device"];
  readonly #guestPhys: number;

  constructor(options: VirtioMmioOptions) {
    this.device = options.device;
    this.#guestPhys = options.guestPhys;
    this.device.interruptStatus = options.interruptStatus;
  }

  get state(): VirtioState<Record<never, never>> {
    return this.device.state;
  }

  read(offset: number, size: 1 | 2 | 4): number {
    if (offset >= VIRTIO_MMIO_CONFIG) return this.device.configRead(offset - VIRTIO_MMIO_CONFIG, size);
    return size === 4 ? this.#readRegister(offset) : 0;
  }

  write(offset: number, size: 1 | 2 | 4, value: number): void {
    if (offset >= VIRTIO_MMIO_CONFIG) this.device.configWrite(offset - VIRTIO_MMIO_CONFIG, size, value);
    else if (size === 4) this.#writeRegister(offset, value >>> 0);
  }

  #readRegister(offset: number): number {
    const { device, state } = this;
    switch (offset) {
      case VIRTIO_MMIO_MAGIC_VALUE:
        return MAGIC;
      case VIRTIO_MMIO_VERSION:
        return device.legacy ? 1 : 2;
      case VIRTIO_MMIO_DEVICE_ID:
        return device.kind.deviceId;
      case VIRTIO_MMIO_VENDOR_ID:
        return VENDOR;
      case VIRTIO_MMIO_DEVICE_FEATURES:
        return this.#deviceFeatures();
      case VIRTIO_MMIO_QUEUE_NUM_MAX:
        // QEMU before 10.2 returns 1024 for every queue and accepts that size, which newer releases refuse to
        // load.
        return state.sizes[state.queueSel]?.numDefault ?? 0;
      case VIRTIO_MMIO_INTERRUPT_STATUS:
        return device.interruptStatus.read();
      case VIRTIO_MMIO_STATUS:
        return state.status;
      default:
        return device.legacy ? this.#readLegacy(offset) : this.#readModern(offset);
    }
  }

  #readLegacy(offset: number): number {
    if (offset !== VIRTIO_MMIO_QUEUE_PFN) return 0;
    const desc = this.device.queues[this.state.queueSel]?.state.desc ?? 0n;
    return Number((desc >> BigInt(this.state.guestPageShift)) & 0xffff_ffffn);
  }

  #readModern(offset: number): number {
    if (offset >= VIRTIO_MMIO_SHM_LEN_LOW && offset <= VIRTIO_MMIO_SHM_BASE_HIGH) return 0xffff_ffff;
    if (offset === VIRTIO_MMIO_QUEUE_READY) return this.#registers?.enabled ? 1 : 0;
    // A queue reset completes before the register can be read (§4.2.2.1).
    return offset === VIRTIO_MMIO_CONFIG_GENERATION ? this.device.generation : 0;
  }

  #deviceFeatures(): number {
    const { device, state } = this;
    if (device.legacy && state.hostFeaturesSel !== 0) return 0;
    const offered = device.legacy ? device.offeredFeatures : device.offeredFeatures & ~LEGACY_FEATURES;
    return Number((offered >> BigInt(32 * state.hostFeaturesSel)) & 0xffff_ffffn);
  }

  /** The modern registers of the selected queue; undefined if there is no such queue. */
  get #registers(): VirtioState<Record<never, never>>["mmio"]["vqs"][number] | undefined {
    return this.state.mmio.vqs[this.state.queueSel];
  }

  #writeRegister(offset: number, value: number): void {
    const { device, state } = this;
    switch (offset) {
      case VIRTIO_MMIO_DEVICE_FEATURES_SEL:
        state.hostFeaturesSel = value === 0 ? 0 : 1;
        break;
      case VIRTIO_MMIO_DRIVER_FEATURES:
        if (!device.legacy) state.mmio.guestFeatures[state.guestFeaturesSel] = value;
        else if (state.guestFeaturesSel === 0) device.setFeatures(BigInt(value));
        break;
      case VIRTIO_MMIO_DRIVER_FEATURES_SEL:
        state.guestFeaturesSel = value === 0 ? 0 : 1;
        break;
      case VIRTIO_MMIO_QUEUE_SEL:
        if (value < VIRTIO_QUEUE_MAX) state.queueSel = value;
        break;
      case VIRTIO_MMIO_QUEUE_NOTIFY:
        device.notify(value);
        break;
      case VIRTIO_MMIO_INTERRUPT_ACK:
        device.acknowledge(value);
        break;
      case VIRTIO_MMIO_STATUS:
        this.#writeStatus(value & 0xff);
        break;
      default:
        if (device.legacy) this.#writeLegacy(offset, value);
        else this.#writeModern(offset, value);
    }
  }

  #writeStatus(value: number): void {
    const { device, state } = this;
    if (value === 0) return this.#softReset();
    let status = value;
    const asksFeaturesOk = (status & ~state.status & VIRTIO_CONFIG_S_FEATURES_OK) !== 0;
    if (!device.legacy && asksFeaturesOk) {
      const [low = 0, high = 0] = state.mmio.guestFeatures;
      const accepted = device.negotiate((BigInt(high) << 32n) | BigInt(low));
      if (!accepted) status &= ~VIRTIO_CONFIG_S_FEATURES_OK;
    }
    device.setStatus(status);
  }

  /** Legacy registers (§4.2.4). */
  #writeLegacy(offset: number, value: number): void {
    const { state } = this;
    if (offset === VIRTIO_MMIO_GUEST_PAGE_SIZE) {
      state.guestPageShift = value === 0 ? 0 : 31 - Math.clz32(value & -value);
      return;
    }
    if (offset === VIRTIO_MMIO_QUEUE_PFN && value === 0) return this.#softReset();
    const queue = this.device.queues[state.queueSel];
    // The rings of a live queue are fixed until the device is reset.
    if (queue === undefined || queue.enabled) return;
    if (offset === VIRTIO_MMIO_QUEUE_NUM && isPowerOfTwo(value) && value <= VIRTQUEUE_MAX_SIZE) {
      queue.state.num = value;
    } else if (offset === VIRTIO_MMIO_QUEUE_ALIGN && isPowerOfTwo(value)) {
      queue.state.align = value;
    } else if (offset === VIRTIO_MMIO_QUEUE_PFN) {
      queue.state.desc = BigInt(value) << BigInt(state.guestPageShift);
      Object.assign(queue.rings, legacyRings(queue.state));
      queue.attach();
      const problem = queue.problem();
      if (problem !== undefined) this.device.needsReset(problem);
      queue.enabled = problem === undefined;
    }
  }

  #writeModern(offset: number, value: number): void {
    const registers = this.#registers;
    if (registers === undefined) return;
    switch (offset) {
      case VIRTIO_MMIO_QUEUE_NUM:
        registers.num = value & 0xffff;
        if (value > 0 && value <= VIRTQUEUE_MAX_SIZE) this.#setQueueSize(value);
        break;
      case VIRTIO_MMIO_QUEUE_READY:
        this.#setReady(value !== 0);
        break;
      case VIRTIO_MMIO_QUEUE_RESET:
        if (value === 1 && this.device.has(VIRTIO_F_RING_RESET)) {
          registers.enabled = false;
          this.device.resetQueue(this.state.queueSel);
        }
        break;
      case VIRTIO_MMIO_QUEUE_DESC_LOW:
      case VIRTIO_MMIO_QUEUE_DESC_HIGH:
        registers.desc[(offset - VIRTIO_MMIO_QUEUE_DESC_LOW) >> 2] = value;
        break;
      case VIRTIO_MMIO_QUEUE_AVAIL_LOW:
      case VIRTIO_MMIO_QUEUE_AVAIL_HIGH:
        registers.avail[(offset - VIRTIO_MMIO_QUEUE_AVAIL_LOW) >> 2] = value;
        break;
      case VIRTIO_MMIO_QUEUE_USED_LOW:
      case VIRTIO_MMIO_QUEUE_USED_HIGH:
        registers.used[(offset - VIRTIO_MMIO_QUEUE_USED_LOW) >> 2] = value;
        break;
    }
  }

  /** The size of a live queue is fixed: the driver must not change it (§4.2.2.2). */
  #setQueueSize(num: number): void {
    const queue = this.device.queues[this.state.queueSel];
    if (queue !== undefined && !queue.enabled) queue.state.num = num;
  }

  #setReady(ready: boolean): void {
    const registers = this.#registers;
    const queue = this.device.queues[this.state.queueSel];
    if (registers === undefined || queue === undefined || ready === queue.enabled) return;
    registers.enabled = false;
    if (!ready) return this.device.resetQueue(queue.index);
    if (registers.num > VIRTQUEUE_MAX_SIZE) {
      return this.device.needsReset(
        `queue ${queue.index}: size ${registers.num} is above ${VIRTQUEUE_MAX_SIZE}`,
      );
    }
    if (registers.num > 0) queue.state.num = registers.num;
    queue.state.desc = join(registers.desc);
    queue.rings.avail = join(registers.avail);
    queue.rings.used = join(registers.used);
    queue.attach();
    const problem = queue.problem();
    if (problem !== undefined) return this.device.needsReset(problem);
    queue.enabled = true;
    registers.enabled = true;
  }

  /** Reset by the driver: status 0, or page frame number 0. */
  #softReset(): void {
    for (const registers of this.state.mmio.vqs) registers.enabled = false;
    this.device.reset();
  }

  // Called by the machine.

  /** System reset, which also resets the registers. */
  reset(): void {
    const { state } = this;
    this.#softReset();
    Object.assign(state, { hostFeaturesSel: 0, guestFeaturesSel: 0, guestPageShift: 0 });
    state.mmio.guestFeatures.fill(0);
    for (const registers of state.mmio.vqs) {
      registers.num = 0;
      for (const pair of [registers.desc, registers.avail, registers.used]) pair.fill(0);
    }
  }

  quiesce(): Promise<void> {
    return this.device.quiesce();
  }
  unquiesce(): void {
    this.device.unquiesce();
  }

  /** For an ioeventfd at `guestPhys + VIRTIO_MMIO_QUEUE_NOTIFY` with the queue number as data. */
  notify(queue: number): void {
    this.device.notify(queue);
  }

  /** Rebuilds the caches from the loaded state. */
  afterLoad(): void {
    const { device, state } = this;
    device.afterLoad();
    for (const queue of device.queues) {
      queue.enabled = device.legacy
        ? queue.state.desc !== 0n
        : (state.mmio.vqs[queue.index]?.enabled ?? false);
    }
    device.interruptStatus.acknowledge(~state.isr);
    device.interruptStatus.raise(state.isr);
  }

  get section(): Section {
    const { device } = this;
    const { name } = device.kind;
    const idstr = `virtio-mmio@${this.#guestPhys.toString(16).padStart(16, "0")}/${name}`;
    return sectionOf({
      idstr,
      vmsdName: name,
      definition: device.stateDefinition,
      get: () => Object.assign(device.state, { isr: device.interruptStatus.read() }),
      check: (loaded) => device.checkState(loaded, idstr),
      apply: (loaded) => {
        device.stateDefinition.assign(device.state, loaded);
        this.afterLoad();
      },
    });
  }
}

function isPowerOfTwo(value: number): boolean {
  return value !== 0 && (value & (value - 1)) === 0;
}

function join(pair: Uint32Array): bigint {
  const [low = 0, high = 0] = pair;
  return (BigInt(high) << 32n) | BigInt(low);
}
