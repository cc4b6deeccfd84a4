// virtio-blk over mmio, legacy and modern: every request type, errors, flush rules, several queues, reset.
import { describe, expect, it } from "vitest";
import type { BlockBackend } from "./block-backend.ts";
import { VirtioBlk, type VirtioBlkOptions } from "./virtio-blk.ts";
import { MemoryBlock, QuickBlock } from "../../../test/support/memory-block.ts";
import { MockDriver, MODES, R, testBoard } from "../../../test/support/mock-driver.ts";

const IN = 0;
const OUT = 1;
const FLUSH = 4;
const GET_ID = 8;
const DISCARD = 11;
const WRITE_ZEROES = 13;
const OK = 0;
const IOERR = 1;
const UNSUPP = 2;
const F_RO = 5;
const F_FLUSH = 9;
const F_CONFIG_WCE = 11;

function header(type: number, sector = 0n): Uint8Array {
  const view = new DataView(new ArrayBuffer(16));
  view.setUint32(0, type, true);
  view.setBigUint64(8, sector, true);
  return new Uint8Array(view.buffer);
}
function range(sector: bigint, sectors: number, flags = 0): Uint8Array {
  const view = new DataView(new ArrayBuffer(16));
  view.setBigUint64(0, sector, true);
  view.setUint32(8, sectors, true);
  view.setUint32(12, flags, true);
  return new Uint8Array(view.buffer);
}
const pattern = (length: number, seed: number): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => (i * 7 + seed) & 0xff);

interface SetUp extends Partial<VirtioBlkOptions> {
  legacy?: boolean;
  without?: readonly number[];
  backing?: MemoryBlock;
  num?: number;
}
function setUp(options: SetUp = {}) {
  const board = testBoard({ legacy: options.legacy ?? false });
  const backend = options.backing ?? new MemoryBlock(64 * 512);
  const device = new VirtioBlk(board, { ...options, backend });
  const driver = new MockDriver(board, device).start({
    without: options.without ?? [],
    queues: options.queues ?? 1,
    num: options.num ?? 16,
  });
  return { board, backend, device, driver, queue: driver.queue(0) };
}
const statusOf = (data: Uint8Array): number | undefined => data.at(-1);

describe.each(MODES)("virtio-blk, $name", ({ legacy, without }) => {
  it("tells its backend whether the guest has a driver for it", () => {
    const { backend, driver }: { backend: BlockBackend; driver: MockDriver } = setUp({ legacy, without });
    expect(backend.isDriven?.()).toBe(true);
    driver.write(R.status, 0);
    expect(backend.isDriven?.()).toBe(false);
    driver.write(R.status, 1);
    expect(backend.isDriven?.()).toBe(false);
    driver.write(R.status, 3);
    expect(backend.isDriven?.()).toBe(true);
  });

  it("writes, flushes and reads back", async () => {
    const { backend, driver, queue } = setUp({ legacy, without });
    const data = pattern(3 * 512, 1);
    const written = await queue.request({
      out: [header(OUT, 5n), data.subarray(0, 512), data.subarray(512)],
      in: [1],
    });
    expect([statusOf(written.data), written.length]).toEqual([OK, 1]);
    expect(backend.bytes.subarray(5 * 512, 8 * 512)).toEqual(data);
    expect(statusOf((await queue.request({ out: [header(FLUSH)], in: [1] })).data)).toBe(OK);
    expect(backend.log).toContain("flush");
    const read = await queue.request({ out: [header(IN, 5n)], in: [1024, 512, 1] });
    expect(read.length).toBe(3 * 512 + 1);
    expect(read.data.subarray(0, 3 * 512)).toEqual(data);
    expect(driver.irq).toBe(true);
    expect(driver.acknowledge()).toBe(1);
    expect(driver.irq).toBe(false);
  });

  it("accepts indirect tables where they are negotiated", async () => {
    const { backend, board, queue } = setUp({ legacy, without });
    const data = pattern(512, 9);
    if ((without as readonly number[]).includes(28)) {
      queue.post({ out: [header(OUT, 1n), data], in: [1], indirect: true });
      queue.notify();
      expect(board.errors.join()).toMatch(/queue 0: descriptor 0 is indirect/);
      return;
    }
    const done = await queue.request({ out: [header(OUT, 1n), data], in: [1], indirect: true });
    expect(statusOf(done.data)).toBe(OK);
    expect(backend.bytes.subarray(512, 1024)).toEqual(data);
  });

  it("accepts a split header, and the status in its own buffer or not", async () => {
    const { queue, backend } = setUp({ legacy, without });
    backend.bytes.set(pattern(512, 3));
    const h = header(IN, 0n);
    const done = await queue.request({ out: [h.subarray(0, 7), h.subarray(7)], in: [513] });
    expect(done.data).toEqual(Uint8Array.of(...pattern(512, 3), OK));
  });

  it("discards, writes zeroes, returns its serial number", async () => {
    const { backend, queue } = setUp({ legacy, without, serial: "wherry-0" });
    backend.bytes.fill(0xee);
    expect(statusOf((await queue.request({ out: [header(DISCARD), range(2n, 4)], in: [1] })).data)).toBe(OK);
    expect(
      statusOf((await queue.request({ out: [header(WRITE_ZEROES), range(8n, 2, 1)], in: [1] })).data),
    ).toBe(OK);
    expect(backend.log.slice(-2)).toEqual(["discard 1024 2048", "zero 4096 1024 true"]);
    expect(backend.bytes.subarray(8 * 512, 10 * 512).every((b) => b === 0)).toBe(true);
    const id = await queue.request({ out: [header(GET_ID)], in: [20, 1] });
    expect(Buffer.from(id.data.subarray(0, 20)).toString()).toBe(`wherry-0${"\0".repeat(12)}`);
  });

  it("serves many requests at once, in any order", async () => {
    const { queue, backend } = setUp({ legacy, without, num: 64 });
    let open = (): void => {};
    backend.gate = new Promise((resolve) => {
      open = resolve;
    });
    for (let i = 0; i < 16; i++) queue.post({ out: [header(OUT, BigInt(i)), pattern(512, i)], in: [1] });
    queue.notify();
    open();
    await expect.poll(() => queue.collect().length + (16 - queue.posted.size)).toBeGreaterThanOrEqual(16);
    for (let i = 0; i < 16; i++) {
      expect(backend.bytes.subarray(i * 512, (i + 1) * 512)).toEqual(pattern(512, i));
    }
  });
});

