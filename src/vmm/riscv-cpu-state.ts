// A RISC-V vCPU's state in the VMM (the cached copy), and the level at which each part is written back. Each
// row of the table maps a field to its ONE_REG id.
import {
  CSR_GENERAL,
  CSR_SUBTYPE,
  oneReg,
  REG_TYPE,
  TIMER_REGS,
  WHERRY_REG,
} from "../accelerator/one-reg-ids.ts";
import {
  defineState,
  type StateOf,
  subsection,
  u32,
  u64,
  u64Array,
  u8Array,
  varBuffer,
} from "../state/schema.ts";

/** QEMU's KVM_PUT_*_STATE. */
export const PUT = { RUNTIME: 1, RESET: 2, FULL: 3 } as const;
export type PutLevel = (typeof PUT)[keyof typeof PUT];

const RISCV_MP_STATES = [0, 2, 5, 10];

/**
 * `kept` is this hart's section of another VMM's stream as it was last loaded, and `keptVersion` its version:
 * its content that no hart here has is written back if the guest returns. A reset clears it.
 */
export const cpuState = defineState(
  "cpu",
  { version: 1, minimumVersion: 1 },
  {
    pc: u64,
    x: u64Array(32).check((x) => (x[0] === 0n ? undefined : "x0 of 0")),
    f: u64Array(32),
    fcsr: u32.range(0, 0xff),
    priv: u32.check((p) => (p === 0 || p === 1 || p === 3 ? undefined : "0 (U), 1 (S) or 3 (M)")),
    mhartid: u64,
    stvec: u64,
    sscratch: u64,
    sepc: u64,
    scause: u64,
    stval: u64,
    satp: u64,
    scounteren: u64,
    senvcfg: u64,
    mstatus: u64,
    medeleg: u64,
    mideleg: u64,
    mie: u64,
    mtvec: u64,
    mcounteren: u64,
    menvcfg: u64,
    mcountinhibit: u64,
    mscratch: u64,
    mepc: u64,
    mcause: u64,
    mtval: u64,
    mcycle: u64,
    minstret: u64,
    pmpcfg: u8Array(16),
    pmpaddr: u64Array(16),
    mip: u64.check((m) => ((m & ~0x222n) === 0n ? undefined : "software-owned bits alone (0x222)")),
    mpState: u32.check((m) =>
      RISCV_MP_STATES.includes(m) ? undefined : `one of ${RISCV_MP_STATES.join(", ")}`,
    ),
    startAddress: u64,
    startArgument: u64,
    suspendType: u64,
    stealTimeShmem: u64,
    stealNs: u64,
    timerTime: u64,
    timerCompare: u64,
  },
  [
    subsection(
      "cpu/kept",
      { version: 1, needed: (s) => s.keptVersion !== 0 },
      { keptVersion: u32, keptLength: u32, kept: varBuffer("keptLength", 16384) },
    ),
  ],
);
export type CpuState = StateOf<typeof cpuState>;

/**
 * QEMU's cpu_common: waiting in WFI. `interruptRequest` is always 0 here: lines are driven again after a
 * load.
 */
export const cpuCommonState = defineState(
  "cpu_common",
  { version: 1, minimumVersion: 1 },
  { halted: u32.range(0, 1), interruptRequest: u32 },
);
export type CpuCommonState = StateOf<typeof cpuCommonState>;

interface Row {
  readonly field: keyof CpuState | "halted";
  readonly element: number | undefined;
  readonly id: bigint;
  /** Written at this level and higher levels. */
  readonly from: PutLevel;
}

function row(field: Row["field"], id: bigint, from: PutLevel = PUT.RUNTIME, element?: number): Row {
  return { field, element, id, from };
}

function elements(field: keyof CpuState, n: number, id: (i: number) => bigint, first = 0): Row[] {
  return Array.from({ length: n - first }, (_, i) => row(field, id(i + first), PUT.RUNTIME, i + first));
}

const csr = (name: (typeof CSR_GENERAL)[number]): bigint => oneReg(REG_TYPE.CSR, CSR_GENERAL.indexOf(name));
const raw = (number: number): bigint => oneReg(REG_TYPE.CSR, number, CSR_SUBTYPE.WHERRY_RAW);
const wherry = (name: keyof typeof WHERRY_REG): bigint => oneReg(REG_TYPE.WHERRY, WHERRY_REG[name]);
const timer = (name: (typeof TIMER_REGS)[number]): bigint => oneReg(REG_TYPE.TIMER, TIMER_REGS.indexOf(name));

/**
 * mstatus, mie and mip are whole registers: the table does not use KVM's partial views of them (sstatus, sie,
 * sip).
 */
export const CPU_ROWS: readonly Row[] = [
  row("pc", oneReg(REG_TYPE.CORE, 0)),
  ...elements("x", 32, (i) => oneReg(REG_TYPE.CORE, i), 1),
  ...elements("f", 32, (i) => oneReg(REG_TYPE.FP_D, i)),
  row("fcsr", oneReg(REG_TYPE.FP_D, 32, 0, 32)),
  row("priv", wherry("privilege")),
  row("stvec", csr("stvec")),
  row("sscratch", csr("sscratch")),
  row("sepc", csr("sepc")),
  row("scause", csr("scause")),
  row("stval", csr("stval")),
  row("satp", csr("satp")),
  row("scounteren", csr("scounteren")),
  row("senvcfg", csr("senvcfg")),
  row("mhartid", raw(0xf14)),
  row("mstatus", raw(0x300)),
  row("medeleg", raw(0x302)),
  row("mideleg", raw(0x303)),
  row("mie", raw(0x304)),
  row("mtvec", raw(0x305)),
  row("mcounteren", raw(0x306)),
  row("menvcfg", raw(0x30a)),
  row("mcountinhibit", raw(0x320)),
  row("mscratch", raw(0x340)),
  row("mepc", raw(0x341)),
  row("mcause", raw(0x342)),
  row("mtval", raw(0x343)),
  row("mcycle", raw(0xb00)),
  row("minstret", raw(0xb02)),
  ...elements("pmpcfg", 16, (i) => raw(0x3a0 + i)),
  ...elements("pmpaddr", 16, (i) => raw(0x3b0 + i)),
  // Owned by the irqchip, the timer or the firmware while the hart runs: never written at RUNTIME.
  row("mip", wherry("pending"), PUT.RESET),
  row("halted", wherry("halted"), PUT.RESET),
  row("startAddress", wherry("startAddress"), PUT.RESET),
  row("startArgument", wherry("startArgument"), PUT.RESET),
  row("suspendType", wherry("suspendType"), PUT.RESET),
  row("stealTimeShmem", oneReg(REG_TYPE.SBI_STATE, 0), PUT.RESET),
  row("stealNs", wherry("stealNs"), PUT.RESET),
  row("timerTime", timer("time"), PUT.RESET),
  row("timerCompare", timer("compare"), PUT.RESET),
];
