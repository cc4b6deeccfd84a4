// Makes the machine that the options describe and joins it to this host: files, disks, console, QMP, moves.
import { readFile } from "node:fs/promises";
import { messageOf } from "../base/errors.ts";
import type { CharBackend } from "../devices/char-backend.ts";
import { VirtioBlk } from "../devices/virtio/blk.ts";
import { VirtioNet } from "../devices/virtio/net.ts";
import { VirtioRng } from "../devices/virtio/rng.ts";
import { aclintState } from "../hypervisor/aclint.ts";
import { plicState } from "../hypervisor/plic.ts";
import { cpuSections, irqchipSection } from "../machines/accelerator-sections.ts";
import { createVirtMachine, type VirtBackends, type VirtMachine, virtRamBlocks } from "../machines/virt.ts";
import { MigrationService } from "../monitor/migration-service.ts";
import { QmpMonitor } from "../monitor/qmp.ts";
import { readRegisters } from "../monitor/registers.ts";
import { type FileBlock, openFileBlock } from "../node/file-block.ts";
import { clock, randomBytes } from "../node/platform.ts";
import { serveQmp } from "../node/qmp-server.ts";
import { SocketNet } from "../node/socket-net.ts";
import { createVm } from "../node/vm-host.ts";
import { Cpus } from "../vmm/cpus.ts";
import { CliError } from "./cli-error.ts";
import { openConsole } from "./console.ts";
import type { MachineOptions } from "./machine-options.ts";
import { migrationTransport } from "./migration-transport.ts";
import { VERSION } from "./version.ts";

/** How a machine came to its end. */
export interface MachineEnd {
  readonly kind: "quit" | "shutdown" | "guest-failed" | "incoming-failed";
  readonly message: string;
}

export interface RunningMachine {
  readonly machine: VirtMachine;
  /** Resolves once, when the machine has come to its end by itself, by its user or by QMP. */
  readonly ended: Promise<MachineEnd>;
  /** Asks for the end. `reason` is a QAPI ShutdownCause, such as `host-signal`. */
  quit(reason: string): void;
  /** Ends the harts, lets go of the disks and sockets. Call it on every way out. */
  close(): Promise<void>;
}

/** Makes it and starts it, unless it is to be paused or to arrive. Rejects with WherryError; nothing is left then. */
export async function startMachine(options: MachineOptions): Promise<RunningMachine> {
  /** What is to be closed, the last first. */
  const open: (() => Promise<void>)[] = [];
  const close = async () => {
    for (;;) {
      const one = open.pop();
      if (one === undefined) return;
      await one().catch((error) => process.stderr.write(`wherry: at the end: ${messageOf(error)}\n`));
    }
  };
  try {
    return await start(options, open, close);
  } catch (error) {
    await close();
    throw error;
  }
}

async function start(
  options: MachineOptions,
  open: (() => Promise<void>)[],
  close: () => Promise<void>,
): Promise<RunningMachine> {
  let end: (end: MachineEnd) => void = () => {};
  const ended = new Promise<MachineEnd>((resolve) => {
    end = resolve;
  });
  const console = await openConsole(options.serial, () => quit("host-ui"));
  open.push(() => console.close());

  const devices = await openVirtio(options, open);
  const { machine, cpus } = await createMachine(options, console.backend, devices);
  open.push(() => machine.vm.destroy());
  open.push(() => letGo(machine));
  const quit = (reason: string) => {
    machine.emit({ event: "SHUTDOWN", guest: false, reason });
    end({ kind: "quit", message: reason });
  };
  watchEnd(machine, end);

  const migration = new MigrationService(machine, {
    transport: migrationTransport,
    expectsArrival: options.incoming !== undefined,
    autostart: !options.paused,
    onArrival: (error) => {
      if (error !== undefined) end({ kind: "incoming-failed", message: error.message });
    },
  });
  open.push(() => migration.close());
  if (options.qmp !== undefined) {
    const host = {
      machine,
      migration,
      memoryBytes: options.memoryBytes,
      // Node does not tell the host's id of a worker's thread: all of them belong to this process.
      vcpuThreads: cpus.all.map(() => process.pid),
      registers: (hart: number) => readRegisters(cpus, hart),
      quit: () => end({ kind: "quit", message: "host-qmp-quit" }),
    };
    const server = await serveQmp(
      options.qmp,
      new QmpMonitor(host, { wherryVersion: VERSION, wallNs: clock.wallNs }),
    );
    open.push(() => server.close());
  }
  if (options.incoming === undefined) {
    if (!options.paused) await machine.start();
  } else if (options.incoming === "defer") machine.runState.set("inmigrate");
  else await migration.incoming(options.incoming);
  return { machine, ended, quit, close };
}

