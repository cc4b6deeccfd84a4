// The end of a machine: by its guest, observed through its events; and by its user, who stops it for good.
import type { SetTimer } from "../base/clock.ts";
import type { Machine } from "../vmm/machine.ts";

/** The end: the guest powered off, it crashed, or its machine was closed. */
export interface GuestEnd {
  readonly kind: "shutdown" | "guest-failed" | "closed";
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
    if ((state !== "shutdown" && state !== "internal-error") || last === undefined) return;
    onEnd(last);
    // A reset begins another life, whose end is its own.
    last = undefined;
  });
}

/** The end as a promise; a reset after the end renews it. Never rejects. */
export class Ending {
  #resolve: (end: GuestEnd) => void = () => {};
  #promise = this.#next();
  #isOver = false;

  get promise(): Promise<GuestEnd> {
    return this.#promise;
  }
  end(end: GuestEnd): void {
    this.#isOver = true;
    this.#resolve(end);
  }
  close(): void {
    this.end({ kind: "closed", message: "the machine was closed" });
  }
  renew(): void {
    if (!this.#isOver) return;
    this.#isOver = false;
    this.#promise = this.#next();
  }
  #next(): Promise<GuestEnd> {
    return new Promise((resolve) => {
      this.#resolve = resolve;
    });
  }
}

/** The time for the harts to stop at the end: one that hangs must not keep the process alive. */
const STOP_TIMEOUT_MS = 30_000;

/** Stops it and releases its disks. The threads of harts that do not stop are ended. */
export async function stopForGood(machine: Machine, setTimer: SetTimer): Promise<void> {
  let timer: { cancel(): void } | undefined;
  const late = new Promise<"late">((resolve) => {
    timer = setTimer(STOP_TIMEOUT_MS, () => resolve("late"));
  });
  // Even if it does not run: whoever paused it must not be able to resume it.
  const stopped = machine.stop("shutdown");
  if ((await Promise.race([stopped, late]).finally(() => timer?.cancel())) === "late") {
    stopped.catch(() => {});
    await machine.vm.destroy();
  }
  await machine.inactivateDrives();
  machine.left("closed");
}
