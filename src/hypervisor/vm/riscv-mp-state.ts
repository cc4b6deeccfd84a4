// The MP states (KVM_GET/SET_MP_STATE) that a RISC-V vCPU accepts, of all that KVM has.
import { WherryError } from "../../base/errors.ts";
import { MP_STATE, RISCV_MP_STATES } from "../../accelerator/mp-state.ts";

export class MpStateError extends WherryError {}

/** Throws MpStateError unless RISC-V has this state. */
export function checkRiscvMpState(state: number): void {
  if (RISCV_MP_STATES.includes(state)) return;
  const name = Object.entries(MP_STATE).find(([, v]) => v === state)?.[0] ?? "unknown";
  const list = RISCV_MP_STATES.map((s) => `${Object.entries(MP_STATE).find(([, v]) => v === s)![0]} ${s}`);
  throw new MpStateError("mp-state.value", `MP state ${state} (${name}): RISC-V has ${list.join(", ")}`);
}
