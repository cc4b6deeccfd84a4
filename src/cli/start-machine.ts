// Makes the machine that the options describe, joined to this host: files, sockets, console, QMP.
import type { Machine } from "../vmm/machine.ts";
import type { MachineOptions } from "./machine-options.ts";

/** How a machine came to its end. */
export interface MachineEnd {
  readonly kind: "quit" | "shutdown" | "guest-failed" | "incoming-failed";
  readonly message: string;
}

export interface RunningMachine {
  readonly machine: Machine;
  /** Resolves once, when the machine has come to its end by itself or by QMP. */
  readonly ended: Promise<MachineEnd>;
  /** Asks for the end, as QMP's quit does. */
  quit(reason: string): void;
  /** Ends the harts, lets go of the disks and sockets. Call it on every way out. */
  close(): Promise<void>;
}

/** Makes it and starts it, unless it is to be paused or to arrive. Rejects with WherryError; nothing is left then. */
export async function startMachine(options: MachineOptions): Promise<RunningMachine> {
  throw new Error(`not yet: ${options.harts}`);
}
