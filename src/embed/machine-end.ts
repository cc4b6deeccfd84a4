// The end of a machine: by its guest, observed through its events; and by its user, who stops it for good.
import type { SetTimer } from "../base/clock.ts";
import { WherryError } from "../base/errors.ts";
import type { Machine } from "../vmm/machine.ts";

/** The guest's end: it powered off, or it crashed. */
export interface GuestEnd {
  readonly kind: "shutdown" | "guest-failed";
  readonly message: string;
}

/** Calls `onEnd` once the machine has stopped because of its guest; its disks are quiet then. */
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

/** The time for the harts to stop at the end: a hart that hangs must not keep the process alive. */
const STOP_TIMEOUT_MS = 5000;

/** Stops it and releases its disks. Rejects with WherryError if a hart does not stop. */
export async function stopForGood(machine: Machine, setTimer: SetTimer): Promise<void> {
  let timer: { cancel(): void } | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimer(STOP_TIMEOUT_MS, () => reject(new WherryError("host.stop", "a hart does not stop")));
  });
  // Even if it does not run: whoever paused it must not be able to resume it.
  await Promise.race([machine.stop("shutdown"), late]).finally(() => timer?.cancel());
  await machine.inactivateDrives();
}
