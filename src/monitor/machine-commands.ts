// QMP commands for the machine itself: run state, vCPUs, reset, power, and the queries that clients send
// first. Shapes as in qapi/{run-state,machine,misc,control}.json of QEMU 10.0.
import type { MonitoredDisk } from "./block-commands.ts";
import type { PerfControl } from "../accelerator/perf-report.ts";
import type { Machine } from "../vmm/machine.ts";
import type { Agent } from "../agent/agent-client.ts";
import { isObject, type JsonObject, type JsonValue } from "./qmp-json.ts";
import type { MigrationControl } from "./migration-control.ts";
import { any, bool, int, list, oneOf, optional, QmpError, str, struct } from "./qapi.ts";
import { action, command, type QmpCommand } from "./qmp-command.ts";

/** The part of the machine that the monitor uses. */
export type MonitoredMachine = Pick<
  Machine,
  "runState" | "startBlocker" | "start" | "stop" | "reset" | "emit" | "onEvent" | "isSuspended" | "wakeUp"
>;

/** Throws if the machine is incoming or was handed over: nothing may run it or move it on. */
export function refuseIfBlocked(machine: MonitoredMachine): void {
  if (machine.startBlocker !== undefined) throw new QmpError(machine.startBlocker);
}

/** The user network, as far as the monitor has it. */
export interface MonitoredNetwork {
  /**
   * Forwards a port of the host, in QEMU's notation; `isTransient`: it is not saved. Rejects with an Error
   * that says why it cannot.
   */
  forward(rule: string, isTransient?: boolean): Promise<unknown>;
  /** On a switch: the address of this machine's guest, null if it is not known. */
  readonly ownGuest?: string | null | undefined;
  /** Returns false if the port is not forwarded. Throws an Error if the text names none. */
  unforward(hostPort: string): boolean;
  readonly forwards: readonly string[];
  readonly connections: readonly {
    readonly protocol: string;
    readonly state: string;
    readonly guest: string;
    readonly remote: string;
  }[];
}

/** What a monitor controls: the machine, its migration, its process. */
export interface QmpTarget {
  readonly machine: MonitoredMachine;
  readonly migration: MigrationControl;
  readonly memoryBytes: number;
  /** Default: none. */
  readonly disks?: readonly MonitoredDisk[];
  /** One entry for each hart: the host's id of its thread. */
  readonly vcpuThreads: readonly number[];
  /** The registers of a hart by name, as 0x-prefixed hexadecimal. Rejects if the hart does not exist. */
  registers(hart: number): Promise<Record<string, string>>;
  /**
   * Reads guest memory, at a virtual address if `hart` is given: by that hart's present address space.
   * Undefined if a byte is not in RAM or not mapped.
   */
  readMemory(address: bigint, length: number, hart?: number): Promise<Uint8Array | undefined>;
  /** Absent: the machine has no user network of its own. */
  readonly network?: MonitoredNetwork | undefined;
  readonly perf: PerfControl;
  /** The guest's agent, if the machine has a port for it. */
  readonly agent?: Agent | undefined;
  /** A listing of the translation of the code at a hart's virtual address. Rejects with WherryError. */
  trace(hart: number, address: bigint): Promise<string>;
  /** Ends the machine and its process. Called once, after the reply to `quit` was sent. */
  quit(): void;
}

/** The release whose QAPI we follow, which clients read to choose shapes. It is Debian 13's release. */
export const QEMU_VERSION = { micro: 0, minor: 0, major: 10 };

export function versionInfo(wherryVersion: string): JsonObject {
  return { qemu: QEMU_VERSION, package: `wherry ${wherryVersion}` };
}

/** QAPI's RunState. */
const RUN_STATES = [
  ...["debug", "inmigrate", "internal-error", "io-error", "paused", "postmigrate", "prelaunch"],
  ...["finish-migrate", "restore-vm", "running", "save-vm", "shutdown", "suspended", "watchdog"],
  ...["guest-panicked", "colo"],
];

const statusInfo = struct({ running: bool, status: oneOf(RUN_STATES) });
const version = struct({
  qemu: struct({ major: int, minor: int, micro: int }),
  package: str,
});
const cpuInfo = struct({
  "cpu-index": int,
  "qom-path": str,
  "thread-id": int,
  props: struct({ "core-id": int }),
  target: oneOf(["riscv64"]),
});

/** Runs, although its harts wait for what wakes a suspended guest. */
function statusOf(machine: MonitoredMachine): JsonObject {
  if (machine.runState.running && machine.isSuspended) return { running: false, status: "suspended" };
  return { running: machine.runState.running, status: machine.runState.current };
}

