// The sections of a release's stream, in its order. mtime is written as the virtual clock, so that the offset
// between them is 0, which releases assume that do not load it.
import { TIMER_OFF } from "../../devices/device-clock.ts";
import { NEVER } from "../../riscv/bits.ts";
import { MIP } from "../../riscv/causes.ts";
import type { Cpu } from "../../vmm/cpus.ts";
import { OWN_SECTIONS, type Section } from "../../state/section.ts";
import {
  clockState,
  commonState,
  mtimerDefinition,
  PLIC_SOURCES,
  PLIC_WORDS,
  plicDefinition,
  type QemuPlicState,
} from "./board-state.ts";
import { NS_PER_TICK } from "./guest-time.ts";
import { hartToQemu, INTERRUPT_HARD, type Surroundings, timerNs } from "./qemu-hart.ts";
import { hartDefinition } from "./qemu-hart-state.ts";
import { keptHart } from "./qemu-kept.ts";
import type { PlicPortState, QemuParts } from "./qemu-parts.ts";
import type { Release } from "./qemu-releases.ts";
import { qemuSection } from "./qemu-sections.ts";

/** Sections that QEMU has in another shape. */
const RESHAPED: readonly string[] = ["cpu_common", "cpu", "riscv_mtimer", "riscv_sifive_plic", "fw_cfg"];

/** QEMU has this section too, with the same contents. */
export const isShared = ({ idstr }: Section): boolean =>
  !RESHAPED.includes(idstr) && !idstr.startsWith(OWN_SECTIONS);

export function sectionsToWrite(parts: QemuParts, release: Release): readonly Section[] {
  const { machine, cpus } = parts;
  const harts = cpus.all.length;
  const now = (): bigint => machine.vm.clock.read();
  const take = (): void => {};
  const hartOf = (cpu: Cpu) => hartToQemu(cpu, release, keptHart(cpu), surroundings(parts, cpu.id, now()));
  const clock = qemuSection({
    idstr: "timer",
    definitions: [clockState],
    get: () => ({ ...clockState.create(), clock: now() * NS_PER_TICK }),
    take,
  });
  const cpuSections = cpus.all.flatMap((cpu) => [
    qemuSection({
      idstr: "cpu_common",
      instanceId: cpu.id,
      definitions: [commonState],
      get: () => ({
        ...commonState.create(),
        halted: cpu.common.halted,
        interruptRequest: hartOf(cpu).mip === 0n ? 0 : INTERRUPT_HARD,
      }),
      take,
    }),
    qemuSection({
      idstr: "cpu",
      instanceId: cpu.id,
      definitions: [hartDefinition(release)],
      get: () => hartOf(cpu),
      take,
    }),
  ]);
  const mtimer = qemuSection({
    idstr: "riscv_mtimer",
    definitions: [mtimerDefinition(release.mtimer, harts)],
    get: () => {
      const { timecmp } = parts.irqchip.aclint.get();
      const at = now();
      const timers = timecmp.map((ticks) => (ticks > at ? timerNs(ticks) : TIMER_OFF));
      return { ...mtimerDefinition(release.mtimer, harts).create(), timecmp, timers };
    },
    take,
  });
  const plic = qemuSection({
    idstr: "riscv_sifive_plic",
    definitions: [plicDefinition(harts)],
    get: () => plicToQemu(parts.irqchip.plic.get()),
    take,
  });
  const devices = machine.sections.filter(isShared);
  const fwCfg = machine.sections.filter((s) => s.idstr === "fw_cfg");
  const tail = release.fwCfgEarly ? [...fwCfg, ...devices] : [...devices, ...fwCfg];
  return [clock, ...cpuSections, mtimer, plic, ...tail];
}

/**
 * A source that is served while its line is high is pending again immediately in QEMU, but here only after
 * completion.
 */
function plicToQemu(ours: PlicPortState): QemuPlicState {
  const { sourcePriority, targetPriority, claimed, enable, level } = ours;
  const pending = ours.pending.map((word, i) => word | (claimed[i]! & level[i]!));
  return { sourcePriority, targetPriority, pending, claimed, enable };
}

/** True if the best source for a context is above its threshold. */
function isAsserted(plic: PlicPortState, context: number): boolean {
  for (let source = 1; source < PLIC_SOURCES; source++) {
    const word = source >> 5;
    const ready = plic.pending[word]! & ~plic.claimed[word]! & plic.enable[context * PLIC_WORDS + word]!;
    if (((ready >>> (source & 31)) & 1) !== 0 && plic.sourcePriority[source]! > plic.targetPriority[context]!)
      return true;
  }
  return false;
}

function surroundings({ irqchip }: QemuParts, id: number, now: bigint): Surroundings {
  const plic = irqchip.plic.get();
  const { timecmp, msip } = irqchip.aclint.get();
  let lines = 0n;
  if (msip[id] !== 0) lines |= MIP.MSIP;
  if (isAsserted(plic, 2 * id)) lines |= MIP.MEIP;
  if (isAsserted(plic, 2 * id + 1)) lines |= MIP.SEIP;
  return { now, timecmp: timecmp[id] ?? NEVER, lines };
}