interface VirtioParts {
  readonly virtio: NonNullable<VirtBackends["virtio"]>;
  readonly drives: readonly FileBlock[];
}

/** QEMU's default address of the first card; a second guest on the same wire needs another (`mac=`). */
const DEFAULT_MAC = Uint8Array.of(0x52, 0x54, 0x00, 0x12, 0x34, 0x56);

/** Opens what the virtio devices are backed by. The order decides the slots, so both ends of a move must agree. */
async function openVirtio(options: MachineOptions, open: (() => Promise<void>)[]): Promise<VirtioParts> {
  const virtio: VirtioParts["virtio"][number][] = [];
  const drives: FileBlock[] = [];
  for (const { file, readonly } of options.drives) {
    const backend = await openFileBlock({ path: file, readonly });
    open.push(() => backend.close());
    drives.push(backend);
    virtio.push((host) => new VirtioBlk(host, { backend }));
  }
  if (options.net !== undefined) {
    const { mode, mac = DEFAULT_MAC, ...address } = options.net;
    const backend = mode === "listen" ? await SocketNet.listen(address) : SocketNet.connect(address);
    open.push(async () => backend.close());
    virtio.push((host) => new VirtioNet(host, { backend, mac }));
  }
  if (options.rng) {
    const random = (target: Uint8Array) => void target.set(randomBytes(target.length));
    virtio.push((host) => new VirtioRng(host, { random }));
  }
  return { virtio, drives };
}

async function createMachine(
  options: MachineOptions,
  serial: CharBackend,
  devices: VirtioParts,
): Promise<{ machine: VirtMachine; cpus: Cpus }> {
  const kernel = await readImage("--kernel", options.kernel);
  const initrd = await readImage("--initrd", options.initrd);
  const firmware = await readImage("--firmware", options.firmware);
  const vm = createVm({
    vcpuCount: options.harts,
    blocks: virtRamBlocks(options.memoryBytes),
    builtinFirmware: firmware === undefined,
  });
  try {
    const cpus = new Cpus(vm);
    const machine = createVirtMachine(
      {
        harts: options.harts,
        memorySize: options.memoryBytes,
        firmware: firmware ?? "builtin",
        ...(kernel === undefined ? {} : { kernel }),
        ...(initrd === undefined ? {} : { initrd }),
        append: options.append,
        incoming: options.incoming !== undefined,
      },
      {
        vm,
        cpus,
        sections: [
          ...cpuSections(cpus),
          irqchipSection(aclintState, vm.aclint),
          irqchipSection(plicState, vm.plic),
        ],
      },
      {
        clock,
        setTimer: (delayMs, fire) => {
          const timer = setTimeout(fire, delayMs);
          return { cancel: () => clearTimeout(timer) };
        },
        randomBytes,
        defer: (task) => void setImmediate(task),
        serial,
        ...devices,
      },
    );
    await machine.initialize();
    return { machine, cpus };
  } catch (error) {
    await vm.destroy();
    throw error;
  }
}

async function readImage(option: string, path: string | undefined): Promise<Uint8Array | undefined> {
  if (path === undefined) return undefined;
  try {
    return await readFile(path);
  } catch (cause) {
    throw new CliError(`${option} ${path}: ${messageOf(cause)}`, { cause });
  }
}

/** The guest's own end: it powers off, or it cannot go on. */
function watchEnd(machine: VirtMachine, end: (end: MachineEnd) => void): void {
  let last: MachineEnd | undefined;
  machine.onEvent((event) => {
    if (event.event === "GUEST_PANICKED") last = { kind: "guest-failed", message: event.message };
    else if (event.event === "SHUTDOWN") {
      last = {
        kind: event.reason.startsWith("guest-failure") ? "guest-failed" : "shutdown",
        message: event.reason,
      };
    }
  });
  // Only once it has stopped: its disks are quiet then. (A failed arrival is an internal-error without an event.)
  machine.runState.onChange((state) => {
    if ((state === "shutdown" || state === "internal-error") && last !== undefined) end(last);
  });
}

/** How long the harts may take to stop at the end: one that hangs must not keep the process. */
const STOP_TIMEOUT_MS = 5000;

async function letGo(machine: VirtMachine): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new CliError("a hart does not stop")), STOP_TIMEOUT_MS);
  });
  const stopped = machine.runState.running ? machine.stop("shutdown") : Promise.resolve();
  await Promise.race([stopped, late]).finally(() => clearTimeout(timer));
  await machine.inactivateDrives();
}
