// Converts between a hart of QEMU and a hart of this board. Equivalent state is translated. State that harts
// here cannot hold (interrupt priorities, idle hypervisor registers, event selectors, debug triggers) is kept
// separately and sent back to QEMU. State that is in use and cannot be held is refused. Interrupt lines are
// not state here: the controllers drive them (board.ts). No release sends fflags. QEMU's cycle and
// instruction counters follow the host's ticks and therefore jump.
import { TIMER_OFF } from "../../devices/device-clock.ts";
import { hex } from "../../base/hex.ts";
import { MP_STATE } from "../../accelerator/mp-state.ts";
import { ALL_ONES } from "../../base/uint64.ts";
import { bit, CODE_ADDRESS, LOW_32, NEVER } from "../../riscv/bits.ts";
import { INTERRUPT, MIP } from "../../riscv/causes.ts";
import { MENVCFG_ADUE, MENVCFG_PBMTE, MENVCFG_STCE, MENVCFG_WRITABLE } from "../../riscv/envcfg.ts";
import { MISA_EXTENSIONS, misaLetters, misaWords } from "../../riscv/extensions.ts";
import { isSatpMode, PMP_ENTRIES, PMPADDR_WRITABLE, satpModeOf } from "../../riscv/paging.ts";
import { registerEntries, type RegisterName } from "../../riscv/registers.ts";
import { MSTATUS_FIXED, MSTATUS_SD, MSTATUS_VS } from "../../riscv/status.ts";
import type { Cpu } from "../../vmm/cpus.ts";
import type { CpuState } from "../../vmm/riscv-cpu-state.ts";
import type { Kept } from "./qemu-kept.ts";
import { hartDefinition, type QemuHart } from "./qemu-hart-state.ts";
import { type Release, QemuStreamError } from "./qemu-releases.ts";

/**
 * Extensions of QEMU's `rv64` that harts here lack, but that are accepted while the guest does not use them.
 */
const MISA_TOLERATED = MISA_EXTENSIONS | misaLetters("HB");

const CYCLE = 0;
const INSTRET = 2;
const FIRST_EVENT_COUNTER = 3;
/** Reset value in QEMU: SGEIP. */
const MICLAIM = bit(INTERRUPT.SGEI);
const RESET_VECTOR = 0x1000n;
const FEATURES_7 = 0x13;
/** tdata1 of an address trigger that never matches. */
const TRIGGER_IDLE = 2n << 60n;
const TRIGGER_MATCHES = 7n;

/**
 * CSRs with the same name in the copy here and in a release's section. A hart here holds the bits `writable`.
 * The bits `returned` go back to QEMU from here, the others as they came; bit 0 of a code address as 0.
 */
type SharedCsr = {
  [K in RegisterName]: K extends keyof QemuHart & keyof CpuState
    ? [QemuHart[K], CpuState[K]] extends [bigint, bigint]
      ? K
      : never
    : never;
}[RegisterName];
const SHARED_CSRS = registerEntries.flatMap(([name, { csr, oneReg, qemu, writable, level }]) =>
  csr === undefined ||
  oneReg === undefined ||
  qemu === undefined ||
  level !== undefined ||
  writable === undefined
    ? []
    : [{ name: name as SharedCsr, writable, returned: writable === CODE_ADDRESS ? ALL_ONES : writable }],
);

/** CPU_INTERRUPT_HARD: QEMU's harts check mip only if it is set. */
export const INTERRUPT_HARD = 2;

