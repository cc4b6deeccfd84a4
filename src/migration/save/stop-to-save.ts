// Stops a machine to save or move it, and restores its run state if that fails.
import type { Machine } from "../../vmm/machine.ts";
import type { RunState } from "../../vmm/run-state.ts";
import { MigrationError } from "../../stream/migration-error.ts";
import { isMovable } from "../environment/run-state-section.ts";

/** Throws if the machine is in no state to be saved or moved. */
export function refuseToSave(machine: Machine): void {
  const state = machine.runState.current;
  const why = machine.startBlocker ?? (isMovable(state) ? undefined : `the machine is ${state}`);
  if (why !== undefined) throw refusal(why);
}

function refusal(why: string): MigrationError {
  return new MigrationError("migration.state", `the machine cannot be saved or moved now: ${why}`);
}

/**
 * Stops the machine for `state` and gives the state it was in; until `resumeAs` it cannot be started. Rejects
 * with MigrationError if it cannot be stopped for that.
 */
export async function stopFor(
  machine: Machine,
  state: "save-vm" | "finish-migrate",
  why: string,
): Promise<RunState> {
  refuseToSave(machine);
  machine.startBlocker = why;
  try {
    const before = await machine.stop(state);
    // A reset or a power-off that the guest asked for with its last instructions comes before anything is
    // sent.
    await machine.settled();
    const { current } = machine.runState;
    if (current !== state) throw refusal(`it is ${current}`);
    return before;
  } catch (error) {
    machine.startBlocker = undefined;
    throw error;
  }
}

/** Back to what the machine was before `stopFor`, unless something else has become of it. */
export async function resumeAs(machine: Machine, before: RunState): Promise<void> {
  machine.startBlocker = undefined;
  if (!["finish-migrate", "save-vm"].includes(machine.runState.current)) return;
  if (before === "running") await machine.start();
  else machine.runState.set(before === "io-error" ? "paused" : before);
}
