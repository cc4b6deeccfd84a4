// All registers of a hart, and other state of a vCPU: one row each. The rows define the schema and the
// offsets of the hart's state (hart-state.ts), the CSR file (rows with `csr`; side effects of accesses are in
// the engine), ONE_REG, the VMM's copy of a vCPU, moves to and from QEMU, the names in assembler and
// disassembler, and the inspector's descriptions. The order is that of the `cpu` section in a stream: a row
// that is in streams must keep its place. Privileged specification, chapters 2 to 4; unprivileged: Zicsr,
// Zicntr, Zihpm, F; Sstc.
import { u32, u64, u64Array, u8Array } from "../state/schema.ts";
import { ALL_ONES } from "../base/uint64.ts";
import { CODE_ADDRESS, LOW_32, NEVER } from "./bits.ts";
import { causeWords, DELEGABLE, interruptWords, INTERRUPTS, MIP, SUPERVISOR_INTERRUPTS } from "./causes.ts";
import { INHIBITABLE, MENVCFG_WRITABLE, SENVCFG_WRITABLE } from "./envcfg.ts";
import { MISA } from "./extensions.ts";
import {
  FWFT_LOCKS,
  FWFT_MISALIGNED_HANDLED,
  PMU_COUNTERS,
  PMU_EVENT_MAX,
  PMU_FIRMWARE,
} from "./firmware-features.ts";
import { PMP_ENTRIES, PMPADDR_WRITABLE, satpWords } from "./paging.ts";
import { isPrivilege, PRIV, PRIVILEGE_NAMES, PRIVILEGES } from "./privilege.ts";
import { core, csr, fpD, RAW, type Register, sta, timer, wherry } from "./register-row.ts";
import { MSTATUS_FIXED, MSTATUS_WRITABLE, SSTATUS_WRITABLE, statusWords } from "./status.ts";

const ALL = ALL_ONES;
const x = u64Array(32).check((values) => (values[0] === 0n ? undefined : "x0 of 0"));
const privilege = u32.init(PRIV.M).check((p) => (isPrivilege(p) ? undefined : PRIVILEGES));
const pending = u64.check((mip) =>
  (mip & ~SUPERVISOR_INTERRUPTS) === 0n
    ? undefined
    : `software-owned bits alone (0x${SUPERVISOR_INTERRUPTS.toString(16)})`,
);
const onlyBits = (mask: bigint) => (value: number) =>
  (BigInt(value) & ~mask) === 0n ? undefined : `bits of 0x${mask.toString(16)} alone`;
const isFirmwareFeatures = onlyBits(FWFT_LOCKS | FWFT_MISALIGNED_HANDLED);
const isFirmwareCounters = onlyBits(PMU_FIRMWARE);
const never = u64.init(NEVER);
const privilegeWords = (p: bigint) => PRIVILEGE_NAMES[Number(p)];
const neverWords = (ticks: bigint) => (ticks === NEVER ? "never" : undefined);
const ROUNDING_WORDS = ["nearest, ties to even", "toward zero", "down", "up", "nearest, ties away"];