/** Throws QemuStreamError if the hart uses a feature that harts here lack. */
export function checkHart(q: QemuHart, id: number): void {
  const fail = (code: string, message: string): never => {
    throw new QemuStreamError(code, `cpu/${id}: ${message}`);
  };
  if (q.mhartid !== BigInt(id)) fail("qemu.hart", `mhartid is ${q.mhartid}, expected ${id}`);
  const extra = q.misaExt & ~MISA_TOLERATED;
  if (extra !== 0n) {
    fail("qemu.extension", `misa has ${misaWords(extra)}, which harts here lack: start QEMU with -cpu rv64`);
  }
  if (q.virt !== 0n || q.hgatp !== 0n || q.vsatp !== 0n || q.vstvec !== 0n) {
    fail(
      "qemu.hypervisor",
      `the guest uses the hypervisor extension (hgatp ${hex(q.hgatp)}, vsatp ${hex(q.vsatp)}), which harts here ` +
        "lack: stop its virtual machines and unload kvm, or start QEMU with -cpu rv64,h=off",
    );
  }
  if ((q.mstatus & MSTATUS_VS) !== 0n)
    fail("qemu.vector", "mstatus.VS is on, harts here have no vectors: start QEMU with -cpu rv64,v=off");
  const entry = q.pmp.findIndex(({ config }, i) => i >= PMP_ENTRIES && config !== 0);
  if (entry >= 0) fail("qemu.pmp", `PMP entry ${entry} is in use, harts here have ${PMP_ENTRIES}`);
  const counter = q.mhpmevent.findIndex((event, i) => {
    return i >= FIRST_EVENT_COUNTER && (event & LOW_32) !== 0n && (q.mcountinhibit & bit(i)) === 0n;
  });
  if (counter >= 0) {
    const event = hex(q.mhpmevent[counter]! & LOW_32);
    fail(
      "qemu.counter",
      `performance counter ${counter} counts event ${event}, harts here count cycles and instructions alone: ` +
        "stop perf in the guest",
    );
  }
  const trigger = q.tdata1.findIndex((tdata1) => (tdata1 & TRIGGER_MATCHES) !== 0n);
  if (trigger >= 0) fail("qemu.trigger", `debug trigger ${trigger} is set, harts here have none: remove it`);
  // PBMTE says nothing: harts of 7.2 let firmware set it whether they have Svpbmt or not, and it does.
  const more = q.menvcfg & ~(MENVCFG_WRITABLE | MENVCFG_ADUE | MENVCFG_PBMTE);
  if (more !== 0n) {
    fail(
      "qemu.extension",
      `menvcfg is ${hex(q.menvcfg)}: bits ${hex(more)} enable extensions that harts here lack: start QEMU with -cpu rv64`,
    );
  }
  const mode = satpModeOf(q.satp);
  if (!isSatpMode(mode)) fail("qemu.satp", `satp's mode is ${mode}, expected 0, 8, 9 or 10`);
}

/** Fills the VMM's copy of a hart. `q` has passed checkHart. Interrupt lines and time are set later. */
export function hartFromQemu(q: QemuHart, release: Release, { state, common }: Cpu, halted: number): void {
  state.pc = q.pc;
  state.x.set(q.x);
  state.x[0] = 0n;
  state.f.set(q.f);
  state.fcsr = Number(q.frm) << 5;
  state.priv = Number(q.priv);
  state.mhartid = q.mhartid;
  for (const { name, writable } of SHARED_CSRS) state[name] = q[name] & writable;
  state.mstatus |= MSTATUS_FIXED;
  state.svade = release.adue && (q.menvcfg & MENVCFG_ADUE) === 0n ? 1 : 0;
  state.mcycle = q.counters[CYCLE]?.value ?? 0n;
  state.minstret = q.counters[INSTRET]?.value ?? 0n;
  for (let i = 0; i < PMP_ENTRIES; i++) {
    state.pmpcfg[i] = q.pmp[i]?.config ?? 0;
    state.pmpaddr[i] = (q.pmp[i]?.address ?? 0n) & PMPADDR_WRITABLE;
  }
  // Bits that software controls. With Sstc, STIP follows the comparator. SEIP is the interrupt controller's
  // line.
  const owned = (q.menvcfg & MENVCFG_STCE) === 0n ? MIP.SSIP | MIP.STIP : MIP.SSIP;
  state.mip = q.mip & owned;
  state.timerCompare = q.stimecmp;
  state.mpState = MP_STATE.RUNNABLE;
  state.startAddress = 0n;
  state.startArgument = 0n;
  state.suspendType = 0n;
  state.stealTimeShmem = NEVER;
  state.stealNs = 0n;
  common.halted = halted;
  common.interruptRequest = 0;
}

/** Inputs of a hart from other devices at the moment of writing. */
export interface Surroundings {
  /** mtime. */
  readonly now: bigint;
  readonly timecmp: bigint;
  /** MSIP, MEIP and SEIP as driven by their controllers. */
  readonly lines: bigint;
}

/** These fields have 32 bits in the releases after 7.2. */
const NARROW = ["scounteren", "mcounteren", "mcountinhibit"] as const;

/** The bits of `ours` in `mask`, and the other bits of `kept`. */
const merge = (kept: bigint, ours: bigint, mask: bigint): bigint => (kept & ~mask) | (ours & mask);

