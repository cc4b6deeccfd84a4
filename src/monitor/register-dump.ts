// The registers of a hart as text, for x-wherry-registers: every register of the cached vCPU state, by field
// name.
import { hex } from "../base/hex.ts";
import type { Cpus } from "../vmm/cpus.ts";
import type { CpuState } from "../vmm/riscv-cpu-state.ts";

/** Reads one hart's registers. A running hart is paused meanwhile; the others keep running. */
export async function readRegisters(cpus: Cpus, hart: number): Promise<Record<string, string>> {
  const cpu = cpus.all[hart];
  if (cpu === undefined) throw new RangeError(`hart ${hart} does not exist`);
  return cpus.synchronizeState(cpu, registerTexts);
}

/** The registers that determine a hart's address translation. */
export async function readTranslation(
  cpus: Cpus,
  hart: number,
): Promise<{ readonly satp: bigint; readonly priv: number }> {
  const cpu = cpus.all[hart];
  if (cpu === undefined) throw new RangeError(`hart ${hart} does not exist`);
  return cpus.synchronizeState(cpu, ({ satp, priv }) => ({ satp, priv }));
}

function registerTexts(state: CpuState): Record<string, string> {
  const result: Record<string, string> = {};
  for (const [name, value] of Object.entries(state)) {
    if (typeof value === "bigint" || typeof value === "number") result[name] = hex(value);
    else for (const [i, element] of value.entries()) result[`${name}${i}`] = hex(element);
  }
  return result;
}
