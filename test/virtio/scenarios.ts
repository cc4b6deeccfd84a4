// What a driver does with a device before the device's state is saved: run on Wherry's devices by
// state.test.ts and, by test/virtio/make-fixtures.ts, on QEMU's, whose streams are the fixtures.
import { CharPipe } from "../../src/devices/char-backend.ts";
import { VirtioBlk } from "../../src/devices/virtio/virtio-blk.ts";
import { CONTROL, VirtioConsole } from "../../src/devices/virtio/virtio-console.ts";
import type { VirtioBoard } from "../../src/devices/virtio/virtio-device.ts";
import type { VirtioMmioOptions } from "../../src/devices/virtio/virtio-mmio.ts";
import { VirtioNet } from "../../src/devices/virtio/virtio-net.ts";
import { VirtioRng } from "../../src/devices/virtio/virtio-rng.ts";
import { MemoryBlock, QuickBlock } from "../support/memory-block.ts";
import { type MockDriver, R } from "../support/mock-driver.ts";

export const DISK_BYTES = 1 << 20;
export const MAC = Uint8Array.of(0x52, 0x54, 0, 0x12, 0x34, 0x56);

export type DeviceName = "blk" | "blk-mq" | "rng" | "console" | "serial" | "net";

/** A device with the same options as QEMU's. */
export function makeDevice(name: DeviceName, board: VirtioBoard): VirtioMmioOptions["device"] {
  switch (name) {
    case "blk":
      return new VirtioBlk(board, { backend: new MemoryBlock(DISK_BYTES), serial: "wherry" });
    case "blk-mq":
      return new VirtioBlk(board, { backend: new QuickBlock(DISK_BYTES, 5), queues: 4 });
    case "rng":
      return new VirtioRng(board, { random: (target) => target.fill(7) });
    case "console":
      return new VirtioConsole(board, { backend: new CharPipe(() => {}) });
    case "serial":
      return new VirtioConsole(board, {
        ports: ["org.wherry.test.0", "org.wherry.test.1"].map((name) => ({
          name,
          backend: new CharPipe(() => {}),
        })),
      });
    case "net":
      return new VirtioNet(board, { backend: { send() {}, onFrame() {} }, mac: MAC });
  }
}

function blkHeader(type: number, sector: number): Uint8Array {
  const header = new Uint8Array(16);
  header.set([type], 0);
  header.set([sector], 8);
  return header;
}

export interface Scenario {
  readonly name: string;
  readonly device: DeviceName;
  readonly legacy: boolean;
  run(driver: MockDriver): Promise<void>;
}

type Step = readonly [name: string, device: DeviceName, run: (driver: MockDriver) => Promise<void>];

const steps: readonly Step[] = [
  ...(["blk", "blk-mq", "rng", "console", "serial", "net"] as const).map(
    (device): Step => ["after reset", device, async () => {}],
  ),
  [
    "in the middle of negotiation",
    "blk",
    async (driver) => {
      driver.start({ queues: 0, driverOk: false });
      driver.read(R.config);
    },
  ],
  [
    "after reads and writes",
    "blk",
    async (driver) => {
      driver.start({ num: 128 });
      driver.read(R.config);
      const queue = driver.queue(0);
      for (let i = 0; i < 5; i++) {
        await queue.request({ out: [blkHeader(1, i), new Uint8Array(512).fill(i)], in: [1] });
      }
      await queue.request({ out: [blkHeader(0, 1)], in: [1024, 1], indirect: true });
    },
  ],
  [
    "with the interrupt acknowledged",
    "blk",
    async (driver) => {
      await driver
        .start({ num: 256 })
        .queue(0)
        .request({ out: [blkHeader(4, 0)], in: [1] });
      driver.acknowledge();
    },
  ],
  [
    "with several queues in use",
    "blk-mq",
    async (driver) => {
      driver.start({ queues: 3 });
      for (const i of [0, 2, 2]) await driver.queue(i).request({ out: [blkHeader(0, i)], in: [512, 1] });
    },
  ],
  [
    "with a request that it could not understand",
    "blk",
    async (driver) => {
      const queue = driver.start().queue(0);
      queue.post({ out: [new Uint8Array(3)], in: [1] });
      queue.notify();
    },
  ],
  [
    "with a kick that came too late",
    "rng",
    async (driver) => {
      const queue = driver.start().queue(0);
      await queue.request({ in: [100] });
      // Wherry's devices serve this request before they stop; not all VMMs do.
      await driver.transport.quiesce();
      queue.post({ in: [20] });
    },
  ],
  [
    "in use",
    "console",
    async (driver) => {
      driver.start({ queues: 2 });
      for (let i = 0; i < 4; i++) driver.queue(0).post({ in: [64] });
      driver.queue(0).notify();
      await driver.queue(1).request({ out: [Uint8Array.of(0x68, 0x69)] });
    },
  ],
  [
    "with one of two ports open",
    "serial",
    async (driver) => {
      driver.start({ queues: 8 });
      for (let i = 0; i < 8; i++) driver.queue(2).post({ in: [64] });
      driver.queue(2).notify();
      const control = (id: number, event: number): Promise<unknown> =>
        driver.queue(3).request({ out: [Uint8Array.of(id, 0, 0, 0, event, 0, 1, 0)] });
      await control(0, CONTROL.DEVICE_READY);
      for (const id of [1, 2]) await control(id, CONTROL.PORT_READY);
      await control(2, CONTROL.PORT_OPEN);
      driver.queue(6).post({ in: [64] });
      driver.queue(6).notify();
      await driver.queue(7).request({ out: [Uint8Array.of(0x68, 0x69)] });
    },
  ],
  [
    "in use",
    "net",
    async (driver) => {
      driver.start({ queues: 3 });
      for (let i = 0; i < 8; i++) driver.queue(0).post({ in: [2048] });
      driver.queue(0).notify();
      const command = (...bytes: number[]): Promise<unknown> =>
        driver.queue(2).request({ out: [Uint8Array.from(bytes)], in: [1] });
      await command(0, 0, 0);
      await command(0, 1, 1);
      await command(1, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 9, 1, 0, 0, 0, 1, 0, 0x5e, 0, 0, 1);
      await command(2, 0, 5, 0);
      await command(2, 0, 0xab, 0x0c);
      driver.read(R.config);
    },
  ],
  [
    "after a reset by its driver",
    "net",
    async (driver) => {
      driver.start({ queues: 3 });
      driver.write(R.status, 0);
    },
  ],
];

export const scenarios: readonly Scenario[] = steps.flatMap(([name, device, run]) =>
  [false, true].map((legacy) => ({
    name: `${device} ${name}, ${legacy ? "legacy" : "modern"}`,
    device,
    legacy,
    run,
  })),
);
