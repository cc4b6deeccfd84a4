// What virtio devices save is byte for byte what QEMU saves for the same state; what they load is
// checked against the host and guest memory before anything is applied.
import { describe, expect, it } from "vitest";
import { ByteReader, ByteWriter } from "../../src/base/bytes.ts";
import type { Section } from "../../src/state/section.ts";
import { qemuFixture } from "./fixtures.ts";
import { MockDriver, testBoard } from "../support/mock-driver.ts";
import { type DeviceName, makeDevice, type Scenario, scenarios } from "./scenarios.ts";

function save(section: Section): Uint8Array {
  const writer = new ByteWriter();
  section.encode(writer);
  return writer.finish();
}

async function played(scenario: Scenario) {
  const board = testBoard({ legacy: scenario.legacy });
  const driver = new MockDriver(board, makeDevice(scenario.device, board));
  await scenario.run(driver);
  await driver.transport.quiesce();
  return { board, driver, section: driver.transport.section };
}

/** A fresh device of the same kind on the same memory: the destination, once RAM is loaded. */
function destination(scenario: Scenario, board: ReturnType<typeof testBoard>): MockDriver {
  const driver = new MockDriver(board, makeDevice(scenario.device, board));
  void driver.transport.quiesce();
  return driver;
}

/** The first difference of two byte strings, for the message. */
function difference(found: Uint8Array, expected: Uint8Array): string {
  if (Buffer.from(found).equals(Buffer.from(expected))) return "none";
  let at = 0;
  while (found[at] === expected[at]) at++;
  const show = (bytes: Uint8Array): string =>
    Buffer.from(bytes.subarray(Math.max(0, at - 8), at + 16)).toString("hex");
  return `at ${at} of ${found.length} and ${expected.length}: ${show(found)} instead of ${show(expected)}`;
}

interface Described {
  fields: { size: number; array_len?: number; struct?: Described }[];
  subsections?: (Described & { vmsd_name: string })[];
}
/** Bytes that a VMDESCRIPTION accounts for. */
function describedBytes({ fields, subsections = [] }: Described): number {
  const own = fields.reduce((sum, field) => {
    if (field.struct !== undefined && field.array_len === undefined) {
      expect(describedBytes(field.struct)).toBe(field.size);
    }
    return sum + field.size * (field.array_len ?? 1);
  }, 0);
  return subsections.reduce((sum, sub) => sum + 2 + sub.vmsd_name.length + 4 + describedBytes(sub), own);
}

describe.each(scenarios)("$name", (scenario) => {
  it("is saved as QEMU saves it", async () => {
    const { section } = await played(scenario);
    const qemu = qemuFixture(scenario.name);
    expect([section.idstr, section.version]).toEqual([qemu.idstr, qemu.version]);
    expect(difference(save(section), qemu.bytes)).toBe("none");
  });

  it("is loaded from QEMU and saved again, unchanged", async () => {
    const { board } = await played(scenario);
    const { section } = destination(scenario, board).transport;
    const { bytes, version } = qemuFixture(scenario.name);
    const reader = new ByteReader(bytes);
    const apply = section.decode(reader, version);
    expect(reader.remaining).toBe(0);
    apply();
    expect(difference(save(section), bytes)).toBe("none");
  });

  it("is described to the last byte", async () => {
    const { section } = await played(scenario);
    expect(describedBytes(section.describe() as Described)).toBe(save(section).length);
  });

  it("is refused if it is cut anywhere, and then nothing has changed", async () => {
    const { board, section: source } = await played(scenario);
    const bytes = save(source);
    const { section } = destination(scenario, board).transport;
    const before = save(section);
    const step = Math.ceil(bytes.length / 200);
    for (let n = 0; n < bytes.length; n += step) {
      let refused = true;
      try {
        section.decode(new ByteReader(bytes.subarray(0, n)), section.version);
        refused = false;
      } catch (error) {
        expect((error as Error).message).toContain(section.idstr);
      }
      // A stream may end where the next subsection would begin.
      if (!refused) expect(n).toBeGreaterThan(40);
    }
    expect(difference(save(section), before)).toBe("none");
  });
});

const named = (name: string): Scenario => {
  const found = scenarios.find((s) => s.name === name);
  if (found === undefined) throw new Error(name);
  return found;
};

