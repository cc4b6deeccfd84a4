// The mmio registers, negotiation, interrupts and notifications, without regard to the kind of device.
import { describe, expect, it } from "vitest";
import { ByteReader, ByteWriter } from "../../base/bytes.ts";
import { VirtioRng } from "./virtio-rng.ts";
import { EmptyVirtioMmio } from "./virtio-mmio.ts";
import { MockDriver, MODES, R, testBoard } from "../../../test/support/mock-driver.ts";

function setUp(legacy = false) {
  const board = testBoard({ legacy });
  const device = new VirtioRng(board, { random: (target) => target.fill(1) });
  return { board, device, driver: new MockDriver(board, device) };
}

describe("registers", () => {
  it("identify the device", () => {
    for (const legacy of [false, true]) {
      const { driver } = setUp(legacy);
      const id = [R.magic, R.version, R.deviceId, R.vendor].map((r) => driver.read(r));
      expect(id).toEqual([0x74726976, legacy ? 1 : 2, 4, 0x554d4551]);
      expect(driver.transport.read(R.magic, 1)).toBe(0);
      expect(driver.read(R.queueNumMax)).toBe(8);
      driver.write(R.queueSel, 1);
      expect(driver.read(R.queueNumMax)).toBe(0);
    }
  });

  it("of an empty slot show no device", () => {
    for (const legacy of [false, true]) {
      const slot = new EmptyVirtioMmio(legacy);
      expect([0, 4, 8, 0xc, 0x70].map((offset) => slot.read(offset, 4))).toEqual([
        0x74726976,
        legacy ? 1 : 2,
        0,
        0x554d4551,
        0,
      ]);
    }
  });

  it("offer VERSION_1 in modern mode only, legacy bits in legacy mode only", () => {
    const modern = setUp(false).driver.offered();
    const legacy = setUp(true).driver.offered();
    expect([modern >> 32n, (modern >> 24n) & 0xffn]).toEqual([0x101n, 0x30n]);
    expect([legacy >> 32n, (legacy >> 24n) & 0xffn]).toEqual([0n, 0x39n]);
  });

  it("have no shared memory", () => {
    const { driver } = setUp();
    expect([0xb0, 0xb4, 0xb8, 0xbc].map((r) => driver.read(r))).toEqual(Array(4).fill(0xffff_ffff));
  });
});

describe("negotiation", () => {
  it("is refused without VERSION_1, and with bits that were not offered", () => {
    for (const [low, high, ok] of [
      [0, 0, false],
      [1, 1, false],
      [0, 3, false],
      [1 << 28, 1, true],
    ] as const) {
      const { driver } = setUp();
      driver.write(R.status, 3);
      driver.write(R.driverFeaturesSel, 0);
      driver.write(R.driverFeatures, low >>> 0);
      driver.write(R.driverFeaturesSel, 1);
      driver.write(R.driverFeatures, high);
      driver.write(R.status, 0xb);
      expect((driver.read(R.status) & 8) !== 0).toBe(ok);
    }
  });

  it("cannot change once it is over", () => {
    const { driver, device } = setUp();
    driver.start();
    const before = device.state.guestFeatures;
    driver.write(R.driverFeaturesSel, 0);
    driver.write(R.driverFeatures, 0);
    driver.write(R.status, 0xf);
    expect(device.state.guestFeatures).toBe(before);
  });

  it("starts over after status 0", () => {
    const { driver, device } = setUp();
    driver.start();
    driver.write(R.status, 0);
    expect([driver.read(R.status), device.state.guestFeatures, driver.read(R.queueReady)]).toEqual([
      0,
      0n,
      0,
    ]);
  });
});

describe("a modern queue", () => {
  it.each([
    ["of no power of two", 12, 0],
    ["too large", 2048, 0],
    ["with rings outside RAM", 16, 0x7000_0000],
    ["with misaligned rings", 16, 8],
  ])("%s is refused", (_name, num, shift) => {
    const { driver, board } = setUp();
    driver.start({ queues: 0, driverOk: false });
    driver.write(R.queueSel, 0);
    driver.write(R.queueNum, num);
    const at = driver.allocate(16384, 4096) + shift;
    for (const [i, register] of [R.queueDesc, R.queueAvail, R.queueUsed].entries()) {
      driver.write(register, at + 4096 * i);
      driver.write(register + 4, 0);
    }
    driver.write(R.queueReady, 1);
    expect(driver.read(R.queueReady)).toBe(0);
    expect(driver.read(R.status) & 0x40).toBe(0x40);
    expect(board.errors).toHaveLength(1);
    // The machine can still be saved, and loaded from that.
    const { section } = driver.transport;
    const saved = new ByteWriter();
    section.encode(saved);
    expect(() => section.decode(new ByteReader(saved.finish()), section.version)).not.toThrow();
    driver.start();
    expect(driver.read(R.status)).toBe(0xf);
  });

  it("keeps its rings in a save even if the driver has negotiated nothing", () => {
    const { driver, board } = setUp();
    driver.write(R.status, 3);
    driver.setUpQueue(0, 16);
    const { section } = driver.transport;
    const saved = new ByteWriter();
    section.encode(saved);
    const bytes = saved.finish();
    const other = new MockDriver(board, new VirtioRng(board, { random: () => {} }));
    other.transport.section.decode(new ByteReader(bytes), section.version)();
    const again = new ByteWriter();
    other.transport.section.encode(again);
    expect(Buffer.from(again.finish()).equals(bytes)).toBe(true);
  });

  it("addresses beyond 2^53 are refused too", () => {
    const { driver } = setUp();
    driver.start({ queues: 0, driverOk: false });
    driver.write(R.queueNum, 16);
    for (const register of [R.queueDesc, R.queueAvail, R.queueUsed]) {
      driver.write(register, 0);
      driver.write(register + 4, 0xffff_ffff);
    }
    driver.write(R.queueReady, 1);
    expect(driver.read(R.queueReady)).toBe(0);
  });

  it("does nothing before it is ready and before DRIVER_OK", () => {
    const { driver } = setUp();
    driver.start({ driverOk: false });
    const queue = driver.queue(0);
    queue.post({ in: [8] });
    queue.notify();
    expect(queue.collect()).toEqual([]);
    driver.write(R.status, 0xf);
    expect(queue.collect()).toHaveLength(1);
    driver.write(R.queueReady, 0);
    queue.post({ in: [8] });
    queue.notify();
    expect(queue.collect()).toEqual([]);
  });
});

