// Creates the machine that the options describe and connects it to this host: files, disks, console, QMP,
// moves.
import { createReadStream } from "node:fs";
import { messageOf } from "../../base/errors.ts";
import { AGENT_PORT, AgentClient } from "../../agent/agent-client.ts";
import type { PerfControl } from "../../accelerator/perf-report.ts";
import type { CharBackend } from "../../devices/char-backend.ts";
import type { SerialPort } from "../../devices/virtio/virtio-console.ts";
import {
  type CreatedMachine,
  createMachine,
  type MachineConfig,
  randomSource,
} from "../../embed/create-machine.ts";
import { stopForGood, watchEnd } from "../../embed/machine-end.ts";
import { BootError } from "../../machines/boot/boot-image.ts";
import type { VirtMachine } from "../../machines/virt.ts";
import { MigrationService } from "../../monitor/migration-service.ts";
import { monitorTarget } from "../../node/control/monitor-target.ts";
import { QmpMonitor } from "../../monitor/qmp-monitor.ts";
import { systemReason } from "../../node/channels/system-reason.ts";
import { nodePlatform } from "../../node/node-platform.ts";
import { clock } from "../../node/node-runtime.ts";
import { nodeEnvironment } from "../../node/channels/node-environment.ts";
import { serveQmp } from "../../node/channels/qmp-server.ts";
import { type VirtioDevices, virtioDevices } from "../../embed/virtio-parts.ts";
import { registerMachine } from "../../node/names/machine-registry.ts";
import { SocketPort } from "../../node/channels/socket-port.ts";
import { openVirtio } from "../../node/virtio-backends.ts";
import { CliError } from "../output/cli-error.ts";
import type { BootGate } from "./boot-gate.ts";
import { type MachineEnd, MachineQuit } from "./machine-quit.ts";
import { openConsole } from "./serial-console.ts";
import type { MachineOptions } from "../options/machine-options.ts";
import type { SerialSpec } from "../options/option-values.ts";
import { migrationTransport } from "../../node/channels/migration-transport.ts";
import { packageVersion } from "../../node/channels/package-version.ts";

export interface RunningMachine {
  readonly machine: VirtMachine;
  /** A listing of the translation of the code at a hart's virtual address. Rejects with WherryError. */
  trace(hart: number, address: bigint): Promise<string>;
  readonly perf: PerfControl;
  /** Resolves when the machine has ended by itself, by its user or by QMP. */
  readonly ended: Promise<MachineEnd>;
  /** A signal requests the end. */
  quit(signal: NodeJS.Signals): void;
  /** Resolves when the user requests the end again. */
  readonly quitAgain: Promise<void>;
  /** The end was requested, and does not come. Resolves at the next one. */
  goOn(): Promise<MachineEnd>;
  /** A saved machine that is being loaded does not start, unless it has. */
  giveUpArrival(): Promise<void>;
  /** Writes it to a file; it goes on. Rejects with WherryError, and then nothing is at `path`. */
  save(path: string): Promise<void>;
  /** Moves it into a file: it runs here no more. Rejects with WherryError; then it goes on. */
  store(path: string): Promise<void>;
  /** Ends the harts, releases the disks and sockets. Call it on every exit. */
  close(): Promise<void>;
}

/** What a machine that outlives its runs adds to its start. */
export interface StartHooks {
  /** What is between the console and the guest's serial port. */
  readonly gate: (console: CharBackend) => BootGate;
  /** The machine has its name: no other process has it. Throws UsageError if it cannot start. */
  readonly onName: () => void;
}

/**
 * Creates it and starts it, unless it is paused or incoming. Rejects with WherryError; then nothing is left
 * open.
 */
export async function startMachine(options: MachineOptions, hooks?: StartHooks): Promise<RunningMachine> {
  /** What to close, in reverse order. */
  const open: (() => Promise<void>)[] = [];
  const close = async () => {
    for (;;) {
      const one = open.pop();
      if (one === undefined) return;
      await one().catch((error) => process.stderr.write(`wherry: at the end: ${messageOf(error)}\n`));
    }
  };
  try {
    return await start(options, hooks, open, close);
  } catch (error) {
    await close();
    throw error;
  }
}