/** Load what `source` saves into a fresh device on the same memory. */
async function loadedFrom(scenario: Scenario) {
  const source = await played(scenario);
  const driver = destination(scenario, source.board);
  driver.transport.section.decode(new ByteReader(save(source.section)), source.section.version)();
  return { ...source, to: driver };
}

describe("a loaded device", () => {
  it("continues where the other stopped, and serves a late kick", async () => {
    for (const legacy of ["modern", "legacy"]) {
      const { driver, to } = await loadedFrom(named(`rng with a kick that came too late, ${legacy}`));
      const queue = driver.queue(0);
      expect(queue.collect()).toEqual([]);
      expect(to.irq).toBe(true);
      to.transport.unquiesce();
      expect(queue.collect()).toHaveLength(1);
    }
  });

  it("continues with blk requests", async () => {
    const { driver, to } = await loadedFrom(named("blk after reads and writes, modern"));
    to.transport.unquiesce();
    // The same driver, on the other machine.
    Object.assign(driver, { transport: to.transport });
    const queue = driver.queue(0);
    const header = new Uint8Array(16);
    const done = await queue.request({ out: [header], in: [512, 1] });
    expect(done.data.at(-1)).toBe(0);
  });

  it("tells the driver to announce itself", async () => {
    const { to } = await loadedFrom(named("net in use, modern"));
    to.acknowledge();
    to.transport.unquiesce();
    expect(to.transport.read(0x106, 2)).toBe(3);
    expect(to.acknowledge() & 2).toBe(2);
  });

  it("keeps the write-through choice of its driver", async () => {
    const scenario: Scenario = {
      ...named("blk after reads and writes, modern"),
      run: async (driver) => {
        driver.start();
        driver.transport.write(0x120, 1, 0);
        driver.read(0x100);
      },
    };
    const { to } = await loadedFrom(scenario);
    expect(to.transport.read(0x120, 1)).toBe(0);
  });
});

/** A device that a driver has started, with `change` made to its state, saved. */
async function spoiled(
  device: DeviceName,
  change: (state: ReturnType<typeof makeDevice>["state"], board: ReturnType<typeof testBoard>) => void,
  legacy = false,
): Promise<() => void> {
  const board = testBoard({ legacy });
  const driver = new MockDriver(board, makeDevice(device, board)).start({ queues: device === "net" ? 3 : 1 });
  if (device === "rng") await driver.queue(0).request({ in: [8] });
  await driver.transport.quiesce();
  change(driver.transport.state, board);
  const bytes = save(driver.transport.section);
  const { section } = destination({ name: "", device, legacy, run: async () => {} }, board).transport;
  const before = save(section);
  return () => {
    try {
      section.decode(new ByteReader(bytes), section.version);
    } finally {
      expect(difference(save(section), before)).toBe("none");
    }
  };
}

