// A machine as its monitor sees it: registers, memory and translations are read by code that is not loaded
// until somebody asks.
import type { Agent } from "../../agent/agent-client.ts";
import type { CreatedMachine } from "../../embed/create-machine.ts";
import type { Platform } from "../../embed/platform.ts";
import type { LiveDisk } from "../../embed/virtio-parts.ts";
import type { MonitoredNetwork, QmpTarget } from "../../monitor/machine-commands.ts";
import type { MigrationControl } from "../../monitor/migration-control.ts";
import { readRegisters, readTranslation } from "../../monitor/register-dump.ts";

export interface MonitoredParts {
  readonly created: CreatedMachine;
  readonly memoryBytes: number;
  readonly disks: readonly LiveDisk[];
  readonly migration: MigrationControl;
  readonly network: MonitoredNetwork | undefined;
  readonly agent: Agent | undefined;
  readonly platform: Platform;
  /** See QmpTarget. */
  quit(): void;
}

export function monitorTarget({ created, platform, ...parts }: MonitoredParts): QmpTarget {
  const { machine, cpus, perf } = created;
  return {
    ...parts,
    machine,
    perf,
    // Node does not provide the host's id of a worker thread: all belong to this process.
    vcpuThreads: cpus.all.map(() => process.pid),
    registers: (hart) => readRegisters(cpus, hart),
    async readMemory(address, length, hart) {
      const { readGuestMemory } = await import("../../embed/code-trace.ts");
      const translation = hart === undefined ? undefined : await readTranslation(cpus, hart);
      return readGuestMemory(machine.memory, translation, address, length);
    },
    async trace(hart, address) {
      // The translator is not loaded until it is asked for.
      const { traceCode } = await import("../../embed/code-trace.ts");
      return traceCode(machine.memory, await readTranslation(cpus, hart), address, platform);
    },
  };
}
