// How a machine comes to its end: its guest's doing, seen from its events; and the host's, stopping it for good.
import type { SetTimer } from "../base/clock.ts";
import { WherryError } from "../base/errors.ts";
import type { Machine } from "../vmm/machine.ts";

/** The guest's own end: it powered off, or it cannot go on. */
export interface GuestEnd {
  readonly kind: "shutdown" | "guest-failed";
  readonly message: string;
}

/** `onEnd` is called once the machine has stopped by its guest's doing: its disks are quiet then. */
export function watchEnd(machine: Machine, onEnd: (end: GuestEnd) => void): void {
  let last: GuestEnd | undefined;
  machine.onEvent((event) => {
    if (event.event === "GUEST_PANICKED") last = { kind: "guest-failed", message: event.message };
    else if (event.event === "SHUTDOWN") {
      last = {
        kind: event.reason.startsWith("guest-failure") ? "guest-failed" : "shutdown",
        message: event.reason,
      };
    }
  });
  // A failed arrival is an internal-error without an event.
  machine.runState.onChange((state) => {
    if ((state === "shutdown" || state === "internal-error") && last !== undefined) onEnd(last);
  });
}

/** How long the harts may take to stop at the end: one that hangs must not keep the process. */
const STOP_TIMEOUT_MS = 5000;

/** Stops it and lets its disks go. Rejects with WherryError if a hart does not stop. */
export async function stopForGood(machine: Machine, setTimer: SetTimer): Promise<void> {
  let timer: { cancel(): void } | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimer(STOP_TIMEOUT_MS, () => reject(new WherryError("host.stop", "a hart does not stop")));
  });
  // Even if it does not run: who has stopped it for a while must not let it go on.
  await Promise.race([machine.stop("shutdown"), late]).finally(() => timer?.cancel());
  await machine.inactivateDrives();
}
