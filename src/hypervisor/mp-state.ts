// MP state (KVM_GET/SET_MP_STATE): all of KVM's states in the type, each architecture accepts its own.
import { WherryError } from "../base/errors.ts";

export const MP = {
  RUNNABLE: 0,
  UNINITIALIZED: 1,
  INIT_RECEIVED: 2,
  HALTED: 3,
  SIPI_RECEIVED: 4,
  STOPPED: 5,
  CHECK_STOP: 6,
  OPERATING: 7,
  LOAD: 8,
  AP_RESET_HOLD: 9,
  SUSPENDED: 10,
} as const;
export type MpState = (typeof MP)[keyof typeof MP];

/** RISC-V: INIT_RECEIVED means "reset now, at the SBI start address". */
const RISCV_STATES: readonly number[] = [MP.RUNNABLE, MP.INIT_RECEIVED, MP.STOPPED, MP.SUSPENDED];

export class MpStateError extends WherryError {}

/** Throws MpStateError unless RISC-V has this state. */
export function checkRiscvMpState(state: number): void {
  if (RISCV_STATES.includes(state)) return;
  const name = Object.entries(MP).find(([, v]) => v === state)?.[0] ?? "unknown";
  const list = RISCV_STATES.map((s) => `${Object.entries(MP).find(([, v]) => v === s)![0]} ${s}`);
  throw new MpStateError("mp-state.value", `MP state ${state} (${name}): RISC-V has ${list.join(", ")}`);
}
