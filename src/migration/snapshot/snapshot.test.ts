import { describe, expect, test } from "vitest";
import { ByteReader } from "../../base/bytes.ts";
import { defaultEnvironment } from "../environment/migration-environment.ts";
import { loadSnapshot, saveSnapshot } from "./snapshot.ts";
import { MIG_PRI } from "../../state/section.ts";
import { FakeMachine, toySection } from "../../../test/support/fake-machine.ts";
import { memorySink, memorySource } from "../../../test/support/fake-network.ts";

async function saved(machine: FakeMachine): Promise<Uint8Array> {
  const sink = memorySink();
  await saveSnapshot(machine, async () => sink);
  return sink.committed as Uint8Array;
}

/** idstrs of the FULL sections in the VMDESCRIPTION, in stream order. */
function order(file: Uint8Array): string[] {
  const text = Buffer.from(file).toString("latin1");
  const json = text.slice(text.lastIndexOf("\0") + 1);
  const devices = JSON.parse(json.slice(json.indexOf("{"))).devices as { name: string }[];
  return devices.map((d) => d.name);
}

describe("a snapshot", () => {
  test("restores what was saved, and the machine runs on", async () => {
    const source = new FakeMachine({ seed: 7 });
    await source.start();
    await expect.poll(() => source.ticks).toBeGreaterThan(0n);
    const file = await saved(source);
    expect(source.runState.current).toBe("running");
    await source.stop();

    const target = new FakeMachine({ seed: 8, fill: 1 });
    const { runState, bytes } = await loadSnapshot(target, memorySource(file));
    expect(runState).toBe("running");
    expect(bytes).toBe(file.length);
    expect(target.ticks).toBeGreaterThan(0n);
    await target.start();
    await target.stop();
  });

  test("of a paused machine says so and leaves it paused", async () => {
    const source = new FakeMachine();
    await source.start();
    await source.stop();
    const file = await saved(source);
    expect(source.runState.current).toBe("paused");
    const target = new FakeMachine();
    expect((await loadSnapshot(target, memorySource(file))).runState).toBe("paused");
    expect(target.memoryHash()).toBe(source.memoryHash());
  });

  test("is the same bytes for the same state, however the reads are split", async () => {
    const source = new FakeMachine({ seed: 3 });
    const file = await saved(source);
    expect(await saved(source)).toEqual(file);
    for (const piece of [1, 7, 4096]) {
      const target = new FakeMachine({ seed: 9 });
      await loadSnapshot(target, memorySource(file, piece));
      expect(target.memoryHash()).toBe(source.memoryHash());
    }
  });

  test("is loaded in short turns: other machines of the process go on meanwhile", async () => {
    const source = new FakeMachine({ ramPages: 2048, fill: 1 });
    const file = await saved(source);
    let now = 0;
    let turns = 0;
    const environment = {
      ...defaultEnvironment,
      nowMs: () => now++,
      yieldToEventLoop: async () => void turns++,
    };
    const target = new FakeMachine({ ramPages: 2048 });
    await loadSnapshot(target, memorySource(file), "stop", environment);
    expect(turns).toBeGreaterThan(3);
    expect(target.memoryHash()).toBe(source.memoryHash());
  });

  test("starts as QEMU's do: magic, version, configuration, ram", async () => {
    const reader = new ByteReader(await saved(new FakeMachine()));
    expect(reader.u32()).toBe(0x5145564d);
    expect(reader.u32()).toBe(3);
    expect(reader.u8()).toBe(7);
    expect(new TextDecoder().decode(reader.bytes(reader.u32()))).toBe("virt");
    expect(reader.u8()).toBe(1);
    reader.u32();
    expect(reader.countedString()).toBe("ram");
    expect([reader.u32(), reader.u32()]).toEqual([0, 4]);
    expect(reader.u64()).toBe(BigInt((64 + 8 + 3) * 4096) | 4n);
  });

  test("orders sections by priority, ties in registration order, integrity last", async () => {
    const bridge = toySection("bridge", 0, MIG_PRI.PCI_BUS, 5);
    const late = toySection("late", 0, MIG_PRI.LOW, 5);
    const machine = new FakeMachine({ extraSections: [late, bridge] });
    expect(order(await saved(machine))).toEqual([
      "bridge",
      "iommu",
      "timer",
      "cpu",
      "virtio-mmio@0000000010008000/virtio-blk",
      "globalstate",
      "late",
      "wherry/integrity",
    ]);
  });

  test("that cannot be written leaves the machine running and discards what was written", async () => {
    for (const failAt of ["open", "write", "commit"]) {
      const machine = new FakeMachine();
      await machine.start();
      const sink = memorySink();
      const failing = {
        ...sink,
        channel: {
          ...sink.channel,
          write: async () => {
            if (failAt === "write") throw new Error("ENOSPC");
          },
        },
        commit: async () => {
          throw new Error("ENOSPC");
        },
        discard: () => sink.discard(),
      };
      const open = async () => {
        if (failAt === "open") throw new Error("ENOSPC");
        return failing;
      };
      await expect(saveSnapshot(machine, open)).rejects.toThrow(/ENOSPC/);
      expect(machine.runState.current).toBe("running");
      expect(machine.world.running).toBe(machine);
      expect(sink.discarded).toBe(failAt !== "open");
      await machine.stop();
    }
  });

  test("of an older Wherry lacks optional sections, and loads", async () => {
    const file = await saved(new FakeMachine());
    const disk = { ...toySection("wherry/disk", 0, MIG_PRI.DEFAULT, 4), isOptional: true };
    const target = new FakeMachine({ extraSections: [disk] });
    expect((await loadSnapshot(target, memorySource(file))).runState).toBe("prelaunch");
  });

  test("has the disks' fingerprints from after the stop", async () => {
    const source = new FakeMachine();
    await source.start();
    const states: string[] = [];
    source.drives.push({
      activate: async () => {},
      inactivate: async () => {},
      fingerprint: async (isLiveMove) => {
        states.push(`${source.runState.current}${isLiveMove ? ", live" : ""}`);
      },
    });
    await saved(source);
    expect(states).toEqual(["running", "save-vm"]);
    await source.stop();
  });

  test("a section that cannot be encoded is named", async () => {
    const bad = {
      ...toySection("uart", 3, MIG_PRI.DEFAULT, 4),
      encode: () => {
        throw new Error("fifo too long");
      },
    };
    const machine = new FakeMachine({ extraSections: [bad] });
    await expect(saveSnapshot(machine, async () => memorySink())).rejects.toThrow(
      /section uart\/3.*fifo too long/,
    );
  });
});

