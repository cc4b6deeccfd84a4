// The machine's run state as section "globalstate" (src/stream/globalstate.ts), and the run states in which a
// machine can be saved.
import { quoted } from "../../base/text.ts";
import { type Section, sectionOf } from "../../state/section.ts";
import { decodeRunState, encodeRunState, globalState, RUNSTATE_BYTES } from "../../stream/globalstate.ts";
import { GET_ANOTHER_COPY, MigrationError } from "../../stream/migration-error.ts";
import type { RunState } from "../../vmm/run-state.ts";

/** Run states in which a machine can be moved or saved. */
const movable: readonly RunState[] = ["running", "paused", "prelaunch", "suspended", "shutdown", "io-error"];

export function isMovable(state: RunState): boolean {
  return movable.includes(state);
}

/**
 * `loaded` receives the run state when the section is applied. With `isQemu`, a machine that cannot resume
 * (already moved, or its guest panicked) arrives paused, as in QEMU; in Wherry's own stream such a state is
 * damage.
 */
export function runStateSection(
  current: RunState,
  loaded: (state: RunState) => void,
  isQemu = false,
): Section {
  return sectionOf({
    definition: globalState,
    get: () => encodeRunState(current),
    check(state) {
      const name = decodeRunState(state);
      if (isQemu || (movable.some((it) => it === name) && state.size <= RUNSTATE_BYTES)) return;
      throw new MigrationError(
        "migration.run-state",
        `globalstate.runstate: expected one of ${movable.join(", ")}, found ${quoted(name)} (size ${state.size}); ${GET_ANOTHER_COPY}`,
      );
    },
    apply(state) {
      const name = decodeRunState(state);
      loaded(movable.find((it) => it === name) ?? "paused");
    },
  });
}