export const REGISTERS = {
  pc: { field: u64, oneReg: core(0), qemu: "pc" },
  x: { field: x, oneReg: core(0), skip: 1, qemu: "gpr" },
  f: { field: u64Array(32), oneReg: fpD(0), qemu: "fpr" },
  fcsr: { csr: 0x003, copyField: u32.range(0, 0xff), oneReg: { ...fpD(32), size: 32 } },
  fflags: { csr: 0x001, field: u32, writable: 0x1fn },
  frm: { csr: 0x002, field: u32, writable: 7n, qemu: "frm", words: (frm) => ROUNDING_WORDS[Number(frm)] },
  priv: { field: privilege, oneReg: wherry(5), qemu: "priv", words: privilegeWords },

  mhartid: { csr: 0xf14, field: u64, oneReg: RAW, qemu: "mhartid" },
  stvec: { csr: 0x105, field: u64, writable: ALL, oneReg: csr(2), qemu: "stvec" },
  sscratch: { csr: 0x140, field: u64, writable: ALL, oneReg: csr(3), qemu: "sscratch" },
  sepc: { csr: 0x141, field: u64, writable: CODE_ADDRESS, oneReg: csr(4), qemu: "sepc" },
  scause: { csr: 0x142, field: u64, writable: ALL, oneReg: csr(5), qemu: "scause", words: causeWords },
  stval: { csr: 0x143, field: u64, writable: ALL, oneReg: csr(6), qemu: "stval" },
  satp: { csr: 0x180, field: u64, writable: ALL, oneReg: csr(8), qemu: "satp", words: satpWords },
  scounteren: { csr: 0x106, field: u64, writable: LOW_32, oneReg: csr(9), qemu: "scounteren" },
  senvcfg: { csr: 0x10a, field: u64, writable: SENVCFG_WRITABLE, oneReg: csr(10), qemu: "senvcfg" },

  mstatus: {
    csr: 0x300,
    field: u64.init(MSTATUS_FIXED),
    writable: MSTATUS_WRITABLE,
    oneReg: RAW,
    qemu: "mstatus",
    words: statusWords,
  },
  medeleg: { csr: 0x302, field: u64, writable: DELEGABLE, oneReg: RAW, qemu: "medeleg" },
  mideleg: {
    csr: 0x303,
    field: u64,
    writable: SUPERVISOR_INTERRUPTS,
    oneReg: RAW,
    qemu: "mideleg",
    words: interruptWords,
  },
  mie: { csr: 0x304, field: u64, writable: INTERRUPTS, oneReg: RAW, qemu: "mie", words: interruptWords },
  mtvec: { csr: 0x305, field: u64, writable: ALL, oneReg: RAW, qemu: "mtvec" },
  mcounteren: { csr: 0x306, field: u64, writable: LOW_32, oneReg: RAW, qemu: "mcounteren" },
  menvcfg: { csr: 0x30a, field: u64, writable: MENVCFG_WRITABLE, oneReg: RAW, qemu: "menvcfg" },
  /** menvcfg.ADUE, inverted: streams without it are from harts that always set A and D. */
  svade: { field: u32.range(0, 1), oneReg: wherry(7), subsection: true },
  /** SBI's firmware features: locks, and values without a register of their own (firmware-features.ts). */
  fwft: { field: u32.check(isFirmwareFeatures), oneReg: wherry(8), level: "RESET", subsection: true },
  mcountinhibit: { csr: 0x320, field: u64, writable: INHIBITABLE, oneReg: RAW, qemu: "mcountinhibit" },
  mscratch: { csr: 0x340, field: u64, writable: ALL, oneReg: RAW, qemu: "mscratch" },
  mepc: { csr: 0x341, field: u64, writable: CODE_ADDRESS, oneReg: RAW, qemu: "mepc" },
  mcause: { csr: 0x342, field: u64, writable: ALL, oneReg: RAW, qemu: "mcause", words: causeWords },
  mtval: { csr: 0x343, field: u64, writable: ALL, oneReg: RAW, qemu: "mtval" },
  mcycle: { csr: 0xb00, field: u64, writable: ALL, oneReg: RAW },
  minstret: { csr: 0xb02, field: u64, writable: ALL, oneReg: RAW },
  /** Eight entries in each CSR of 64 bits; only even numbers exist. ONE_REG has a register for each entry. */
  pmpcfg: { csr: 0x3a0, count: 2, step: 2, field: u8Array(PMP_ENTRIES), oneReg: RAW },
  pmpaddr: {
    csr: 0x3b0,
    count: PMP_ENTRIES,
    field: u64Array(PMP_ENTRIES),
    writable: PMPADDR_WRITABLE,
    oneReg: RAW,
  },
  /** Bits that software owns; the rest are lines of the interrupt controllers and of the timers. */
  mip: {
    csr: 0x344,
    field: pending,
    writable: SUPERVISOR_INTERRUPTS,
    oneReg: wherry(6),
    level: "RESET",
    qemu: "mip",
    words: interruptWords,
  },

  // State that the firmware and the hypervisor have for a vCPU. mpState is not a ONE_REG register, but
  // KVM_GET_MP_STATE's; halted (waiting for an interrupt in WFI) is in the section `cpu_common`.
  mpState: { copyField: u32 },
  halted: { oneReg: wherry(0), level: "RESET" },
  /**
   * Address and argument of a pending SBI hart_start, or of a resume; the suspend type of SBI SUSP or HSM.
   */
  startAddress: { copyField: u64, oneReg: wherry(1), level: "RESET" },
  startArgument: { copyField: u64, oneReg: wherry(2), level: "RESET" },
  suspendType: { copyField: u64, oneReg: wherry(3), level: "RESET" },
  /** Steal time: guest-physical address of the shared page, and the ns so far. */
  stealTimeShmem: { copyField: never, oneReg: sta(0), level: "RESET" },
  stealNs: { copyField: u64, oneReg: wherry(4), level: "RESET" },
  /**
   * SBI's counters (firmware-features.ts): each one's event or 0, the values and the bits of the running ones
   * among the firmware's, and the address of the page for snapshots, or 0. Other harts count events.
   */
  pmuEvent: {
    field: u64Array(PMU_COUNTERS).range(0n, PMU_EVENT_MAX),
    oneReg: wherry(0x20),
    level: "RESET",
    subsection: true,
  },
  pmuValue: { field: u64Array(PMU_COUNTERS), oneReg: wherry(0x40), level: "RESET", subsection: true },
  pmuRuns: { field: u32.check(isFirmwareCounters), oneReg: wherry(9), level: "RESET", subsection: true },
  pmuSnapshot: { field: u64, oneReg: wherry(10), level: "RESET", subsection: true },
  timerTime: { copyField: u64, oneReg: timer(1), level: "RESET" },
  stimecmp: {
    csr: 0x14d,
    field: never,
    writable: ALL,
    oneReg: timer(2),
    copyName: "timerCompare",
    level: "RESET",
    qemu: "stimecmp",
    words: neverWords,
  },

  // Views of registers above, and KVM's registers for S-mode.
  sstatus: { csr: 0x100, writable: SSTATUS_WRITABLE, oneReg: csr(0) },
  sie: { csr: 0x104, writable: SUPERVISOR_INTERRUPTS, oneReg: csr(1) },
  sip: { csr: 0x144, writable: MIP.SSIP, oneReg: csr(7) },
  cycle: { csr: 0xc00 },
  time: { csr: 0xc01 },
  instret: { csr: 0xc02 },

  // Counters that do not count, machine identification, triggers that do not exist.
  hpmcounter: { csr: 0xc03, count: 29, first: 3, constant: 0n },
  mhpmcounter: { csr: 0xb03, count: 29, first: 3, constant: 0n },
  mhpmevent: { csr: 0x323, count: 29, first: 3, constant: 0n },
  misa: { csr: 0x301, constant: MISA },
  mvendorid: { csr: 0xf11, constant: 0n },
  marchid: { csr: 0xf12, constant: 0n },
  mimpid: { csr: 0xf13, constant: 0n },
  mconfigptr: { csr: 0xf15, constant: 0n },
  /**
   * Registers of the hypervisor extension, which is absent: OpenSBI that has started on QEMU's harts reads
   * them at each trap.
   */
  mtinst: { csr: 0x34a, constant: 0n },
  mtval2: { csr: 0x34b, constant: 0n },
  tselect: { csr: 0x7a0, constant: 0n },
  tdata: { csr: 0x7a1, count: 3, first: 1, constant: 0n },
  /** 1: the selected trigger does not exist. Software that counts triggers reads it. */
  tinfo: { csr: 0x7a4, constant: 1n },
} as const satisfies Readonly<Record<string, Register>>;