describe("refused with the reason", () => {
  const where = "virtio-mmio@0000000010008000/virtio-";
  it.each([
    [
      "an avail index that RAM does not bear out",
      "rng",
      (state) => Object.assign(state.queues[0] ?? {}, { lastAvailIdx: 0x400 }),
      `${where}rng: queue 0 (requestq): avail index 0x1 − last_avail_idx 0x400 is 0xfc01, more than its size 0x10`,
    ],
    [
      "requests in flight that are not in the stream",
      "rng",
      (state, board) => board.memory.writeU16(Number(state.rings[0]?.used) + 2, 0),
      `${where}rng: queue 0 (requestq): last_avail_idx 0x1 − used index 0x0 is 0x1 requests in flight, the stream has 0`,
    ],
    [
      "features that are not offered",
      "rng",
      (state) => Object.assign(state, { guestFeatures: state.guestFeatures | (1n << 34n) }),
      "the guest uses features 0x400000000 that are not offered here",
    ],
    [
      "a legacy driver's device",
      "rng",
      (state) => {
        for (const registers of state.mmio.vqs) registers.enabled = false;
        Object.assign(state, { guestFeatures: 0n, guestFeaturesLow: 0 });
      },
      "the guest drives a legacy device, this one is modern: start it with legacy virtio",
    ],
    [
      "a big-endian guest",
      "rng",
      (state) => Object.assign(state, { deviceEndian: 2 }),
      "device_endian 2: only little-endian (1) guests are run here",
    ],
    [
      "another number of queues",
      "blk",
      (state) => {
        state.queues.push({ num: 256, align: 4096, desc: 0n, lastAvailIdx: 0 });
        state.queueCount = 2;
      },
      "2 queues, this device has 1: give it the same options",
    ],
    [
      "a queue without rings but with an index",
      "net",
      (state) => Object.assign(state.queues[2] ?? {}, { desc: 0n, lastAvailIdx: 3 }),
      "queue 2 (controlq): has no rings, but last_avail_idx 0x3",
    ],
    [
      "rings outside RAM",
      "rng",
      (state) => Object.assign(state.rings[0] ?? {}, { used: 0xffff_ffff_ffff_fff0n }),
      "queue 0 (requestq): used ring at 0xfffffffffffffff0+0x86 is not in RAM",
    ],
    [
      "a size that is no power of two",
      "rng",
      (state) => Object.assign(state.queues[0] ?? {}, { num: 12 }),
      "queue 0 (requestq): size 12 is not a power of two",
    ],
    ["a queue that cannot be selected", "rng", (state) => Object.assign(state, { queueSel: 0 }), undefined],
  ] satisfies [string, DeviceName, Parameters<typeof spoiled>[1], string | undefined][])(
    "%s",
    async (_name, device, change, message) => {
      const load = await spoiled(device, change);
      if (message === undefined) expect(load).not.toThrow();
      else expect(load).toThrow(message);
    },
  );

  it("but not for a device whose driver has already broken it", async () => {
    const load = await spoiled("rng", (state) => {
      Object.assign(state.queues[0] ?? {}, { lastAvailIdx: 0x400 });
      state.broken = true;
    });
    expect(load).not.toThrow();
  });

  it("and a driver that ruins its queue at the last moment cannot make such a stream", async () => {
    const board = testBoard();
    const driver = new MockDriver(board, makeDevice("rng", board)).start();
    driver.memory.writeU16(driver.queue(0).avail + 2, 0x1234);
    await driver.transport.quiesce();
    expect(driver.transport.state.broken).toBe(true);
    const { section } = destination(
      { name: "", device: "rng", legacy: false, run: async () => {} },
      board,
    ).transport;
    expect(() => section.decode(new ByteReader(save(driver.transport.section)), 1)).not.toThrow();
  });
});

describe("requests in flight", () => {
  it.each(["blk", "blk-mq"] as const)(
    "of %s are loaded from QEMU's list, saved again, and done once",
    async (name) => {
      const board = testBoard();
      const source = new MockDriver(board, makeDevice(name, board)).start({ queues: name === "blk" ? 1 : 4 });
      const queue = source.queue(name === "blk" ? 0 : 2);
      await source.transport.quiesce();
      const header = new Uint8Array(16);
      const write = header.slice();
      write[0] = 1;
      const heads = [
        queue.post({ out: [write, new Uint8Array(512).fill(0x5a)], in: [1] }),
        queue.post({ out: [header], in: [512, 1] }),
      ];
      // Popped by a device that was stopped before it answered, as a QEMU with a stopped disk does.
      const device = source.transport.device;
      const popped = heads.map(() => ({ queue: queue.index, ...device.queues[queue.index]?.pop() }));
      Object.assign(source.transport.state, { requests: popped });
      const bytes = save(source.transport.section);
      expect(bytes.length).toBeGreaterThan(2 * 49168);
      expect(describedBytes(source.transport.section.describe() as Described)).toBe(bytes.length);

      const to = destination({ name: "", device: name, legacy: false, run: async () => {} }, board);
      to.transport.section.decode(new ByteReader(bytes), 2)();
      expect(difference(save(to.transport.section), bytes)).toBe("none");
      to.transport.unquiesce();
      await expect.poll(() => queue.posted.size - queue.collect().length).toBe(0);
      expect(queue.posted.size).toBe(0);
      await to.transport.quiesce();
      expect(save(to.transport.section).length).toBeLessThan(49168);
    },
  );

  it("outside RAM are refused", async () => {
    const load = await spoiled("blk", (state) => {
      const outside = { guestPhys: 0x1000, length: 16 };
      Object.assign(state, { requests: [{ queue: 0, head: 0, readable: [outside], writable: [outside] }] });
    });
    expect(load).toThrow("queue 0: request 0: 0x1000+0x10 is not in RAM");
  });
});