/** The hart as `release` reads it. `kept` is its state when it arrived from a QEMU, if it did. */
export function hartToQemu(
  { state }: Cpu,
  release: Release,
  kept: Kept | undefined,
  around: Surroundings,
): QemuHart {
  const definition = hartDefinition(release);
  const q = definition.create();
  const old = kept?.hart ?? resetHart(state.mhartid, release);
  definition.assign(q, old);
  q.privVersion = kept?.release === release ? old.privVersion : release.privVersion;
  q.features = release.cpu === 5 ? FEATURES_7 : 0;
  q.pc = state.pc;
  q.x.set(state.x);
  q.f.set(state.f);
  q.frm = BigInt(state.fcsr >> 5);
  q.priv = BigInt(state.priv);
  q.mhartid = state.mhartid;
  for (const { name, returned } of SHARED_CSRS) q[name] = merge(old[name], state[name], returned);
  q.mstatus &= ~MSTATUS_SD;
  q.menvcfg = merge(q.menvcfg, release.adue && state.svade === 0 ? MENVCFG_ADUE : 0n, MENVCFG_ADUE);
  if (release.cpu > 5) for (const name of NARROW) q[name] &= LOW_32;
  countersToQemu(q, state);
  q.pmp = Array.from({ length: release.pmpEntries }, (_, i) => {
    const entry = old.pmp[i];
    const address = merge(
      entry?.address ?? 0n,
      state.pmpaddr[i] ?? 0n,
      i < PMP_ENTRIES ? PMPADDR_WRITABLE : 0n,
    );
    return { address, config: state.pmpcfg[i] ?? 0 };
  });
  q.stimecmp = state.timerCompare;
  q.loadReservation = NEVER;
  const sstc = (state.menvcfg & MENVCFG_STCE) !== 0n;
  // A hart that arrived without timers goes back without them: an older 10.0, or no Sstc.
  q.supervisorTimers = release.supervisorTimers && (kept?.release === release ? old.supervisorTimers : sstc);
  pendingToQemu(q, state, release, around);
  return q;
}

/**
 * Writes the present value. While a counter counts, QEMU adds its host's ticks since `previous`, which is
 * kept: on the same host the guest's counter advances by the time spent here and never goes back.
 */
function countersToQemu(q: QemuHart, { mcycle, minstret }: { mcycle: bigint; minstret: bigint }): void {
  const [cycle, instret] = [q.counters[CYCLE], q.counters[INSTRET]];
  if (cycle !== undefined) cycle.value = mcycle;
  if (instret !== undefined) instret.value = minstret;
}

/**
 * Writes mip with all lines, and the timers. A release that does not arm loaded timers gets a pending
 * interrupt: the guest wakes up too early and arms the timer again.
 */
function pendingToQemu(
  q: QemuHart,
  state: { mip: bigint; mie: bigint; menvcfg: bigint; timerCompare: bigint },
  release: Release,
  { now, timecmp, lines }: Surroundings,
): void {
  const sstc = (state.menvcfg & MENVCFG_STCE) !== 0n;
  const supervisorDue = sstc && now >= state.timerCompare;
  const supervisorArmed = sstc && !supervisorDue && state.timerCompare !== NEVER;
  const machineDue = now >= timecmp;
  const machineArmed = !machineDue && timecmp !== NEVER && (state.mie & MIP.MTIP) !== 0n;
  q.mip = (sstc ? state.mip & ~MIP.STIP : state.mip) | lines;
  if (supervisorDue || (supervisorArmed && !q.supervisorTimers)) q.mip |= MIP.STIP;
  if (machineDue || (machineArmed && release.mtimer === 1)) q.mip |= MIP.MTIP;
  q.stimer = supervisorArmed ? timerNs(state.timerCompare) : TIMER_OFF;
}

const INT64_MAX = (1n << 63n) - 1n;

/** When a comparator is due in QEMU's timers: ns of its virtual clock, which is written as mtime × 100. */
export function timerNs(ticks: bigint): bigint {
  const ns = ticks * 100n;
  return ns > INT64_MAX ? INT64_MAX : ns;
}

/** Major interrupts by default priority, from the highest (4) down (AIA specification 1.0, table 12). */
const BY_PRIORITY = [
  ...[47, 23, 46, 45, 22, 44, 43, 21, 42, 41, 20, 40, 11, 3, 7, 9, 1],
  ...[5, 12, 10, 2, 6, 39, 19, 38, 37, 18, 36, 35, 17, 34, 33, 16, 32],
];
const HIGHEST_PRIORITY = 4;
const NO_PRIORITY = 0xff;

/** `external` is the level's external interrupt, whose priority is set by its controller. */
function defaultPriorities(external: number): Uint8Array {
  const priorities = new Uint8Array(64).fill(NO_PRIORITY);
  for (const [i, irq] of BY_PRIORITY.entries()) priorities[irq] = HIGHEST_PRIORITY + i;
  priorities[external] = 0;
  return priorities;
}

/** A hart with only the features of harts here, without H. */
function resetHart(mhartid: bigint, release: Release): QemuHart {
  const q = hartDefinition(release).create();
  q.mhartid = mhartid;
  q.misaExt = MISA_EXTENSIONS;
  q.misaExtMask = MISA_EXTENSIONS;
  q.privVersion = release.privVersion;
  q.resetVector = RESET_VECTOR;
  q.miclaim = MICLAIM;
  q.mstatus = MSTATUS_FIXED;
  q.tdata1.fill(TRIGGER_IDLE);
  q.miprio.set(defaultPriorities(INTERRUPT.MEI));
  q.siprio.set(defaultPriorities(INTERRUPT.SEI));
  for (const i of [CYCLE, INSTRET]) Object.assign(q.counters[i] ?? {}, { started: true });
  return q;
}
