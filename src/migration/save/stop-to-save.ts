// Stops a machine to save or move it, and restores its run state if that fails.
import type { Machine } from "../../vmm/machine.ts";
import type { RunState } from "../../vmm/run-state.ts";
import { MigrationError } from "../../stream/migration-error.ts";
import { isMovable } from "../environment/run-state-section.ts";

/** Throws if the machine cannot be saved or moved in its present state. */
export function refuseToSave(machine: Machine): void {
  const state = machine.runState.current;
  const why = machine.startBlocker ?? (isMovable(state) ? undefined : `the machine is ${state}`);
  if (why !== undefined) throw refusal(why);
}

function refusal(why: string): MigrationError {
  return new MigrationError("migration.state", `the machine cannot be saved or moved now: ${why}`);
}

/**
 * Stops the machine with run state `state` and resolves to its run state before. It cannot be started until
 * `resumeAs`. Rejects with MigrationError if it cannot be stopped.
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
    // A reset or power-off that the guest requested with its last instructions is handled before anything is
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

/** Restores the run state from before `stopFor`, unless it changed since. */
export async function resumeAs(machine: Machine, before: RunState): Promise<void> {
  machine.startBlocker = undefined;
  if (!["finish-migrate", "save-vm"].includes(machine.runState.current)) return;
  if (before === "running") await machine.start();
  else machine.runState.set(before === "io-error" ? "paused" : before);
}
