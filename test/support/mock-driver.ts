// A virtio driver for tests: drives any device over the mmio registers and real rings in a GuestMemory, like
// a guest's driver: legacy and modern, with direct or indirect descriptors and the event index. It also lets
// tests write malformed rings.
import { LineStatus } from "../../src/memory/irq-line.ts";
import { GuestMemory, type RamBlock } from "../../src/memory/guest-memory.ts";
import type { VirtioBoard } from "../../src/devices/virtio/virtio-device.ts";
import {
  feature,
  VIRTIO_RING_F_EVENT_IDX,
  VIRTIO_RING_F_INDIRECT_DESC,
} from "../../src/devices/virtio/virtio-feature-bits.ts";
import { VirtioMmio, type VirtioMmioOptions } from "../../src/devices/virtio/virtio-mmio.ts";

export const RAM_BASE = 0x8000_0000;
export const SLOT_ADDRESS = 0x1000_8000;

export const R = {
  magic: 0x00,
  version: 0x04,
  deviceId: 0x08,
  vendor: 0x0c,
  deviceFeatures: 0x10,
  deviceFeaturesSel: 0x14,
  driverFeatures: 0x20,
  driverFeaturesSel: 0x24,
  guestPageSize: 0x28,
  queueSel: 0x30,
  queueNumMax: 0x34,
  queueNum: 0x38,
  queueAlign: 0x3c,
  queuePfn: 0x40,
  queueReady: 0x44,
  queueNotify: 0x50,
  interruptStatus: 0x60,
  interruptAck: 0x64,
  status: 0x70,
  queueDesc: 0x80,
  queueAvail: 0x90,
  queueUsed: 0xa0,
  queueReset: 0xc0,
  configGeneration: 0xfc,
  config: 0x100,
} as const;

/** RAM of `size` bytes at RAM_BASE, and the services that devices need. */
export function testBoard(options: { size?: number; legacy?: boolean } = {}): VirtioBoard & {
  readonly memory: GuestMemory;
  readonly errors: string[];
} {
  const size = options.size ?? 1 << 20;
  const block: RamBlock = {
    name: "ram",
    guestPhys: RAM_BASE,
    size,
    hostOffset: 0,
    readonly: false,
    dirty: new Int32Array(new SharedArrayBuffer(4 * Math.ceil(size / 4096 / 32))),
  };
  const errors: string[] = [];
  return {
    memory: new GuestMemory(new SharedArrayBuffer(size), [block]),
    defer: (task) => void setImmediate(task),
    legacy: options.legacy ?? false,
    guestError: (message) => void errors.push(message),
    errors,
  };
}

/** The buffers of one request. */
export interface Buffers {
  readonly out?: readonly Uint8Array[];
  /** Sizes of the writable buffers. */
  readonly in?: readonly number[];
  readonly indirect?: boolean;
}

export interface Completion {
  readonly id: number;
  readonly length: number;
  /** The writable buffers as they are now, joined. */
  readonly data: Uint8Array;
}

interface Posted {
  readonly descriptors: number[];
  readonly writable: readonly { at: number; length: number }[];
}

export class MockQueue {
  readonly driver: MockDriver;
  readonly index: number;
  readonly num: number;
  readonly desc: number;
  readonly avail: number;
  readonly used: number;
  readonly free: number[] = [];
  readonly posted = new Map<number, Posted>();
  availIdx = 0;
  usedIdx = 0;

  constructor(driver: MockDriver, index: number, num: number) {
    this.driver = driver;
    this.index = index;
    this.num = num;
    this.desc = driver.allocate(16 * num, 4096);
    this.avail = driver.legacy ? this.desc + 16 * num : driver.allocate(6 + 2 * num, 2);
    if (driver.legacy) {
      const end = this.avail + 6 + 2 * num;
      this.used = Math.ceil(end / 4096) * 4096;
      driver.allocate(this.used + 6 + 8 * num - (this.desc + 16 * num), 1);
    } else {
      this.used = driver.allocate(6 + 8 * num, 4);
    }
    // Not in the log: a new machine's RAM is zero.
    for (const [at, size] of [
      [this.desc, 16 * num],
      [this.avail, 6 + 2 * num],
      [this.used, 6 + 8 * num],
    ] as const) {
      driver.memory.write(at, new Uint8Array(size));
    }
    for (let i = num - 1; i >= 0; i--) this.free.push(i);
  }