export type RegisterName = keyof typeof REGISTERS;
export const registerEntries = Object.entries(REGISTERS) as readonly (readonly [RegisterName, Register])[];

type QemuRegister = {
  [K in RegisterName]: (typeof REGISTERS)[K] extends { readonly qemu: string } ? K : never;
}[RegisterName];
/** The field's name in the VMDESCRIPTIONs of QEMU's releases. */
export const qemuNameOf = (register: QemuRegister): string => `env.${REGISTERS[register].qemu}`;

/** Number of registers in a row; undefined for a single one that is not an array's element. */
export function lengthOf({ field }: Register): number | undefined {
  const value: unknown = field?.codec.create();
  return value instanceof Uint8Array || value instanceof BigUint64Array ? value.length : undefined;
}

/** One CSR. A row of several has several: `index` is the position in the row. */
export interface Csr {
  readonly name: string;
  readonly number: number;
  readonly register: RegisterName;
  readonly index: number;
}

export const CSRS: readonly Csr[] = registerEntries.flatMap(([register, { csr: number, ...row }]) =>
  number === undefined
    ? []
    : Array.from({ length: row.count ?? 1 }, (_, index) => {
        const { first = 0, step = 1 } = row;
        const name = row.count === undefined ? register : `${register}${first + index * step}`;
        return { name, number: number + index * step, register, index };
      }),
);

export const CSR_NUMBERS: ReadonlyMap<string, number> = new Map(
  CSRS.map(({ name, number }) => [name, number]),
);
const CSR_NAMES = new Map(CSRS.map(({ name, number }) => [number, name]));
/** Its name, or its number in hexadecimal. */
export const csrName = (number: number): string => CSR_NAMES.get(number) ?? `0x${number.toString(16)}`;
