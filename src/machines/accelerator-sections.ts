// Sections of the state in the hypervisor half: the cached copies of the vCPUs, the interrupt controller and
// the timer. Order as on QEMU's virt board: (cpu_common, cpu) for each hart, riscv_mtimer, riscv_sifive_plic.
import type { StateDefinition } from "../state/schema.ts";
import type { IrqchipPort } from "../accelerator/accelerator.ts";
import type { Cpus } from "../vmm/cpus.ts";
import { cpuCommonState, cpuState } from "../vmm/riscv-cpu-state.ts";
import { type Section, sectionOf, stateSection } from "../state/section.ts";

/** A controller whose state is fetched when it is saved and put back when a load is applied. */
export function irqchipSection<S>(definition: StateDefinition<S>, port: IrqchipPort<S>): Section {
  return sectionOf({
    definition,
    get: () => port.get(),
    check: (state) => port.check(state),
    apply: (state) => port.set(state),
  });
}

export function cpuSections(cpus: Cpus): Section[] {
  return cpus.all.flatMap((cpu) => [
    stateSection(cpuCommonState, cpu.common, { idstr: "cpu_common", instanceId: cpu.id }),
    stateSection(cpuState, cpu.state, { idstr: "cpu", instanceId: cpu.id }),
  ]);
}