describe("a load is refused, and the machine can never run", () => {
  async function refused(target: FakeMachine, file: Uint8Array): Promise<string> {
    const error = await loadSnapshot(target, memorySource(file)).then(
      () => undefined,
      (e: Error) => e,
    );
    expect(error).toBeInstanceOf(Error);
    expect(target.runState.current).toBe("internal-error");
    await expect(target.start()).rejects.toThrow(/load failed/);
    expect(target.world.running).toBeUndefined();
    return (error as Error).message;
  }

  test("by a disk that is not the saved one: the machine has no disk then", async () => {
    const file = await saved(new FakeMachine());
    const target = new FakeMachine();
    target.drives.push({
      activate: () => Promise.reject(new Error("not the disk as it was")),
      inactivate: async () => {},
    });
    expect(await refused(target, file)).toMatch(/not the disk as it was/);
    expect(target.world.driveOwner).toBeUndefined();
  });

  test("by another memory size, machine type, device list, version", async () => {
    const file = await saved(new FakeMachine());
    expect(await refused(new FakeMachine({ ramPages: 65 }), file)).toMatch(
      /riscv_virt_board.ram.*same memory size/,
    );
    expect(await refused(new FakeMachine({ name: "spike" }), file)).toMatch(/"spike".*"virt"/);
    const more = new FakeMachine({ extraSections: [toySection("rtc", 0, MIG_PRI.DEFAULT, 4)] });
    expect(await refused(more, file)).toMatch(/no rtc\/0/);
    const extra = await saved(new FakeMachine({ extraSections: [toySection("rtc", 0, MIG_PRI.DEFAULT, 4)] }));
    expect(await refused(new FakeMachine(), extra)).toMatch(/section rtc\/0.*no such device/);
    const newer = { ...toySection("rtc", 0, MIG_PRI.DEFAULT, 4), version: 3, minimumVersion: 2 };
    const target = new FakeMachine({ extraSections: [newer] });
    expect(await refused(target, extra)).toMatch(/section rtc\/0.*version 1.*2 to 3/);
  });

  test("by state that a device refuses when it is applied", async () => {
    const file = await saved(new FakeMachine({ extraSections: [toySection("net", 0, MIG_PRI.DEFAULT, 4)] }));
    const picky = {
      ...toySection("net", 0, MIG_PRI.DEFAULT, 4),
      decode: (reader: ByteReader) => {
        reader.bytes(8);
        return () => {
          throw new Error("queue 0: last_avail_idx 9 beyond avail 3");
        };
      },
    };
    expect(await refused(new FakeMachine({ extraSections: [picky] }), file)).toMatch(
      /net\/0.*last_avail_idx/,
    );
  });

  test("by trailing bytes", async () => {
    const file = await saved(new FakeMachine());
    expect(await refused(new FakeMachine(), Buffer.concat([file, Uint8Array.of(0)]))).toMatch(
      /after the end/,
    );
  });
});
