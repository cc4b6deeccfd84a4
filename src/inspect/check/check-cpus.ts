// A difference in the number of CPUs: cause and cure for sections that exist once per CPU, and for interrupt
// controllers with an element per CPU. QEMU reports only an unknown section or a missing footer.
import type { SectionReport, StreamReport } from "../model/stream-report.ts";

interface Cure {
  readonly cause: string;
  readonly cure: string;
}

/** Sections that exist once per CPU; the local APIC is x86 only. */
const OF_CPU = ["cpu_common", "cpu", "apic"];

/** Fields in these sections that have an element per CPU. */
const PER_CPU: Readonly<Record<string, RegExp>> = {
  riscv_mtimer: /^(timecmp|timers)$/,
  riscv_sifive_plic: /^(target_priority|enable)$/,
  riscv_aplic: /^(idelivery|iforce|ithreshold)$/,
  arm_gicv3: /^cpu$/,
};

function cpus(report: StreamReport): number {
  const count = (name: string) =>
    new Set(report.sections.filter(({ idstr }) => idstr === name).map(({ instanceId }) => instanceId)).size;
  return Math.max(count("cpu_common"), count("cpu"));
}

/** For a CPU's section that only one side has; undefined if the number of CPUs is not the cause. */
export function cpuCure(
  { idstr }: SectionReport,
  report: StreamReport,
  target: StreamReport,
): Cure | undefined {
  if (!OF_CPU.includes(idstr)) return undefined;
  const [sent, wanted] = [cpus(report), cpus(target)];
  if (sent === wanted || sent === 0 || wanted === 0) return undefined;
  return {
    cause: `the source has ${sent} CPU${sent === 1 ? "" : "s"}, the target ${wanted}`,
    cure: `start the target with -smp ${sent}, the number of CPUs that the source has`,
  };
}

/** For a field whose size differs in the target. */
export function perCpuCure({ idstr }: SectionReport, path: string): Cure | undefined {
  const name = idstr.slice(idstr.lastIndexOf("/") + 1);
  if (PER_CPU[name]?.test(path) !== true) return undefined;
  return {
    cause: "there is one for each CPU, and the two sides have different numbers of them",
    cure: "start the target with as many CPUs as the source has (-smp)",
  };
}
