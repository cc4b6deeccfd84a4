// Machines of both kinds with OpenSBI as the whole guest, for tests of moves with QEMU. They end with the
// test that started them.
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach } from "vitest";
import type { JsonObject } from "../../src/monitor/qmp-json.ts";
import { MachineProcess } from "../../src/cli/machine/machine-process.ts";
import { QemuProcess } from "../support/qemu-process.ts";
import { until } from "../support/wait.ts";

export const QEMU = "qemu-system-riscv64";
export const FIRMWARE = "/usr/share/qemu/opensbi-riscv64-generic-fw_dynamic.bin";
export const LIMIT_MS = 60_000;

export function isInstalled(): boolean {
  try {
    return execFileSync(QEMU, ["--version"], { encoding: "utf8" }).includes("7.2.") && existsSync(FIRMWARE);
  } catch {
    return false;
  }
}

const directory = mkdtempSync(join(tmpdir(), "wherry-qemu-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const open: { end(): Promise<void> }[] = [];
afterEach(async () => {
  for (const one of open.splice(0)) await one.end();
});

let serial = 0;
export const fresh = (name: string) => join(directory, `${serial++}-${name}`);

export async function qemu(
  args: readonly string[] = [],
  harts = 1,
  program: readonly string[] = [QEMU],
): Promise<QemuProcess> {
  const board = ["-machine", "virt", "-smp", `${harts}`, "-m", "32M", "-bios", FIRMWARE, "-serial", "null"];
  const process = new QemuProcess([...program, ...board, ...args]);
  open.push(process);
  await process.execute("qmp_capabilities");
  return process;
}

export async function wherry(args: readonly string[] = [], harts = 1): Promise<MachineProcess> {
  const board = ["--smp", `${harts}`, "--memory", "32M", "--firmware", FIRMWARE, "--virtio", "legacy"];
  const machine = await MachineProcess.start(`${serial++}-w`, directory, [...board, ...args]);
  open.push({ end: () => machine.quit() });
  return machine;
}

/** Runs a command of the command line that speaks to `machine`. */
export function cli(machine: MachineProcess, command: string, ...args: string[]): void {
  const main = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url));
  const socket = `unix:${join(directory, `${machine.name}.qmp`)}`;
  execFileSync(process.execPath, [main, command, ...args, "--qmp", socket], { stdio: "pipe" });
}

interface Monitor {
  execute(command: string, args?: JsonObject): Promise<unknown>;
}

export async function statusOf(machine: Monitor, command = "query-status"): Promise<string | undefined> {
  return ((await machine.execute(command)) as { status?: string }).status;
}

export const reaches = (machine: Monitor, status: string, command = "query-status") =>
  until(LIMIT_MS, `${command} ${status}`, async () => (await statusOf(machine, command)) === status);

/** QEMU 7.2's extensions, so that a guest started here can move there. */
export const ISA = ["--isa", "qemu-7.2"];
