// Sections of the state in the hypervisor half: the cached copies of the vCPUs, the interrupt controller and
// the timer. Order as on QEMU's virt board: (cpu_common, cpu) for each hart, riscv_mtimer, riscv_sifive_plic.
import type { ByteReader } from "../base/bytes.ts";
import type { StateDefinition } from "../state/schema.ts";
import type { IrqchipPort } from "../accelerator/accelerator.ts";
import type { Cpus } from "../vmm/cpus.ts";
import { cpuCommonState, cpuState } from "../vmm/riscv-cpu-state.ts";
import type { Section } from "../state/section.ts";
import { stateSection } from "../state/state-section.ts";

/** A controller whose state is fetched for a save and set when a load is applied. */
export function irqchipSection<S>(definition: StateDefinition<S>, port: IrqchipPort<S>): Section {
  const idstr = definition.name;
  return {
    idstr,
    instanceId: 0,
    vmsdName: definition.name,
    version: definition.version,
    minimumVersion: definition.minimumVersion,
    priority: definition.priority,
    encode: (writer) => definition.encode(port.get(), writer, { path: idstr }),
    decode(reader: ByteReader, version: number) {
      const state = definition.decode(reader, version, { path: idstr });
      port.check(state);
      return () => port.set(state);
    },
    describe: () => {
      const { fields, subsections } = definition.describe(port.get());
      return { fields, ...(subsections === undefined ? {} : { subsections }) };
    },
  };
}

export function cpuSections(cpus: Cpus): Section[] {
  return cpus.all.flatMap((cpu) => [
    stateSection(cpuCommonState, { idstr: "cpu_common", instanceId: cpu.id }, cpu.common),
    stateSection(cpuState, { idstr: "cpu", instanceId: cpu.id }, cpu.state),
  ]);
}