  writeDescriptor(
    table: number,
    i: number,
    addr: number | bigint,
    length: number,
    flags: number,
    next = 0,
  ): void {
    const bytes = new DataView(new ArrayBuffer(16));
    bytes.setBigUint64(0, BigInt(addr), true);
    bytes.setUint32(8, length, true);
    bytes.setUint16(12, flags, true);
    bytes.setUint16(14, next, true);
    this.driver.poke(table + 16 * i, new Uint8Array(bytes.buffer));
  }

  /** Puts a request on the available ring, without a notification. */
  post(buffers: Buffers): number {
    const { driver } = this;
    const parts = [
      ...(buffers.out ?? []).map((bytes) => {
        const at = driver.allocate(Math.max(1, bytes.length), 8);
        driver.poke(at, bytes);
        return { at, length: bytes.length, flags: 0 };
      }),
      ...(buffers.in ?? []).map((length) => ({
        at: driver.allocate(Math.max(1, length), 8),
        length,
        flags: 2,
      })),
    ];
    const indirect = buffers.indirect ?? false;
    const descriptors = Array.from({ length: indirect ? 1 : parts.length }, () => this.#take());
    const head = descriptors[0] ?? 0;
    const table = indirect ? driver.allocate(16 * parts.length, 16) : this.desc;
    for (const [i, { at, length, flags }] of parts.entries()) {
      const next = i + 1 < parts.length ? 1 : 0;
      const nextIndex = indirect ? i + 1 : (descriptors[i + 1] ?? 0);
      this.writeDescriptor(table, indirect ? i : (descriptors[i] ?? 0), at, length, flags | next, nextIndex);
    }
    if (indirect) this.writeDescriptor(this.desc, head, table, 16 * parts.length, 4);
    this.posted.set(head, { descriptors, writable: parts.filter((p) => p.flags === 2) });
    this.makeAvailable(head);
    return head;
  }

  #take(): number {
    const i = this.free.pop();
    if (i === undefined) throw new Error(`queue ${this.index} is full`);
    return i;
  }

  makeAvailable(head: number): void {
    this.driver.pokeU16(this.avail + 4 + 2 * (this.availIdx % this.num), head);
    this.availIdx = (this.availIdx + 1) & 0xffff;
    this.driver.pokeU16(this.avail + 2, this.availIdx);
  }

  notify(): void {
    this.driver.write(R.queueNotify, this.index);
  }

  /** Sets the driver's interrupt threshold: at used index `event` (event index), or the flag. */
  setUsedEvent(event: number): void {
    this.driver.pokeU16(this.avail + 4 + 2 * this.num, event);
  }
  setNoInterrupt(on: boolean): void {
    this.driver.pokeU16(this.avail, on ? 1 : 0);
  }
  get availEvent(): number {
    return this.driver.memory.readU16(this.used + 4 + 8 * this.num) ?? -1;
  }

  /** Completions since the last call. */
  collect(): Completion[] {
    const { memory } = this.driver;
    const done: Completion[] = [];
    while (this.usedIdx !== memory.readU16(this.used + 2)) {
      const at = this.used + 4 + 8 * (this.usedIdx % this.num);
      const id = memory.readU32(at) ?? -1;
      const posted = this.posted.get(id);
      if (posted === undefined) throw new Error(`the device returned ${id}, which it does not have`);
      this.posted.delete(id);
      this.free.push(...posted.descriptors.reverse());
      const data = posted.writable.map(({ at: from, length }) => {
        const bytes = new Uint8Array(length);
        memory.read(from, bytes);
        return bytes;
      });
      done.push({ id, length: memory.readU32(at + 4) ?? -1, data: new Uint8Array(Buffer.concat(data)) });
      this.usedIdx = (this.usedIdx + 1) & 0xffff;
    }
    return done;
  }

  /** Posts, notifies, and waits until the device has returned it. */
  async request(buffers: Buffers): Promise<Completion> {
    const id = this.post(buffers);
    this.notify();
    for (let i = 0; i < 2000; i++) {
      for (const completion of this.collect()) if (completion.id === id) return completion;
      await new Promise((resolve) => setTimeout(resolve, i < 20 ? 0 : 5));
    }
    throw new Error(`request ${id} on queue ${this.index} was not returned`);
  }
}

/** An action of the driver: a 4-byte register access, or a write to its RAM. */
export type Operation =
  | { readonly read: number }
  | { readonly write: number; readonly value: number }
  | { readonly guestPhys: number; readonly bytes: Uint8Array };

