// Broken and hostile drivers: devices never throw, never loop, never touch other memory, and can always be
// reset, saved and loaded. WHERRY_SEED replays a run.
import { VirtioNet } from "../../src/devices/virtio/virtio-net.ts";
import { describe, expect, it } from "vitest";
import { ByteReader, ByteWriter } from "../../src/base/bytes.ts";
import { MockDriver, R, RAM_BASE, testBoard } from "../support/mock-driver.ts";
import { type DeviceName, makeDevice } from "./scenarios.ts";
import { seed } from "../support/seed.ts";
import { randomBelow } from "../support/random.ts";

const NEXT = 1;
const WRITE = 2;
const INDIRECT = 4;

type Random = (below: number) => number;

function started(name: DeviceName = "rng", legacy = false, ram?: number) {
  const board = testBoard({ legacy, ...(ram === undefined ? {} : { size: ram }) });
  const driver = new MockDriver(board, makeDevice(name, board)).start({ queues: name === "net" ? 3 : 1 });
  return { board, driver, queue: driver.queue(0) };
}

describe("a malformed ring makes the device need a reset:", () => {
  const cases: [string, (q: ReturnType<typeof started>["queue"]) => void, RegExp][] = [
    [
      "a loop",
      (q) => {
        q.writeDescriptor(q.desc, 0, RAM_BASE, 8, NEXT, 1);
        q.writeDescriptor(q.desc, 1, RAM_BASE, 8, NEXT, 0);
        q.makeAvailable(0);
      },
      /chain from 0 loops/,
    ],
    ["a head out of range", (q) => q.makeAvailable(16), /descriptor 16 of 16/],
    [
      "a next out of range",
      (q) => {
        q.writeDescriptor(q.desc, 0, RAM_BASE, 8, NEXT, 999);
        q.makeAvailable(0);
      },
      /descriptor 0 continues at 999, the table has 16/,
    ],
    [
      "a buffer outside RAM",
      (q) => {
        q.writeDescriptor(q.desc, 0, 0x1000, 8, WRITE);
        q.makeAvailable(0);
      },
      /0x1000\+0x8 is not in RAM/,
    ],
    [
      "a buffer at the end of the address space",
      (q) => {
        q.writeDescriptor(q.desc, 0, 0xffff_ffff_ffff_ffffn, 8, WRITE);
        q.makeAvailable(0);
      },
      /is not in RAM/,
    ],
    [
      "a buffer that runs out of RAM",
      (q) => {
        q.writeDescriptor(q.desc, 0, RAM_BASE + 0xffff0, 0xffff_ffff, WRITE);
        q.makeAvailable(0);
      },
      /is not in RAM/,
    ],
    [
      "readable after writable",
      (q) => {
        q.writeDescriptor(q.desc, 0, RAM_BASE, 8, WRITE | NEXT, 1);
        q.writeDescriptor(q.desc, 1, RAM_BASE, 8, 0);
        q.makeAvailable(0);
      },
      /readable descriptor 1 after a writable one/,
    ],
    [
      "an indirect table of half a descriptor",
      (q) => {
        q.writeDescriptor(q.desc, 0, RAM_BASE, 24, INDIRECT);
        q.makeAvailable(0);
      },
      /indirect table of 24 bytes/,
    ],
    [
      "an indirect table that is too long",
      (q) => {
        q.writeDescriptor(q.desc, 0, RAM_BASE, 16 * 1025, INDIRECT);
        q.makeAvailable(0);
      },
      /indirect table of 16400 bytes/,
    ],
    [
      "an indirect table outside RAM",
      (q) => {
        q.writeDescriptor(q.desc, 0, 0x2000, 32, INDIRECT);
        q.makeAvailable(0);
      },
      /descriptor 0 at 0x2000 is not in RAM/,
    ],
    [
      "an indirect table in an indirect table",
      (q) => {
        q.writeDescriptor(RAM_BASE, 0, RAM_BASE, 16, INDIRECT);
        q.writeDescriptor(q.desc, 0, RAM_BASE, 16, INDIRECT);
        q.makeAvailable(0);
      },
      /nests indirect tables/,
    ],
    [
      "an indirect descriptor with a next one",
      (q) => {
        q.writeDescriptor(q.desc, 0, RAM_BASE, 16, INDIRECT | NEXT, 1);
        q.makeAvailable(0);
      },
      /nests indirect tables/,
    ],
    [
      "an available index that jumps",
      (q) => q.driver.memory.writeU16(q.avail + 2, 17),
      /avail index 0x11 is more than 16 ahead of last_avail_idx 0x0/,
    ],
  ];
  it.each(cases)("%s", (_name, spoil, message) => {
    const { board, driver, queue } = started();
    spoil(queue);
    queue.notify();
    expect(board.errors).toEqual([expect.stringMatching(message)]);
    expect(driver.read(R.status)).toBe(0x4f);
    expect(queue.collect()).toEqual([]);
    expect(driver.acknowledge() & 2).toBe(2);
    // Dead until reset, then working again.
    queue.notify();
    expect(board.errors).toHaveLength(1);
    const again = driver.start().queue(0);
    again.post({ in: [8] });
    again.notify();
    expect(again.collect()).toHaveLength(1);
  });

  it("legacy drivers get no status bit; the device is silent", () => {
    const { board, driver, queue } = started("rng", true);
    queue.makeAvailable(16);
    queue.notify();
    expect(board.errors).toHaveLength(1);
    expect(driver.read(R.status) & 0x40).toBe(0);
  });
});