export function machineCommands(target: QmpTarget, wherryVersion: string): QmpCommand[] {
  const { machine, migration } = target;
  const refuseNoHart = (cpu: number): void => {
    const harts = target.vcpuThreads.length;
    if (cpu >= 0 && cpu < harts) return;
    throw new QmpError(`CPU ${cpu} not found: the machine has ${harts}`, "DeviceNotFound");
  };
  return [
    command("query-status", {}, statusInfo, () => statusOf(machine)),
    command("query-version", {}, version, () => versionInfo(wherryVersion)),
    // Machines have no name yet; the command exists because clients send it.
    command("query-name", {}, struct({ name: optional(str) }), () => ({})),
    command("query-kvm", {}, struct({ enabled: bool, present: bool }), () => ({
      enabled: false,
      present: false,
    })),
    command("query-target", {}, struct({ arch: oneOf(["riscv64"]) }), () => ({ arch: "riscv64" })),
    command("query-uuid", {}, struct({ UUID: str }), () => ({
      UUID: "00000000-0000-0000-0000-000000000000",
    })),
    command(
      "query-memory-size-summary",
      {},
      struct({ "base-memory": int, "plugged-memory": optional(int) }),
      () => ({ "base-memory": target.memoryBytes }),
    ),
    command("query-cpus-fast", {}, list(cpuInfo), () =>
      target.vcpuThreads.map((thread, hart) => ({
        "cpu-index": hart,
        "qom-path": `/machine/soc0/harts[${hart}]`,
        "thread-id": thread,
        props: { "core-id": hart },
        target: "riscv64",
      })),
    ),
    action("stop", {}, async () => {
      // An incoming machine does not run yet: record that it must stay stopped.
      if (machine.runState.current === "inmigrate") migration.decideStart(false);
      // The machine will resume soon, here or at the destination: a stop now would be lost.
      else if (["finish-migrate", "save-vm"].includes(machine.runState.current))
        throw new QmpError("Migration is not finalized yet");
      else if (machine.runState.running) await machine.stop();
    }),
    action("cont", {}, async () => {
      const state = machine.runState.current;
      if (state === "inmigrate") {
        migration.decideStart(true);
        return;
      }
      if (state === "internal-error" || state === "shutdown") {
        throw new QmpError("Resetting the Virtual Machine is required");
      }
      if (state === "finish-migrate" || state === "save-vm")
        throw new QmpError("Migration is not finalized yet");
      refuseIfBlocked(machine);
      await machine.start();
    }),
    action("system_reset", {}, async () => {
      if (machine.runState.current === "inmigrate") {
        throw new QmpError("The machine has not arrived yet: it cannot be reset");
      }
      refuseIfBlocked(machine);
      await machine.reset();
    }),
    action("system_powerdown", {}, () => {
      // As in QEMU: the event is sent, but this board has no button to notify the guest.
      machine.emit({ event: "POWERDOWN" });
    }),
    action("system_wakeup", {}, () => {
      if (!machine.runState.running || !machine.isSuspended)
        throw new QmpError("Unable to wake up: guest is not in suspended state");
      machine.wakeUp();
    }),
    command("query-current-machine", {}, struct({ "wakeup-suspend-support": bool }), () => ({
      "wakeup-suspend-support": true,
    })),
    action("getfd", { fdname: str }, () => {
      throw new QmpError(
        "No file descriptor supplied via SCM_RIGHTS: Wherry runs on Node.js, which cannot receive one; use a path, " +
          "for a file or pipe that the process has inherited file:/dev/fd/N",
      );
    }),
    action("closefd", { fdname: str }, ({ fdname }) => {
      throw new QmpError(`File descriptor named '${fdname}' not found`);
    }),
    command(
      "x-wherry-trace-region",
      { cpu: optional(int), address: str },
      struct({ text: str }),
      async ({ cpu = 0, address }) => {
        if (!/^(0x[0-9a-f]{1,16}|[0-9]{1,19})$/i.test(address))
          throw new QmpError(`Parameter 'address' expects a number such as 0xffffffff80002000`);
        refuseNoHart(cpu);
        return { text: await target.trace(cpu, BigInt(address)) };
      },
    ),
    command(
      "x-wherry-agent",
      { command: str, arguments: optional(any), timeout: optional(int), wait: optional(int) },
      any,
      async ({ command: name, arguments: args = {}, timeout, wait }) => {
        if (target.agent === undefined)
          throw new QmpError(
            "The machine has no port for a guest agent: start it with --agent",
            "DeviceNotFound",
          );
        if (!isObject(args)) throw new QmpError("Parameter 'arguments' must be an object");
        const result = await target.agent.execute(name, args, { timeoutMs: timeout, waitMs: wait });
        return result as JsonValue;
      },
    ),
    command("x-wherry-registers", { cpu: int }, any, async ({ cpu }) => {
      refuseNoHart(cpu);
      return target.registers(cpu);
    }),
  ];
}
