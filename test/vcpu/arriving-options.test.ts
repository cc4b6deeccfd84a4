// Options of the side to which a saved machine comes, on the real board: what the machine brings is taken
// over, and what was given here and differs is refused, never ignored.
import { afterEach, expect, test } from "vitest";
import { CharPipe } from "../../src/devices/char-backend.ts";
import { type CreatedMachine, createMachine, type MachineConfig } from "../../src/embed/create-machine.ts";
import { MemorySink, pieceChannel } from "../../src/embed/memory-snapshot.ts";
import { virtioDevices } from "../../src/embed/virtio-parts.ts";
import { loadSnapshot, saveSnapshot } from "../../src/migration/snapshot/snapshot.ts";
import { nodePlatform } from "../../src/node/node-platform.ts";
import { readFdt } from "../support/read-fdt.ts";
import { jumpFirmware, rebootKernel } from "../support/reboot-guest.ts";

const HARDWARE = { harts: 1, memoryBytes: 16 << 20 };
const KERNEL = { kernel: rebootKernel("A"), isaExtensions: ["i", "m", "a", "c", "zicsr"] };
const DEFAULT = "525400123456";
const OTHER = "525400123457";

const open: CreatedMachine[] = [];
afterEach(async () => {
  for (const { machine } of open.splice(0)) await machine.vm.destroy();
});

async function make(config: Partial<MachineConfig>, mac?: string): Promise<CreatedMachine["machine"]> {
  const backend = { send() {}, onFrame() {} };
  const net = { backend, mac: mac === undefined ? undefined : new Uint8Array(Buffer.from(mac, "hex")) };
  const serial = new CharPipe(() => {});
  const created = await createMachine(
    { ...HARDWARE, ...config },
    { ...virtioDevices({ net }), serial },
    nodePlatform,
  );
  open.push(created);
  return created.machine;
}
async function save(machine: CreatedMachine["machine"], profile?: string): Promise<Uint8Array[]> {
  const sink = new MemorySink();
  const format = profile === undefined ? undefined : machine.qemu?.profile(profile);
  await saveSnapshot(machine, async () => sink, undefined, undefined, format);
  return [...sink.chunks];
}
async function restore(
  state: Uint8Array[],
  config: Partial<MachineConfig> = {},
  mac?: string,
): Promise<CreatedMachine["machine"]> {
  const machine = await make({ ...config, incoming: true }, mac);
  const { runState } = await loadSnapshot(machine, pieceChannel(state));
  machine.runState.set(runState);
  return machine;
}
const addressOf = ({ net }: CreatedMachine["machine"]): string =>
  Buffer.from(net?.address ?? []).toString("hex");
const isaOf = ({ boot, memory }: CreatedMachine["machine"]): string | undefined => {
  const blob = new Uint8Array(32768);
  memory.read(boot.fdtAddress, blob);
  return readFdt(blob).find("/cpus/cpu@0")?.string("riscv,isa");
};

test("what is not given comes with the machine, and stays through resets and further saves", async () => {
  const first = await make(KERNEL, OTHER);
  const again = await restore(await save(await restore(await save(first))));
  await again.reset();
  expect(addressOf(again)).toBe(OTHER);
  expect(Buffer.from(again.net!.state.mac).toString("hex")).toBe(OTHER);
  expect(isaOf(again)).toBe("rv64imac_zicsr");
  expect(addressOf(await make(KERNEL))).toBe(DEFAULT);
});

test("a real-time clock that follows guest time does so after a restore, and shows no other date", async () => {
  const first = await make({ ...KERNEL, rtc: { clock: "vm", baseNs: 1_000_000_000_000_000_000n } });
  const date = ({ addressSpace }: CreatedMachine["machine"]): bigint => {
    const low = addressSpace.read(0x101000, 4) ?? 0n;
    return ((addressSpace.read(0x101004, 4) ?? 0n) << 32n) | low;
  };
  expect(date(first)).toBe(1_000_000_000_000_000_000n);
  expect(date(await restore(await save(first)))).toBe(1_000_000_000_000_000_000n);
});

test("what is given and differs is refused", async () => {
  const state = await save(await make(KERNEL, OTHER));
  await restore(state, { isaExtensions: KERNEL.isaExtensions }, OTHER);
  await expect(restore(state, {}, DEFAULT)).rejects.toThrow("52:54:00:12:34:57, this one was started with");
  await expect(restore(state, { isaExtensions: ["i", "m"] })).rejects.toThrow("leave --isa out");
  await expect(restore(state, { rtc: { clock: "vm" } })).rejects.toThrow(
    "has clock=host, this one was started with clock=vm",
  );
  await expect(restore(state, { rtc: { baseNs: 1n } })).rejects.toThrow("leave its start (base) out");
  await expect(restore(state, { append: "x" })).rejects.toThrow("needs a kernel");
});

test("a guest's own address is not the card's: a driver's reset still restores the card's", async () => {
  const first = await make(KERNEL, OTHER);
  first.net!.state.mac.fill(2);
  const restored = await restore(await save(first), {}, OTHER);
  expect(Buffer.from(restored.net!.state.mac).toString("hex")).toBe("020202020202");
  await restored.reset();
  expect(Buffer.from(restored.net!.state.mac).toString("hex")).toBe(OTHER);
});

test("a stream without the card's address: the guest's is compared, or taken over", async () => {
  const firmware = jumpFirmware();
  const state = await save(await make({ ...KERNEL, firmware }, OTHER), "qemu-11.1");
  expect(addressOf(await restore(state, { firmware }))).toBe(OTHER);
  await restore(state, { firmware }, OTHER);
  await expect(restore(state, { firmware }, DEFAULT)).rejects.toThrow(
    "its address is 52:54:00:12:34:57, this device was given 52:54:00:12:34:56: leave mac= out",
  );
});
