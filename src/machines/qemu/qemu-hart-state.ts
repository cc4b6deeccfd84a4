// QEMU's `cpu` and `cpu_common` sections of a RISC-V hart, as written by three releases: one state object,
// one definition per release. Names and order are those of the VMDESCRIPTIONs that the releases write. State
// that no default `rv64` CPU has (vectors, shadow stacks, state-enable registers, …) is refused, with the
// option that disables it.
import {
  bool,
  qemuState,
  type StateDefinition,
  type StateOf,
  structArray,
  subsection,
  timer,
  u32,
  u64,
  u64Array,
  u8Array,
  u8,
  unused,
} from "../../state/schema.ts";
import { TIMER_OFF } from "../../devices/device-clock.ts";
import { misaLetters, MXL_64 } from "../../riscv/extensions.ts";
import { isPrivilege, PRIVILEGES } from "../../riscv/privilege.ts";
import { qemuNameOf } from "../../riscv/registers.ts";
import type { Release } from "./qemu-releases.ts";
import { refused, uint } from "./wire-fields.ts";

const COUNTERS = 32;
const TRIGGERS = 2;
const ANY_VERSION = 1000;
/** Bit H of misa_ext. */
export const MISA_H = misaLetters("H");

/** A fixed counter: while it counts, its value is `value` + the host's ticks − `previous`. */
function counterDefinition(release: Release) {
  const halves = release.cpu < 12;
  return qemuState(
    "cpu/pmu",
    { version: 1 },
    {
      value: u64.named("mhpmcounter_val"),
      valueHigh: u64.named("mhpmcounterh_val").when(() => halves),
      previous: u64.named("mhpmcounter_prev"),
      previousHigh: u64.named("mhpmcounterh_prev").when(() => halves),
      started: bool.when(() => release.cpu === 5),
    },
  );
}

const pmpEntry = qemuState(
  "cpu/pmp/entry",
  { version: 1 },
  { address: u64.named("addr_reg"), config: u8.named("cfg_reg") },
);

/** Names of registers that harts here have, and of those that they lack. */
const ours = qemuNameOf;
const env = (name: string) => `env.${name}`;

/** A subsection with state that harts here lack; `cure` is the option to start QEMU with. */
function absent(name: string, what: string, cure: string) {
  const field = refused(
    "qemu.extension",
    `a hart without ${what} (start QEMU with ${cure})`,
    `state of ${what}`,
  );
  return subsection(name, { version: ANY_VERSION, minimumVersion: 0, needed: () => false }, { field });
}

