// A hart's registers as text, for x-wherry-registers: every register of the cached vCPU state, by its name there.
import { hex } from "../base/hex.ts";
import type { Cpus } from "../vmm/cpus.ts";
import type { CpuState } from "../vmm/riscv-cpu-state.ts";

/** Looks at one hart; a running one stands still for that long, the others do not. */
export async function readRegisters(cpus: Cpus, hart: number): Promise<Record<string, string>> {
  const cpu = cpus.all[hart];
  if (cpu === undefined) throw new RangeError(`hart ${hart} does not exist`);
  return cpus.synchronizeState(cpu, registerTexts);
}

/** What decides what a hart's addresses mean. */
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