describe("virtio-blk refuses", () => {
  it.each([
    ["a read past the end", { out: [header(IN, 63n)], in: [1024, 1] }, IOERR],
    ["a sector number beyond all disks", { out: [header(IN, (1n << 64n) - 1n)], in: [512, 1] }, IOERR],
    ["half a sector", { out: [header(IN, 0n)], in: [100, 1] }, IOERR],
    ["a write past the end", { out: [header(OUT, 64n), pattern(512, 0)], in: [1] }, IOERR],
    ["an unknown type", { out: [header(99)], in: [1] }, UNSUPP],
    ["SCSI pass-through", { out: [header(2)], in: [1] }, UNSUPP],
    ["a discard with the unmap flag", { out: [header(DISCARD), range(0n, 1, 1)], in: [1] }, UNSUPP],
    ["unknown flags", { out: [header(WRITE_ZEROES), range(0n, 1, 2)], in: [1] }, UNSUPP],
    ["a discard past the end", { out: [header(DISCARD), range(60n, 8)], in: [1] }, IOERR],
    ["a range of the wrong size", { out: [header(DISCARD), range(0n, 1).subarray(8)], in: [1] }, IOERR],
  ])("%s", async (_name, request, status) => {
    const { queue, backend, board } = setUp();
    expect(statusOf((await queue.request(request)).data)).toBe(status);
    expect(backend.log).toEqual([]);
    expect(board.errors).toEqual([]);
  });

  it("writes to a readonly disk", async () => {
    const { queue, driver } = setUp({ backing: new MemoryBlock(4096, true) });
    expect(driver.offered() & (1n << BigInt(F_RO))).not.toBe(0n);
    expect(statusOf((await queue.request({ out: [header(OUT), pattern(512, 1)], in: [1] })).data)).toBe(
      IOERR,
    );
    expect(statusOf((await queue.request({ out: [header(DISCARD), range(0n, 1)], in: [1] })).data)).toBe(
      IOERR,
    );
  });

  it.each([
    ["no status byte", { out: [header(IN)] }],
    ["a short header", { out: [header(IN).subarray(1)], in: [1] }],
  ])("%s: the device needs a reset", (_name, request) => {
    const { queue, driver, board } = setUp();
    queue.post(request);
    queue.notify();
    expect(board.errors).toHaveLength(1);
    expect(driver.read(R.status) & 0x40).toBe(0x40);
    expect(driver.acknowledge() & 2).toBe(2);
  });

  it("a bad request after good ones: the good ones complete, and the machine can stop", async () => {
    const { queue, device, backend } = setUp();
    queue.post({ out: [header(OUT, 1n), pattern(512, 4)], in: [1] });
    queue.post({ out: [header(OUT)] });
    queue.notify();
    await device.quiesce();
    expect(backend.log).toEqual(["write 512 512"]);
    expect(device.state.requests).toEqual([]);
  });
});