describe("a legacy queue", () => {
  it("is live from the first notification, even before DRIVER_OK", () => {
    const { driver, device } = setUp(true);
    driver.start({ driverOk: false });
    const queue = driver.queue(0);
    expect(driver.read(R.queuePfn)).toBe(queue.desc / 4096);
    queue.post({ in: [8] });
    queue.notify();
    expect(queue.collect()).toHaveLength(1);
    expect(device.state.started).toBe(true);
  });

  it("takes other page sizes and alignments", () => {
    const { driver, device } = setUp(true);
    driver.start({ queues: 0, driverOk: false });
    driver.write(R.guestPageSize, 16384);
    driver.write(R.queueNum, 8);
    driver.write(R.queueAlign, 64);
    const at = driver.allocate(65536, 16384);
    driver.write(R.queuePfn, at / 16384);
    expect(device.state.rings[0]).toMatchObject({ avail: BigInt(at + 128), used: BigInt(at + 192) });
  });

  it("resets the device with page frame number 0", () => {
    const { driver } = setUp(true);
    driver.start();
    driver.write(R.queuePfn, 0);
    expect(driver.read(R.status)).toBe(0);
  });
});

describe.each(MODES)("interrupts, $name", ({ legacy, without }) => {
  it("come when the driver wants them", () => {
    const { driver } = setUp(legacy);
    const queue = driver.start({ without }).queue(0);
    const eventIndex = !(without as readonly number[]).includes(29);
    const one = (): number => {
      const before = driver.interrupts;
      queue.post({ in: [8] });
      queue.notify();
      queue.collect();
      driver.acknowledge();
      return driver.interrupts - before;
    };
    expect(one()).toBe(1);
    if (eventIndex) {
      queue.setUsedEvent(3); // only when used index 3 is written, that is, at the fourth
      expect([one(), one(), one(), one()]).toEqual(legacy ? [1, 1, 1, 1] : [0, 0, 1, 0]);
    } else {
      queue.setNoInterrupt(true);
      expect([one(), one()]).toEqual(legacy ? [1, 1] : [0, 0]);
      queue.setNoInterrupt(false);
      expect(one()).toBe(1);
    }
  });

  it("stay level until they are acknowledged", () => {
    const { driver } = setUp(legacy);
    const queue = driver.start({ without }).queue(0);
    queue.post({ in: [8] });
    queue.notify();
    queue.post({ in: [8] });
    queue.notify();
    expect([driver.irq, driver.interrupts]).toEqual([true, 1]);
    driver.write(R.interruptAck, 2);
    expect(driver.irq).toBe(true);
    driver.write(R.interruptAck, 1);
    expect(driver.irq).toBe(false);
  });
});

describe("notifications", () => {
  it("are asked for by way of avail_event when the queue is empty", () => {
    const { driver } = setUp();
    const queue = driver.start().queue(0);
    for (let i = 0; i < 3; i++) queue.post({ in: [8] });
    queue.notify();
    expect(queue.collect()).toHaveLength(3);
    expect(queue.availEvent).toBe(3);
  });

  it("may come by way of an ioeventfd, and for queues that do not exist", () => {
    const { driver } = setUp();
    const queue = driver.start().queue(0);
    queue.post({ in: [8] });
    driver.transport.notify(0);
    expect(queue.collect()).toHaveLength(1);
    driver.transport.notify(7);
    driver.write(R.queueNotify, 0xffff_ffff);
  });

  it("let others have a turn when a driver adds without end", async () => {
    const { driver, device, board } = setUp();
    const queue = driver.start({ num: 4 }).queue(0);
    const last = queue.post({ in: [8] });
    // Endless: the same buffer becomes available as soon as the device checks.
    let added = 0;
    const readU16 = board.memory.readU16.bind(board.memory);
    board.memory.readU16 = (guestPhys) => {
      if (
        guestPhys === queue.avail + 2 &&
        queue.availIdx === device.state.queues[0]?.lastAvailIdx &&
        added++ < 1e6
      ) {
        queue.makeAvailable(last);
      }
      return readU16(guestPhys);
    };
    queue.notify();
    let turns = 0;
    await new Promise<void>((resolve) => {
      const turn = (): void => void (++turns === 10 ? resolve() : setImmediate(turn));
      setImmediate(turn);
    });
    await driver.transport.quiesce();
    const stopped = added;
    expect(stopped).toBeGreaterThan(8);
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect(added).toBe(stopped);
  });
});

describe("machine reset", () => {
  it("puts every register back", () => {
    const { driver, device } = setUp();
    const fresh = setUp().device;
    driver
      .start()
      .queue(0)
      .post({ in: [8] });
    driver.queue(0).notify();
    driver.transport.reset();
    expect({ ...device.state, config: 0 }).toEqual({ ...fresh.state, config: 0 });
    expect(driver.irq).toBe(false);
  });
});
