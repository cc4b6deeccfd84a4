// The run state of a machine while its state is loaded, and after a failed load.
import { messageOf } from "../../base/errors.ts";
import type { Machine } from "../../vmm/machine.ts";
import { MigrationError } from "../../stream/migration-error.ts";

/** The machine is about to receive its state: it cannot be started until that is complete. */
export function beginArrival(machine: Machine): void {
  machine.runState.set("inmigrate");
  machine.startBlocker = "the machine has not arrived yet: it can only be started once its state is complete";
}

/** The state is not complete: the machine can never be started. */
export function failArrival(machine: Machine, cause: unknown): MigrationError {
  const error =
    cause instanceof MigrationError
      ? cause
      : new MigrationError("migration.load", `the machine was not loaded: ${messageOf(cause)}`, { cause });
  machine.startBlocker = `the machine is half loaded and can never run: ${error.message}`;
  machine.runState.set("internal-error");
  return error;
}
