// The run page's values (KVM's struct kvm_run), with which a vCPU thread and the VMM thread communicate.
import type { SystemEvent } from "../../accelerator/accelerator.ts";

/**
 * The VMM's command to the vCPU thread. PARKED is the thread's answer to PAUSE, which only the
 * thread gives; and the VMM's first command, before there is a thread.
 */
export const RUN = { PAUSE: 0, GO: 1, END: 2, PARKED: 3 } as const;

export const RUN_PAGE = { IDLE: 0, POSTED: 1, ANSWERED: 2 } as const;

export const EXIT_REASON = {
  MMIO_READ: 1,
  MMIO_WRITE: 2,
  SYSTEM_EVENT: 3,
  CONSOLE_WRITE: 4,
  CONSOLE_READ: 5,
  INTERNAL_ERROR: 6,
} as const;

/** By number on the run page. */
export const SYSTEM_EVENTS: readonly SystemEvent[] = ["shutdown", "reset", "crash", "suspend"];