describe("virtio-blk", () => {
  it("answers VIRTIO_BLK_S_IOERR when the backend fails, and continues", async () => {
    const { queue, backend } = setUp();
    backend.failure = Object.assign(new Error("ENOSPC: no space left on device"), { code: "ENOSPC" });
    expect(statusOf((await queue.request({ out: [header(OUT), pattern(512, 1)], in: [1] })).data)).toBe(
      IOERR,
    );
    backend.failure = undefined;
    expect(statusOf((await queue.request({ out: [header(OUT), pattern(512, 1)], in: [1] })).data)).toBe(OK);
  });

  it("is write-through for a driver without flush, and when the driver turns the cache off", async () => {
    const through = setUp({ without: [F_FLUSH, F_CONFIG_WCE] });
    await through.queue.request({ out: [header(OUT), pattern(512, 1)], in: [1] });
    expect(through.backend.log).toEqual(["write 0 512", "flush"]);
    const { queue, backend, driver } = setUp();
    await queue.request({ out: [header(OUT), pattern(512, 1)], in: [1] });
    expect(backend.log).toEqual(["write 0 512"]);
    expect(driver.transport.read(R.config + 32, 1)).toBe(1);
    driver.transport.write(R.config + 32, 1, 0);
    await queue.request({ out: [header(OUT), pattern(512, 1)], in: [1] });
    expect(backend.log.at(-1)).toBe("flush");
  });

  it("shows its geometry in the configuration space", () => {
    const { driver } = setUp({ queues: 3, backing: new MemoryBlock(1 << 20) });
    const read = (offset: number, size: 1 | 2 | 4): number => driver.transport.read(R.config + offset, size);
    expect([read(0, 4), read(4, 4), read(12, 4), read(20, 4), read(34, 2)]).toEqual([2048, 0, 254, 512, 3]);
    expect([read(36, 4), read(40, 4), read(44, 4), read(56, 1), read(57, 1)]).toEqual([0x3fffff, 1, 1, 1, 0]);
  });

  it("serves several queues", async () => {
    const { driver, backend } = setUp({ queues: 3 });
    await Promise.all(
      [0, 1, 2].map((i) =>
        driver.queue(i).request({ out: [header(OUT, BigInt(i)), pattern(512, i)], in: [1] }),
      ),
    );
    for (const i of [0, 1, 2])
      expect(backend.bytes.subarray(i * 512, (i + 1) * 512)).toEqual(pattern(512, i));
  });

  it("completes its requests when the machine stops, and writes nothing afterwards", async () => {
    const { queue, backend, driver } = setUp();
    let open = (): void => {};
    backend.gate = new Promise((resolve) => {
      open = resolve;
    });
    queue.post({ out: [header(OUT), pattern(512, 1)], in: [1] });
    queue.notify();
    let quiet = false;
    const stopped = driver.transport.quiesce().then(() => {
      quiet = true;
    });
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect(quiet).toBe(false);
    open();
    await stopped;
    expect(queue.collect()).toHaveLength(1);
    queue.post({ out: [header(OUT), pattern(512, 2)], in: [1] });
    queue.notify();
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect(queue.collect()).toHaveLength(0);
    // The kick came while the machine was stopped: the queue is polled on resume.
    driver.transport.unquiesce();
    await expect.poll(() => queue.collect().length).toBe(1);
  });

  it("drops requests at reset; new ones wait until the disk has finished with them", async () => {
    const { queue, backend, driver } = setUp();
    let open = (): void => {};
    backend.gate = new Promise((resolve) => {
      open = resolve;
    });
    queue.post({ out: [header(OUT), pattern(512, 1)], in: [1] });
    queue.notify();
    driver.start();
    const again = driver.queue(0);
    const written = again.request({ out: [header(OUT), pattern(512, 2)], in: [1] });
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect(backend.log).toEqual(["write 0 512"]);
    open();
    expect(statusOf((await written).data)).toBe(OK);
    expect(backend.bytes.subarray(0, 512)).toEqual(pattern(512, 2));
    expect(queue.collect()).toEqual([]);
  });

  it("drops the requests of one queue at QueueReset", async () => {
    const { queue, backend, driver } = setUp({ queues: 2 });
    let open = (): void => {};
    backend.gate = new Promise((resolve) => {
      open = resolve;
    });
    queue.post({ out: [header(OUT), pattern(512, 1)], in: [1] });
    queue.notify();
    driver.queue(1).post({ out: [header(OUT, 1n), pattern(512, 3)], in: [1] });
    driver.queue(1).notify();
    driver.write(R.queueSel, 0);
    driver.write(R.queueReset, 1);
    expect([driver.read(R.queueReset), driver.read(R.queueReady)]).toEqual([0, 0]);
    const fresh = driver.setUpQueue(0, 16);
    open();
    expect(statusOf((await fresh.request({ out: [header(OUT, 2n), pattern(512, 4)], in: [1] })).data)).toBe(
      OK,
    );
    expect(queue.collect()).toEqual([]);
    await expect.poll(() => driver.queue(1).collect().length).toBe(1);
  });
});

