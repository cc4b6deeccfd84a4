// A reset after any way to another machine boots what the machine was started with: its kernel, ramdisk,
// command line and firmware travel with it.
import { afterEach, expect, test } from "vitest";
import { CharPipe } from "../../src/devices/char-backend.ts";
import { type CreatedMachine, createMachine, type MachineConfig } from "../../src/embed/create-machine.ts";
import { type GuestEnd, watchEnd } from "../../src/embed/machine-end.ts";
import { MemorySink, pieceChannel } from "../../src/embed/memory-snapshot.ts";
import { BootBlock } from "../../src/machines/boot/boot-block.ts";
import { endArrival } from "../../src/migration/load/arrival.ts";
import { MigrationDestination } from "../../src/migration/load/move-destination.ts";
import { migrateOut } from "../../src/migration/save/move-source.ts";
import { loadSnapshot, saveSnapshot } from "../../src/migration/snapshot/snapshot.ts";
import { nodePlatform } from "../../src/node/node-platform.ts";
import type { QemuProfile } from "../../src/vmm/qemu-profile.ts";
import { FakeNetwork } from "../support/fake-network.ts";
import { readFdt } from "../support/read-fdt.ts";
import { jumpFirmware, rebootKernel } from "../support/reboot-guest.ts";
import { until } from "../support/wait.ts";

const HARDWARE = { harts: 2, memoryBytes: 16 << 20 };
const KERNEL = new Uint8Array(4 << 20).map((_, i) => i >>> 6);
KERNEL.set(rebootKernel("A"));
const BOOT = { kernel: KERNEL, initrd: new Uint8Array(5000).fill(0x69), append: "one two" };
const BOOTED = "Ai0\n";

class Rebooter {
  readonly config: Partial<MachineConfig>;
  text = "";
  readonly #serial = new CharPipe((bytes) => (this.text += Buffer.from(bytes).toString("latin1")));
  #created: CreatedMachine | undefined;
  end: GuestEnd | undefined;