it("a chain may continue in one indirect table, and may have empty buffers", () => {
  const { queue, board } = started();
  queue.writeDescriptor(queue.desc, 0, RAM_BASE, 0, WRITE | NEXT, 1);
  queue.writeDescriptor(queue.desc, 1, RAM_BASE + 0x100, 32, INDIRECT);
  queue.writeDescriptor(RAM_BASE + 0x100, 0, RAM_BASE + 0x200, 4, WRITE | NEXT, 1);
  queue.writeDescriptor(RAM_BASE + 0x100, 1, RAM_BASE + 0x210, 4, WRITE);
  queue.posted.set(0, { descriptors: [0, 1], writable: [] });
  queue.makeAvailable(0);
  queue.notify();
  expect(queue.collect().map((c) => c.length)).toEqual([8]);
  expect(board.errors).toEqual([]);
});

it("a device writes only to the driver's buffers, and marks pages dirty", async () => {
  const { board, driver, queue } = started();
  const block = board.memory.blocks[0];
  if (block === undefined) throw new Error("no RAM");
  driver.allocate(0, 4096);
  queue.post({ in: [100] });
  block.dirty.fill(0);
  const before = board.memory.bytes.slice();
  queue.notify();
  const [done] = queue.collect();
  expect(done?.data.every((b) => b === 7)).toBe(true);
  for (const [i, byte] of board.memory.bytes.entries()) {
    const dirty = ((block.dirty[i >> 17] ?? 0) >>> ((i >> 12) & 31)) & 1;
    if (byte !== before[i]) expect(dirty).toBe(1);
  }
});

/** Random descriptors, mostly plausible, in the ring's table and in a scratch table. */
function scribble(driver: MockDriver, rnd: Random): void {
  const { queues } = driver;
  const queue = queues[rnd(queues.length)];
  if (queue === undefined) return;
  const ram = driver.memory.blocks[0]?.size ?? 0;
  const table = rnd(3) === 0 ? RAM_BASE + 16 * rnd(64) : queue.desc;
  const address = rnd(20) === 0 ? rnd(2 ** 32) * rnd(2 ** 21) : RAM_BASE + rnd(ram);
  const length = rnd(10) === 0 ? rnd(2 ** 32) : [0, 1, 16, 64, 512, 1024, 4096][rnd(7)];
  const flags = rnd(15) === 0 ? rnd(65536) : [0, NEXT, WRITE, WRITE | NEXT, INDIRECT][rnd(5)];
  queue.writeDescriptor(
    table,
    rnd(queue.num),
    address,
    length ?? 0,
    flags ?? 0,
    rnd(queue.num + (rnd(9) === 0 ? 9 : 0)),
  );
}