describe("virtio-blk on a backend that has the data at hand", () => {
  it("answers before the notification returns, with one interrupt for all", () => {
    const backing = new QuickBlock(64 * 512);
    const { queue, driver, device, board } = setUp({ backing });
    let expected = 0;
    board.expectMore = () => void expected++;
    const data = pattern(1024, 5);
    queue.post({ out: [header(OUT, 3n), data.subarray(0, 100), data.subarray(100)], in: [1] });
    queue.post({ out: [header(IN, 3n)], in: [512, 512, 1] });
    queue.post({ out: [header(IN, 4n)], in: [513] });
    queue.notify();
    const done = queue.collect();
    expect(done.map(({ length }) => length)).toEqual([1, 1025, 513]);
    expect(done.map((each) => statusOf(each.data))).toEqual([OK, OK, OK]);
    expect(done[1]?.data.subarray(0, 1024)).toEqual(data);
    expect(done[2]?.data.subarray(0, 512)).toEqual(data.subarray(512));
    expect([driver.irq, device.state.requests.length, expected]).toEqual([true, 0, 1]);
  });

  it("reads all of a request again of which a part is not at hand", async () => {
    const backing = new QuickBlock(1024 * 512, 2);
    const { queue, driver } = setUp({ backing });
    const data = pattern(300 * 512, 8);
    backing.bytes.set(data);
    // Two pieces, of which the second one is slow.
    const read = queue.request({ out: [header(IN)], in: [300 * 512, 1] });
    const behind = queue.request({ out: [header(IN, 1n)], in: [512, 1] });
    expect(backing.log).toEqual(["read now 0 131072", "read 0 153600", "read now 512 512"]);
    expect((await read).data.subarray(0, data.length)).toEqual(data);
    expect((await behind).data.subarray(0, 512)).toEqual(data.subarray(512, 1024));
    expect(driver.irq).toBe(true);
  });

  it("flushes each write of a driver without a cache, and refuses as it does otherwise", async () => {
    const backing = new QuickBlock(64 * 512);
    const { queue } = setUp({ backing, without: [F_FLUSH, F_CONFIG_WCE] });
    await queue.request({ out: [header(OUT), pattern(512, 1)], in: [1] });
    expect(backing.log).toEqual(["write 0 512", "flush"]);
    expect(statusOf((await queue.request({ out: [header(IN, 64n)], in: [512, 1] })).data)).toBe(IOERR);
    const readonly = setUp({ backing: new QuickBlock(4096, 99, true) });
    const refused = await readonly.queue.request({ out: [header(OUT), pattern(512, 1)], in: [1] });
    expect(statusOf(refused.data)).toBe(IOERR);
    backing.failure = new Error("EIO: i/o error");
    expect(statusOf((await queue.request({ out: [header(IN)], in: [512, 1] })).data)).toBe(IOERR);
  });

  it("lets other events have their turn if the driver adds requests as fast as they are served", async () => {
    const backing = new QuickBlock(64 * 512);
    const { queue } = setUp({ backing, num: 4 });
    const readNow = backing.readNow.bind(backing);
    let served = 0;
    backing.readNow = (offset, target) => {
      // The status of the one before is there: its descriptors are free again.
      if (++served < 50) queue.collect();
      if (served < 50) queue.post({ out: [header(IN)], in: [513] });
      return readNow(offset, target);
    };
    queue.post({ out: [header(IN)], in: [513] });
    queue.notify();
    expect(served).toBe(4);
    await expect.poll(() => served).toBe(50);
  });
});
