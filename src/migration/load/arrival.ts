// The run state of a machine while its state is loaded, and after a failed load.
import { messageOf } from "../../base/errors.ts";
import type { Machine } from "../../vmm/machine.ts";
import type { RunState } from "../../vmm/run-state.ts";
import { MigrationError } from "../../stream/migration-error.ts";

/**
 * Whether a machine runs once it has arrived: as it did when it was saved or sent (the default), `always` or
 * `never`. A machine whose guest has powered off does not run in any case: it needs a reset.
 */
export type Autostart = "as-saved" | "always" | "never";

/** Before loading: the machine cannot be started until its state is complete. */
export function beginArrival(machine: Machine): void {
  machine.runState.set("inmigrate");
  machine.startBlocker = "the machine's state is not complete yet: wait until the incoming move has ended";
}

/** After a load: starts the machine, or gives it the run state in which it was saved. */
export async function endArrival(machine: Machine, saved: RunState, autostart: Autostart): Promise<void> {
  const starts = saved === "running" ? autostart !== "never" : autostart === "always" && saved !== "shutdown";
  if (starts) await machine.start();
  else machine.runState.set(saved === "running" || saved === "io-error" ? "paused" : saved);
}

/** After a failed load: the machine can never be started. */
export function failArrival(machine: Machine, cause: unknown): MigrationError {
  const error =
    cause instanceof MigrationError
      ? cause
      : new MigrationError("migration.load", `the machine was not loaded: ${messageOf(cause)}`, { cause });
  machine.startBlocker = `the load failed and the machine can never run: ${error.message}`;
  machine.runState.set("internal-error");
  return error;
}
