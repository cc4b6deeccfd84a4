// MP state (KVM_GET/SET_MP_STATE): all of KVM's states in the type, each architecture accepts its own.
import { WherryError } from "../../base/errors.ts";
import { MP_STATE } from "../../accelerator/mp-state.ts";

/** RISC-V: INIT_RECEIVED means "reset now, at the SBI start address". */
const RISCV_STATES: readonly number[] = [
  MP_STATE.RUNNABLE,
  MP_STATE.INIT_RECEIVED,
  MP_STATE.STOPPED,
  MP_STATE.SUSPENDED,
];

export class MpStateError extends WherryError {}

/** Throws MpStateError unless RISC-V has this state. */
export function checkRiscvMpState(state: number): void {
  if (RISCV_STATES.includes(state)) return;
  const name = Object.entries(MP_STATE).find(([, v]) => v === state)?.[0] ?? "unknown";
  const list = RISCV_STATES.map((s) => `${Object.entries(MP_STATE).find(([, v]) => v === s)![0]} ${s}`);
  throw new MpStateError("mp-state.value", `MP state ${state} (${name}): RISC-V has ${list.join(", ")}`);
}