async function start(
  options: MachineOptions,
  hooks: StartHooks | undefined,
  open: (() => Promise<void>)[],
  close: () => Promise<void>,
): Promise<RunningMachine> {
  const quitting = new MachineQuit();
  const end = (given: MachineEnd) => quitting.end(given);
  const openOne = (option: "--serial" | "--console", spec: SerialSpec) =>
    openConsole({ option, spec, onQuit: () => ask("host-ui"), isPatient: options.icount !== undefined });
  const console = await openOne("--serial", options.serial);
  open.push(() => console.close());

  const second = options.console && (await openOne("--console", options.console));
  if (second !== undefined) open.push(() => second.close());

  const serialPorts: SerialPort[] = [];
  const agent = options.agent === true ? new AgentClient(nodePlatform.setTimer) : undefined;
  if (agent !== undefined) {
    serialPorts.push({ name: AGENT_PORT, backend: agent.backend });
    open.push(async () => agent.close());
  }
  for (const { name, address } of options.serialPorts ?? []) {
    const backend = await SocketPort.listen(address);
    open.push(() => backend.close());
    serialPorts.push({ name, backend });
  }
  const warn = (message: string) => void process.stderr.write(`wherry: ${message}\n`);
  const virtio = await openVirtio(
    { ...options, console: second?.backend, serialPorts, randomBytes: randomSource(options, nodePlatform) },
    warn,
    options.incoming !== undefined,
  );
  open.push(() => virtio.close());
  const devices = virtioDevices(virtio.parts);
  const serial = hooks?.gate(console.backend);
  const created = await openMachine(options, serial ?? console.backend, devices);
  const { machine, perf } = created;
  machine.onEvent(({ event }) => {
    if (event === "RESET") serial?.close();
  });
  open.push(() => machine.vm.destroy());
  if (options.perf === true) perf.start();
  open.push(() => stopForGood(machine, nodePlatform.setTimer));
  const ask = (reason: "host-ui" | "host-signal", signal?: NodeJS.Signals) => {
    if (quitting.ask(reason, signal)) machine.emit({ event: "SHUTDOWN", guest: false, reason });
  };
  watchEnd(machine, end);

  const migration = new MigrationService(machine, {
    transport: migrationTransport,
    environment: nodeEnvironment,
    expectsArrival: options.incoming !== undefined,
    autostart: !options.paused,
    clock: options.clock,
    onWarning: warn,
    onArrival: (error) => {
      if (error !== undefined) end({ kind: "incoming-failed", message: error.message, error });
    },
    onDropped: ({ message }) =>
      process.stderr.write(
        `wherry: a connection to the address of --incoming was dropped, others are accepted: ${message}\n`,
      ),
  });
  open.push(() => migration.close());
  if (options.multifd !== undefined) {
    migration.setCapability("multifd", true);
    migration.setParameters({ multifdChannels: options.multifd });
  }
  if (options.stallTimeout !== undefined)
    migration.setParameters({ stallTimeoutMs: options.stallTimeout * 1000 });
  const target = monitorTarget({
    ...{ created, disks: devices.disks, migration, network: virtio.network, agent },
    ...{ memoryBytes: options.memoryBytes, platform: nodePlatform },
    quit: () => end({ kind: "quit", message: "host-qmp-quit" }),
  });
  let isUp = () => {};
  const addresses = options.qmp === undefined ? [] : [options.qmp];
  const registered = options.name === undefined ? undefined : registerMachine(options.name);
  if (registered !== undefined) {
    addresses.push({ kind: "unix", path: registered.qmp });
    open.push(async () => registered.remove());
    hooks?.onName();
  }
  if (addresses.length > 0) {
    // The path or port is in use before the guest runs. A client may rely on the address of `--incoming`
    // being open.
    const up = new Promise<void>((resolve) => {
      isUp = resolve;
    });
    const monitor = new QmpMonitor(target, { wherryVersion: packageVersion(), wallNs: clock.wallNs });
    for (const address of addresses) {
      const server = await serveQmp(address, monitor, up);
      open.push(() => server.close());
    }
    registered?.publish(options);
  }
  if (options.incoming === undefined) {
    // Even if it is paused: `cont` must not fail for a disk that somebody else has taken meanwhile.
    await machine.activateDrives();
    if (!options.paused) await machine.start();
  } else if (options.incoming === "defer") machine.runState.set("inmigrate");
  else await migration.incoming(options.incoming);
  isUp();
  return {
    ...{ machine, perf, trace: target.trace, close },
    get ended() {
      return quitting.ended;
    },
    get quitAgain() {
      return quitting.again;
    },
    quit: (signal) => ask("host-signal", signal),
    goOn: () => quitting.goOn(),
    giveUpArrival: () => {
      migration.decideStart(false);
      return migration.giveUpArrival();
    },
    save: (path) => migration.save(path),
    store: (path) => migration.store(path),
  };
}

async function openMachine(
  options: MachineOptions,
  serial: CharBackend,
  devices: VirtioDevices,
): Promise<CreatedMachine> {
  const image = (option: string, path: string | undefined) => readImage(option, path, options.memoryBytes);
  const config: MachineConfig = {
    harts: options.harts,
    memoryBytes: options.memoryBytes,
    kernel: await image("--kernel", options.kernel),
    initrd: await image("--initrd", options.initrd),
    firmware: options.firmware === "builtin" ? "builtin" : await image("--firmware", options.firmware),
    append: options.append,
    incoming: options.incoming !== undefined,
    engine: options.engine,
    codeCacheBytes: options.codeCacheBytes,
    translateAfter: options.translateAfter,
    icount: options.icount,
    rtc: options.rtc,
    legacyVirtio: options.legacyVirtio,
    isaExtensions: options.isaExtensions,
  };
  try {
    return await createMachine(config, { ...devices, serial }, nodePlatform);
  } catch (error) {
    if (!(error instanceof BootError)) throw error;
    const { kernel, initrd, firmware } = options;
    const files = Object.entries({ kernel, initrd, firmware }).filter(([, path]) => path !== undefined);
    const given = files.map(([option, path]) => `--${option} ${path}`).join(" ");
    throw new CliError(`${error.message} (given: ${given === "" ? "no kernel" : given})`, { cause: error });
  }
}

/** A file, or what a pipe gives until its end. More than `maxBytes` is not read. */
async function readImage(
  option: string,
  path: string | undefined,
  maxBytes: number,
): Promise<Uint8Array | undefined> {
  if (path === undefined) return undefined;
  const pieces: Buffer[] = [];
  try {
    // One byte too many tells that there is more.
    for await (const piece of createReadStream(path, { end: maxBytes, highWaterMark: 1 << 20 }))
      pieces.push(piece as Buffer);
  } catch (cause) {
    throw new CliError(`${option} ${path}: ${systemReason(cause)}`, { cause });
  }
  const bytes = Buffer.concat(pieces);
  if (bytes.length <= maxBytes) return bytes;
  const memory = `the machine's memory of ${maxBytes / 2 ** 20} MiB`;
  throw new CliError(
    `${option} ${path}: has more bytes than ${memory}: give it more memory, or another file`,
  );
}
