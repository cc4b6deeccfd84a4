// The machine's run state, with QEMU's names (QAPI RunState), and the transitions that are allowed.
import { WherryError } from "../base/errors.ts";

/** What a machine does, by QEMU's names (QAPI's RunState). Harts run only in `running`. */
export type RunState =
  | "prelaunch"
  | "running"
  | "paused"
  | "inmigrate"
  | "finish-migrate"
  | "postmigrate"
  | "save-vm"
  | "restore-vm"
  | "io-error"
  | "shutdown"
  | "suspended"
  | "internal-error";

const allowed: Record<RunState, readonly RunState[]> = {
  prelaunch: ["running", "inmigrate", "paused", "finish-migrate", "shutdown", "save-vm"],
  running: ["paused", "finish-migrate", "save-vm", "io-error", "shutdown", "suspended"],
  paused: ["running", "finish-migrate", "save-vm", "postmigrate", "shutdown", "prelaunch"],
  inmigrate: ["running", "paused", "prelaunch", "suspended", "shutdown"],
  "finish-migrate": ["running", "paused", "postmigrate", "prelaunch", "shutdown", "suspended"],
  postmigrate: ["running", "paused", "finish-migrate", "prelaunch", "shutdown"],
  "save-vm": ["running", "paused", "prelaunch", "suspended", "shutdown"],
  "restore-vm": ["running", "paused", "prelaunch"],
  "io-error": ["running", "paused", "finish-migrate", "save-vm", "shutdown", "prelaunch"],
  shutdown: ["paused", "finish-migrate", "save-vm", "prelaunch"],
  suspended: ["running", "finish-migrate", "paused", "save-vm", "shutdown", "prelaunch"],
  "internal-error": ["paused", "finish-migrate", "prelaunch", "shutdown"],
};

export class RunStateError extends WherryError {}

/**
 * Holds the state and refuses transitions that are not allowed. `onChange` listeners receive (next,
 * previous).
 */
export class RunStateHolder {
  #state: RunState = "prelaunch";
  readonly #listeners: ((next: RunState, previous: RunState) => void)[] = [];

  get current(): RunState {
    return this.#state;
  }
  get running(): boolean {
    return this.#state === "running";
  }

  set(next: RunState): void {
    const previous = this.#state;
    if (next === previous) return;
    // A thread can fail in any state.
    if (next !== "internal-error" && !allowed[previous].includes(next)) {
      throw new RunStateError(
        "run-state.transition",
        `the machine is ${previous}: it cannot become ${next}; from here it can become ${allowed[previous].join(", ")}`,
      );
    }
    this.#state = next;
    for (const listener of this.#listeners) listener(next, previous);
  }

  onChange(listener: (next: RunState, previous: RunState) => void): void {
    this.#listeners.push(listener);
  }
}
