// The run state of a machine while its state is loaded, and after a failed load.
import { messageOf } from "../../base/errors.ts";
import type { Machine } from "../../vmm/machine.ts";
import { MigrationError } from "../../stream/migration-error.ts";

/** Before loading: the machine cannot be started until its state is complete. */
export function beginArrival(machine: Machine): void {
  machine.runState.set("inmigrate");
  machine.startBlocker = "the machine's state is not complete yet: wait until the incoming move has ended";
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