const registers = Object.values(R);
function step(driver: MockDriver, rnd: Random): void {
  const queue = driver.queues[rnd(driver.queues.length)];
  switch (rnd(12)) {
    case 0:
    case 1:
    case 2:
    case 3:
      return scribble(driver, rnd);
    case 4:
    case 5:
    case 6:
      return queue?.makeAvailable(rnd(queue.num));
    case 7:
    case 8:
      return queue?.notify();
    case 9: {
      const size = ([1, 2, 4, 4] as const)[rnd(4)] ?? 4;
      const at = rnd(3) === 0 ? R.config + rnd(128) : (registers[rnd(registers.length)] ?? 0);
      // Most resets would end the run too early.
      if (at === R.status && rnd(8) !== 0) return;
      return driver.transport.write(at, size, rnd(3) === 0 ? rnd(2 ** 32) : rnd(20));
    }
    case 10: {
      driver.transport.read(rnd(0x200), ([1, 2, 4] as const)[rnd(3)] ?? 4);
      return;
    }
    default:
      if (rnd(10) === 0 && queue !== undefined) {
        driver.memory.writeU16((rnd(2) === 0 ? queue.avail : queue.used) + 2, rnd(65536));
      } else if (rnd(10) === 0) {
        driver.next = RAM_BASE + 0x1000;
        driver.start({ queues: driver.queues.length, num: 2 ** rnd(6) });
      }
  }
}

/** After any driver: the saved state can be loaded, and saved again the same. */
async function moved(
  driver: MockDriver,
  name: DeviceName,
  board: ReturnType<typeof testBoard>,
): Promise<void> {
  await driver.transport.quiesce();
  const { section } = driver.transport;
  const writer = new ByteWriter();
  section.encode(writer);
  const bytes = writer.finish();
  const device = makeDevice(name, board);
  // A legacy driver may have set another address than the card's, which the machine's section tells.
  if (device instanceof VirtioNet) device.expectAddress(Uint8Array.of(0x52, 0x54, 0, 0x12, 0x34, 0x56));
  const to = new MockDriver(board, device);
  await to.transport.quiesce();
  to.transport.section.decode(new ByteReader(bytes), section.version)();
  const again = new ByteWriter();
  to.transport.section.encode(again);
  expect(Buffer.from(again.finish()).equals(Buffer.from(bytes))).toBe(true);
  driver.transport.unquiesce();
}

async function fuzz(name: DeviceName, legacy: boolean, seed: number, steps: number): Promise<void> {
  const rnd = randomBelow(seed);
  const board = testBoard({ legacy, size: 1 << 18 });
  const queues = { blk: 1, "blk-mq": 4, rng: 1, console: 2, serial: 8, net: 3 }[name];
  const driver = new MockDriver(board, makeDevice(name, board));
  driver.start({ queues, num: 8 });
  for (let i = 0; i < steps; i++) {
    step(driver, rnd);
    if (rnd(40) === 0) await new Promise((resolve) => setImmediate(resolve));
    if (rnd(200) === 0) await moved(driver, name, board);
  }
  await moved(driver, name, board);
  // A correct driver afterwards finds a working device.
  driver.next = RAM_BASE + 0x1000;
  driver.transport.reset();
  driver.start({ queues });
  expect(driver.read(R.status) & 0x40).toBe(0);
  const header = new Uint8Array(64);
  const queue = driver.queue({ console: 1, net: 1, serial: 3 }[name as string] ?? 0);
  const isConsole = name === "console" || name === "serial";
  const done = await queue.request({ out: [header.subarray(0, 16)], in: isConsole ? [] : [512, 1] });
  expect(done.id).toBeGreaterThanOrEqual(0);
}

describe("random drivers", () => {
  const rounds = Number(process.env["WHERRY_FUZZ_ROUNDS"] ?? 6);
  for (const name of ["rng", "blk", "blk-mq", "console", "serial", "net"] as const) {
    for (const legacy of [false, true]) {
      it(`cannot break ${name}, ${legacy ? "legacy" : "modern"} (WHERRY_SEED=${seed})`, async () => {
        for (let round = 0; round < rounds; round++) {
          try {
            await fuzz(name, legacy, seed + round, 1500);
          } catch (cause) {
            throw new Error(`WHERRY_SEED=${seed + round} WHERRY_FUZZ_ROUNDS=1`, { cause });
          }
        }
      });
    }
  }
});
