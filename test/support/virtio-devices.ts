// One of each virtio device on the mmio transport over stub backends, and a small driver for it.
import { CharPipe } from "../../src/devices/char-backend.ts";
import { Virtio9p } from "../../src/devices/virtio/virtio-9p.ts";
import { VirtioBlk } from "../../src/devices/virtio/virtio-blk.ts";
import type { BlockBackend } from "../../src/devices/virtio/block-backend.ts";
import { VirtioConsole } from "../../src/devices/virtio/virtio-console.ts";
import type { VirtioDevice, VirtioBoard } from "../../src/devices/virtio/virtio-device.ts";
import { LEGACY_FEATURES } from "../../src/devices/virtio/virtio-feature-bits.ts";
import { VirtioMmio } from "../../src/devices/virtio/virtio-mmio.ts";
import { VirtioNet } from "../../src/devices/virtio/virtio-net.ts";
import { VirtioRng } from "../../src/devices/virtio/virtio-rng.ts";
import { LineStatus } from "../../src/memory/irq-line.ts";
import type { GuestMemory } from "../../src/memory/guest-memory.ts";
import { MemoryTree } from "../../src/share/memory-tree.ts";
import { ShareServer } from "../../src/share/share-server.ts";
import { guestMemory, RAM_BASE } from "./guest-memory.ts";

/** A disk of zeros that never answers if `stuck`. */
function disk(stuck: boolean): BlockBackend {
  const done = (): Promise<void> => (stuck ? new Promise(() => {}) : Promise.resolve());
  const sizeBytes = 1 << 20;
  return {
    sizeBytes,
    readonly: false,
    read: done,
    write: done,
    flush: done,
    discard: done,
    writeZeroes: done,
    inactivate: done,
    activate: done,
  };
}

// The devices' own state does not matter here.
// oxlint-disable-next-line typescript/no-explicit-any
type AnyVirtioDevice = VirtioDevice<any>;

export const VIRTIO_DEVICES: Readonly<Record<string, (board: VirtioBoard) => AnyVirtioDevice>> = {
  "virtio-rng": (board) => new VirtioRng(board, { random: (target) => target.fill(4) }),
  "virtio-blk": (board) => new VirtioBlk(board, { backend: disk(false), serial: "contract", queues: 1 }),
  "virtio-blk-in-flight": (board) => new VirtioBlk(board, { backend: disk(true), queues: 2 }),
  "virtio-console": (board) =>
    new VirtioConsole(board, { backend: new CharPipe(() => {}), size: { cols: 80, rows: 25 } }),
  "virtio-serial": (board) =>
    new VirtioConsole(board, { ports: [{ name: "org.wherry.test.0", backend: new CharPipe(() => {}) }] }),
  "virtio-net": (board) => {
    const backend = { send(): void {}, onFrame(): void {} };
    return new VirtioNet(board, { backend, mac: Uint8Array.of(0x52, 0x54, 0, 0x12, 0x34, 0x56) });
  },
  "virtio-9p": (board) => {
    const tree = new MemoryTree();
    return new Virtio9p(board, new ShareServer({ tag: "contract", tree }));
  },
};

export interface VirtioSubject {
  readonly device: AnyVirtioDevice;
  readonly transport: VirtioMmio;
  readonly memory: GuestMemory;
}

export function virtioSubject(make: (board: VirtioBoard) => AnyVirtioDevice, legacy: boolean): VirtioSubject {
  const memory = guestMemory();
  const device = make({ memory, legacy, defer: (task) => task() });
  const transport = new VirtioMmio({
    device,
    interruptStatus: new LineStatus({ set() {} }),
    guestPhys: 0x1000_8000,
  });
  return { device, transport, memory };
}

// Register offsets of virtio 1.3 §4.2.2 and §4.2.4.
const QUEUE_NUM = 8;
/** A device with serial ports has 64 queues: rings for all would not fit. */
const MAX_DRIVEN = 8;
const PAGE = 0x1000;
/** Rings of queue `i`: the legacy layout, which suits modern queues too. */
const ringsOf = (i: number): number => RAM_BASE + 0x10_000 + i * 4 * PAGE;

/**
 * Negotiates all offered features, sets up the first queues, puts one request of `header` and a page into
 * queue 0, notifies.
 */
export function drive({ device, transport, memory }: VirtioSubject, header: Uint8Array): void {
  const { legacy, offeredFeatures } = device;
  const write = (offset: number, value: number): void => transport.write(offset, 4, value >>> 0);
  write(0x070, 1 | 2);
  const wanted = legacy ? offeredFeatures : offeredFeatures & ~LEGACY_FEATURES;
  for (const half of legacy ? [0] : [0, 1]) {
    write(0x024, half);
    write(0x020, Number((wanted >> BigInt(32 * half)) & 0xffff_ffffn));
  }
  if (legacy) write(0x028, PAGE);
  else write(0x070, 1 | 2 | 8);
  for (const { index } of device.queues.slice(0, MAX_DRIVEN)) {
    const desc = ringsOf(index);
    write(0x030, index);
    write(0x038, QUEUE_NUM);
    if (legacy) {
      write(0x03c, PAGE);
      write(0x040, desc / PAGE);
      continue;
    }
    write(0x080, desc);
    write(0x090, desc + 16 * QUEUE_NUM);
    write(0x0a0, desc + PAGE);
    write(0x044, 1);
  }
  write(0x070, legacy ? 1 | 2 | 4 : 1 | 2 | 8 | 4);
  device.unquiesce();
  request(memory, header);
  write(0x050, 0);
}

/** One chain in queue 0: the header (if any) to read, a page and a status byte to write. */
function request(memory: GuestMemory, header: Uint8Array): void {
  const desc = ringsOf(0);
  const buffers = RAM_BASE + 0x8_0000;
  const entry = (i: number, at: number, length: number, flags: number, next: number): void => {
    memory.writeU32(desc + 16 * i, at);
    memory.writeU32(desc + 16 * i + 4, 0);
    memory.writeU32(desc + 16 * i + 8, length);
    memory.writeU16(desc + 16 * i + 12, flags);
    memory.writeU16(desc + 16 * i + 14, next);
  };
  memory.write(buffers, header);
  entry(0, buffers, header.length, 1, 1);
  entry(1, buffers + PAGE, PAGE, 2 | 1, 2);
  entry(2, buffers + 2 * PAGE, 1, 2, 0);
  const avail = desc + 16 * QUEUE_NUM;
  memory.writeU16(avail + 4, header.length > 0 ? 0 : 1);
  memory.writeU16(avail + 2, 1);
}