function define(release: Release) {
  const { cpu } = release;
  const old = (): boolean => cpu === 5;
  const recent = (): boolean => cpu > 5;
  const narrow = cpu >= 12;
  return qemuState(
    "cpu",
    { version: cpu, minimumVersion: cpu },
    {
      x: u64Array(32).named(ours("x")),
      f: u64Array(32).named(ours("f")),
      miprio: u8Array(64).named(env("miprio")),
      siprio: u8Array(64).named(env("siprio")),
      pc: u64.named(ours("pc")),
      loadReservation: u64.named(env("load_res")),
      loadValue: u64.named(env("load_val")),
      frm: uint(narrow ? 1 : 8)
        .range(0n, 7n)
        .named(ours("frm")),
      badAddress: u64.named(env("badaddr")),
      guestPhysFault: u64.named(env("guest_phys_fault_addr")),
      privVersion: uint(narrow ? 4 : 8)
        .range(0n, 0xffff_ffffn)
        .named(env("priv_ver")),
      vectorVersion: uint(narrow ? 4 : 8)
        .range(0n, 0xffff_ffffn)
        .named(env("vext_ver")),
      misaMxl: u32.range(MXL_64, MXL_64).init(MXL_64).named(env("misa_mxl")),
      misaExt: uint(4).named(env("misa_ext")),
      misaMxlMax: u32.init(MXL_64).named(env("misa_mxl_max")).when(old),
      unused: unused(4).when(recent),
      misaExtMask: uint(4).named(env("misa_ext_mask")),
      features: u32.named(env("features")).when(old),
      priv: uint(narrow ? 1 : 8)
        .named(ours("priv"))
        .check((p) => (isPrivilege(p) ? undefined : PRIVILEGES)),
      virt: uint(cpu === 5 ? 8 : 1)
        .range(0n, 0xffn)
        .named(env(cpu === 5 ? "virt" : "virt_enabled")),
      resetVector: u64.named(env("resetvec")),
      mhartid: u64.named(ours("mhartid")),
      mstatus: u64.named(ours("mstatus")),
      mip: u64.named(ours("mip")),
      miclaim: u64.named(env("miclaim")),
      mie: u64.named(ours("mie")),
      mvien: u64.named(env("mvien")).when(recent),
      mvip: u64.named(env("mvip")).when(recent),
      sie: u64.named(env("sie")).when(recent),
      mideleg: u64.named(ours("mideleg")),
      satp: u64.named(ours("satp")),
      stval: u64.named(ours("stval")),
      medeleg: u64.named(ours("medeleg")),
      stvec: u64.named(ours("stvec")),
      sepc: u64.named(ours("sepc")),
      scause: u64.named(ours("scause")),
      mtvec: u64.named(ours("mtvec")),
      mepc: u64.named(ours("mepc")),
      mcause: u64.named(ours("mcause")),
      mtval: u64.named(ours("mtval")),
      miselect: uint(narrow ? 2 : 8, 2).named(env("miselect")),
      siselect: uint(narrow ? 2 : 8, 2).named(env("siselect")),
      scounteren: uint(cpu === 5 ? 8 : 4, 4).named(ours("scounteren")),
      mcounteren: uint(cpu === 5 ? 8 : 4, 4).named(ours("mcounteren")),
      scountinhibit: uint(4).named(env("scountinhibit")).when(recent),
      mcountinhibit: uint(cpu === 5 ? 8 : 4, 4).named(ours("mcountinhibit")),
      counters: structArray(counterDefinition(release), COUNTERS).named(env("pmu_ctrs")),
      mhpmevent: u64Array(COUNTERS).named(env("mhpmevent_val")),
      mhpmeventHigh: u64Array(COUNTERS)
        .named(env("mhpmeventh_val"))
        .when(() => !narrow),
      sscratch: u64.named(ours("sscratch")),
      mscratch: u64.named(ours("mscratch")),
      mfromhost: u64.named(env("mfromhost")).when(old),
      mtohost: u64.named(env("mtohost")).when(old),
      stimecmp: u64.named(ours("stimecmp")),
      /** True if `cpu/timer` is present: the hart has Sstc, and the release sends its timers. */
      supervisorTimers: bool.known(),
    },
    [
      subsection(
        "cpu/pmp",
        { version: release.pmp, needed: () => true },
        { pmp: structArray(pmpEntry, release.pmpEntries).named("env.pmp_state.pmp") },
      ),
      subsection(
        "cpu/hyper",
        { version: release.hyper, needed: (s) => (s.misaExt & MISA_H) !== 0n },
        {
          hstatus: u64.named(env("hstatus")),
          hedeleg: u64.named(env("hedeleg")),
          hideleg: u64.named(env("hideleg")),
          hcounteren: uint(cpu === 5 ? 8 : 4, 4).named(env("hcounteren")),
          htval: u64.named(env("htval")),
          htinst: u64.named(env("htinst")),
          hgatp: u64.named(env("hgatp")),
          hgeie: u64.named(env("hgeie")),
          hgeip: u64.named(env("hgeip")),
          hvien: u64.named(env("hvien")).when(recent),
          hvip: u64.named(env("hvip")).when(recent),
          htimedelta: u64.named(env("htimedelta")),
          vstimecmp: u64.named(env("vstimecmp")),
          hvictl: uint(narrow ? 4 : 8, 4).named(env("hvictl")),
          hviprio: u8Array(64).named(env("hviprio")),
          vsstatus: u64.named(env("vsstatus")),
          vstvec: u64.named(env("vstvec")),
          vsscratch: u64.named(env("vsscratch")),
          vsepc: u64.named(env("vsepc")),
          vscause: u64.named(env("vscause")),
          vstval: u64.named(env("vstval")),
          vsatp: u64.named(env("vsatp")),
          vsiselect: uint(narrow ? 2 : 8, 2).named(env("vsiselect")),
          vsie: u64.named(env("vsie")).when(recent),
          mtval2: u64.named(env("mtval2")),
          mtinst: u64.named(env("mtinst")),
          stvecHs: u64.named(env("stvec_hs")),
          sscratchHs: u64.named(env("sscratch_hs")),
          sepcHs: u64.named(env("sepc_hs")),
          scauseHs: u64.named(env("scause_hs")),
          stvalHs: u64.named(env("stval_hs")),
          satpHs: u64.named(env("satp_hs")),
          mstatusHs: u64.named(env("mstatus_hs")),
        },
      ),
      absent("cpu/vector", "the V extension", "-cpu rv64,v=off"),
      absent("cpu/pointer_masking", "pointer masking", "-cpu rv64,x-j=off"),
      absent("cpu/rv128", "RV128", "-cpu rv64"),
      absent("cpu/kvmtimer", "KVM's timer", "-accel tcg"),
      subsection(
        "cpu/envcfg",
        { version: release.envcfg, needed: () => true },
        {
          menvcfg: u64.named(ours("menvcfg")),
          senvcfg: u64.named(ours("senvcfg")),
          henvcfg: u64.named(env("henvcfg")),
        },
      ),
      subsection(
        "cpu/debug",
        { version: release.debug, needed: () => true },
        {
          mcontext: uint(2)
            .named(env("mcontext"))
            .when(() => narrow),
          triggerCurrent: uint(narrow ? 1 : 8)
            .range(0n, 0xffn)
            .named(env("trigger_cur")),
          tdata1: u64Array(TRIGGERS).named(env("tdata1")),
          tdata2: u64Array(TRIGGERS).named(env("tdata2")),
          tdata3: u64Array(TRIGGERS).named(env("tdata3")),
        },
      ),
      subsection(
        "cpu/timer",
        {
          version: 1,
          needed: (s) => s.supervisorTimers,
          postLoad(s) {
            s.supervisorTimers = true;
          },
        },
        {
          stimer: timer.init(TIMER_OFF).named(env("stimer")),
          vstimer: timer.init(TIMER_OFF).named(env("vstimer")),
        },
      ),
      absent("cpu/smtateen", "Smstateen", "-cpu rv64,smstateen=off"),
      absent("cpu/jvt", "Zcmt", "-cpu rv64,zcmt=off"),
      absent("cpu/elp", "Zicfilp", "-cpu rv64,zicfilp=off"),
      absent("cpu/ssp", "Zicfiss", "-cpu rv64,zicfiss=off"),
      absent("cpu/ctr", "Smctr or Ssctr", "-cpu rv64,smctr=off,ssctr=off"),
      absent(
        "cpu/mseccfg",
        "Smepmp, Zkr, Smmpm or Zicfilp",
        "-cpu rv64,smepmp=off,zkr=off,smmpm=off,zicfilp=off",
      ),
    ],
  );
}
export type QemuHart = StateOf<ReturnType<typeof define>>;

const definitions = new Map<Release, StateDefinition<QemuHart>>();

/** The `cpu` section of a release. */
export function hartDefinition(release: Release): StateDefinition<QemuHart> {
  const known = definitions.get(release);
  if (known !== undefined) return known;
  const definition = define(release);
  definitions.set(release, definition);
  return definition;
}