  constructor(config: Partial<MachineConfig>) {
    this.config = config;
  }
  async create(): Promise<this> {
    const devices = { serial: this.#serial, virtio: [], drives: [] };
    this.#created = await createMachine({ ...HARDWARE, ...this.config }, devices, nodePlatform);
    watchEnd(this.machine, (end) => (this.end = end));
    open.push(this);
    return this;
  }
  get machine(): CreatedMachine["machine"] {
    if (this.#created === undefined) throw new Error("not created");
    return this.#created.machine;
  }
  get bootargs(): string | undefined {
    const { fdtAddress } = this.machine.boot;
    const blob = new Uint8Array(32768);
    this.machine.memory.read(fdtAddress, blob);
    return readFdt(blob).find("/chosen")?.string("bootargs");
  }
  type(key: string): void {
    this.#serial.push(Buffer.from(key));
  }
  async sees(text: string): Promise<void> {
    await until(20_000, `console ${JSON.stringify(text)}`, () => {
      if (this.end !== undefined) throw new Error(`ended: ${JSON.stringify(this.end)}, ${this.text}`);
      return this.text.endsWith(text);
    });
  }
  /** The guest uses its memory, then resets itself, and boots `booted`. */
  async reboots(booted = BOOTED): Promise<void> {
    this.type("t");
    await this.sees(".");
    this.type("r");
    await this.sees(`.${booted}`);
  }
}
const open: Rebooter[] = [];
afterEach(async () => {
  for (const one of open.splice(0)) await one.machine.vm.destroy();
});

const start = async (config: Partial<MachineConfig> = BOOT): Promise<Rebooter> => {
  const guest = await new Rebooter(config).create();
  await guest.machine.start();
  await guest.sees(BOOTED);
  return guest;
};
const save = async ({ machine }: Rebooter, profile?: QemuProfile): Promise<Uint8Array[]> => {
  const sink = new MemorySink();
  await saveSnapshot(machine, async () => sink, undefined, undefined, profile);
  return [...sink.chunks];
};
const restore = async (state: Uint8Array[], config: Partial<MachineConfig> = {}): Promise<Rebooter> => {
  const guest = await new Rebooter({ ...config, incoming: true }).create();
  const { runState } = await loadSnapshot(guest.machine, pieceChannel(state));
  await endArrival(guest.machine, runState, "as-saved");
  return guest;
};
const move = async (from: Rebooter, config: Partial<MachineConfig> = {}): Promise<Rebooter> => {
  const to = await new Rebooter({ ...config, incoming: true }).create();
  const network = new FakeNetwork();
  const destination = new MigrationDestination(to.machine);
  network.listener = (channel) => void destination.accept(channel);
  expect(await migrateOut(from.machine, network.connect).done).toEqual({ status: "completed" });
  expect(await destination.done).toEqual({ status: "arrived" });
  return to;
};

test.each([
  ["built-in firmware", {}],
  ["a firmware file", { firmware: jumpFirmware() }],
])("a guest reboots after a restore, a move, and one after the other: %s", async (_, firmware) => {
  const first = await start({ ...BOOT, ...firmware });
  await first.reboots();
  first.type("t");
  await first.sees(".");

  const state = await save(first);
  // What the guest's memory still has of the images is not in the file a second time.
  expect(state.reduce((sum, { length }) => sum + length, 0)).toBeLessThan(KERNEL.length * 1.5);
  // Neither this side nor the next is given an image.
  const restored = await restore(state);
  await restored.reboots();
  expect(restored.bootargs).toBe("one two");

  const last = await move(restored);
  await last.machine.reset();
  await last.sees(BOOTED);
  expect(last.bootargs).toBe("one two");
});

test("a reset of a stopped machine leaves it stopped, and it boots when it is started", async () => {
  const first = await start();
  await first.machine.stop();
  const restored = await restore(await save(first));
  expect(restored.machine.runState.current).toBe("paused");
  await restored.machine.reset();
  expect(restored.machine.runState.current).toBe("prelaunch");
  const again = await restore(await save(restored));
  expect(again.machine.runState.current).toBe("prelaunch");
  await again.machine.start();
  await again.sees(BOOTED);
});

test("a kernel that is given takes the place of the one that came, with its ramdisk and command line", async () => {
  const state = await save(await start());
  const given = await restore(state, { kernel: rebootKernel("B"), append: "three" });
  await given.reboots("B\u{0}0\n");
  expect(given.bootargs).toBe("three");
  // And it is the one that travels on.
  const last = await restore(await save(given));
  await last.reboots("B\u{0}0\n");
});

/** The machine as a Wherry saved it that did not send boot images. */
const withoutImages = async (guest: Rebooter): Promise<Uint8Array[]> => {
  const { carried } = guest.machine;
  const none = { firmware: undefined, kernel: undefined, initrd: undefined, append: "" };
  guest.machine.carried = new BootBlock(none, 0);
  const state = await save(guest);
  guest.machine.carried = carried;
  return state;
};

test("without images, a reset is refused to the user, and ends a guest that asks for it with an error", async () => {
  const state = await withoutImages(await start());
  const restored = await restore(state);
  await expect(restored.machine.reset()).rejects.toMatchObject({
    code: "machine.reset",
    message: expect.stringContaining("give the kernel (--kernel, --initrd, --append)"),
  });
  restored.type("t");
  await restored.sees(".");
  restored.type("r");
  await until(20_000, "the end", () => restored.end !== undefined);
  expect(restored.end).toEqual({
    kind: "guest-failed",
    message: expect.stringMatching(/^the guest asked for a reset, and this machine came without the kernel/),
  });
  expect(restored.machine.runState.current).toBe("internal-error");

  const given = await restore(state, BOOT);
  await given.reboots();
});

test("from a stream of QEMU, a reset needs the kernel, which QEMU's reset vector tells of", async () => {
  const firmware = jumpFirmware();
  const first = await start({ ...BOOT, firmware });
  const profile = first.machine.qemu?.profile("qemu-11.1");
  const state = await save(first, profile);
  const without = await restore(state, { firmware });
  await expect(without.machine.reset()).rejects.toThrow("came without the kernel");
  const given = await restore(state, { ...BOOT, firmware });
  await given.reboots();
});