export class MockDriver {
  /** All operations so far, for replay on another implementation. */
  readonly log: Operation[] = [];
  readonly memory: GuestMemory;
  readonly transport: VirtioMmio;
  readonly legacy: boolean;
  readonly queues: MockQueue[] = [];
  irq = false;
  /** Rising edges of the interrupt line. */
  interrupts = 0;
  features = 0n;
  next = RAM_BASE + 0x1000;

  constructor(board: VirtioBoard, device: VirtioMmioOptions["device"]) {
    this.memory = board.memory;
    this.legacy = board.legacy ?? false;
    const irq = {
      set: (level: boolean): void => {
        if (level && !this.irq) this.interrupts++;
        this.irq = level;
      },
    };
    this.transport = new VirtioMmio({
      device,
      interruptStatus: new LineStatus(irq),
      guestPhys: SLOT_ADDRESS,
    });
    this.transport.unquiesce();
  }

  read(offset: number): number {
    this.log.push({ read: offset });
    return this.transport.read(offset, 4);
  }
  write(offset: number, value: number): void {
    this.log.push({ write: offset, value });
    this.transport.write(offset, 4, value);
  }
  poke(guestPhys: number, bytes: Uint8Array): void {
    this.log.push({ guestPhys, bytes: bytes.slice() });
    this.memory.write(guestPhys, bytes);
  }
  pokeU16(guestPhys: number, value: number): void {
    this.poke(guestPhys, Uint8Array.of(value & 0xff, value >> 8));
  }

  allocate(size: number, align: number): number {
    const at = Math.ceil(this.next / align) * align;
    this.next = at + size;
    if (!this.memory.contains(at, size)) throw new Error("the mock driver's RAM is used up");
    return at;
  }

  offered(): bigint {
    this.write(R.deviceFeaturesSel, 0);
    const low = BigInt(this.read(R.deviceFeatures));
    this.write(R.deviceFeaturesSel, 1);
    return low | (BigInt(this.read(R.deviceFeatures)) << 32n);
  }

  /** Resets, negotiates all offered features except `without`, and sets up the queues with `num` entries. */
  start(
    options: { num?: number; queues?: number; without?: readonly number[]; driverOk?: boolean } = {},
  ): this {
    const without = feature(...(options.without ?? []));
    this.write(R.status, 0);
    this.write(R.status, 1);
    this.write(R.status, 3);
    this.features = this.offered() & ~without;
    for (const half of this.legacy ? [0] : [0, 1]) {
      this.write(R.driverFeaturesSel, half);
      this.write(R.driverFeatures, Number((this.features >> BigInt(32 * half)) & 0xffff_ffffn));
    }
    if (this.legacy) this.write(R.guestPageSize, 4096);
    else this.write(R.status, 0xb);
    this.queues.length = 0;
    for (let i = 0; i < (options.queues ?? 1); i++) this.queues.push(this.setUpQueue(i, options.num ?? 16));
    if (options.driverOk ?? true) this.write(R.status, this.read(R.status) | 4);
    return this;
  }

  setUpQueue(index: number, num: number): MockQueue {
    const queue = new MockQueue(this, index, num);
    this.write(R.queueSel, index);
    this.write(R.queueNum, num);
    if (this.legacy) {
      this.write(R.queueAlign, 4096);
      this.write(R.queuePfn, queue.desc / 4096);
      return queue;
    }
    for (const [register, address] of [
      [R.queueDesc, queue.desc],
      [R.queueAvail, queue.avail],
      [R.queueUsed, queue.used],
    ] as const) {
      this.write(register, address);
      this.write(register + 4, 0);
    }
    this.write(R.queueReady, 1);
    return queue;
  }

  queue(index: number): MockQueue {
    const queue = this.queues[index];
    if (queue === undefined) throw new Error(`queue ${index} is not set up`);
    return queue;
  }

  acknowledge(): number {
    const status = this.read(R.interruptStatus);
    this.write(R.interruptAck, status);
    return status;
  }
}

/** Modes that each device is tested in. */
export const MODES = [
  { name: "modern", legacy: false, without: [] },
  { name: "modern without event index", legacy: false, without: [VIRTIO_RING_F_EVENT_IDX] },
  { name: "legacy", legacy: true, without: [] },
  {
    name: "legacy without ring features",
    legacy: true,
    without: [VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC],
  },
] as const;
