// Describes plain fields of QEMU's sections whose numbers are flags or codes: registers of processors (RISC-V
// privileged specification; Intel SDM volume 3; Arm ARM; z/Architecture Principles of Operation; Power ISA),
// interrupt requests, timers, run state, clocks. Only the field's name is known, so only unambiguous names
// are listed.
import { bitNames, decodeUtf8 } from "../../base/text.ts";
import { fieldOf as field, NEVER } from "../../riscv/bits.ts";
import { causeWords, interruptWords } from "../../riscv/causes.ts";
import { misaWords } from "../../riscv/extensions.ts";
import { satpWords } from "../../riscv/paging.ts";
import { registerEntries } from "../../riscv/registers.ts";
import { statusWords } from "../../riscv/status.ts";
import type { FieldValue } from "../model/stream-report.ts";
import { sysregName } from "./arm-sysregs.ts";
import { table } from "./field-layout.ts";
import type { Bits } from "./virtio-features.ts";

type Words = (value: bigint, index: number) => string | undefined;

const flags =
  (bits: Bits): Words =>
  (value) =>
    bitNames(value, bits);
const codes =
  (...names: readonly string[]): Words =>
  (value) =>
    names[Number(value)];

// RISC-V: registers of the table, and those that Wherry's harts do not have.
const misa: Words = (value) => misaWords(value) || undefined;
const riscvWords: Readonly<Record<string, Words>> = Object.fromEntries(
  registerEntries.flatMap(([, { qemu, words }]) =>
    qemu === undefined || words === undefined ? [] : [[`env.${qemu}`, words]],
  ),
);

// x86.
const CR0: Bits = {
  0: "PE",
  1: "MP",
  2: "EM",
  3: "TS",
  4: "ET",
  5: "NE",
  16: "WP",
  18: "AM",
  29: "NW",
  30: "CD",
  31: "PG",
};
const CR4 = namesFrom(
  "VME PVI TSD DE PSE PAE MCE PGE PCE OSFXSR OSXMMEXCPT UMIP LA57 VMXE SMXE . FSGSBASE PCIDE OSXSAVE KL SMEP SMAP PKE CET PKS",
);
const EFER: Bits = { 0: "SCE", 8: "LME", 10: "LMA", 11: "NXE", 12: "SVME", 14: "FFXSR", 15: "TCE" };
const EFLAGS = namesFrom("CF . PF . AF . ZF SF TF IF DF OF . . NT . RF VM AC VIF VIP ID");
const EFLAGS_ALWAYS = 2n;
const controlRegister: Words = (value, index) => {
  if (index === 0) return bitNames(value, CR0);
  return index === 4 ? bitNames(value, CR4) : undefined;
};
const DELIVERY = ["fixed", "lowest priority", "SMI", undefined, "NMI", "INIT", undefined, "ExtINT"];
/** An entry of an I/O APIC's table or of a local APIC's vector table: both have the same low half. */
const interruptEntry: Words = (value) =>
  [
    `vector 0x${field(value, 0, 8).toString(16)}`,
    field(value, 8, 3) === 0 ? undefined : DELIVERY[field(value, 8, 3)],
    field(value, 15, 1) === 1 ? "level" : undefined,
    field(value, 16, 1) === 1 ? "masked" : undefined,
  ]
    .filter((part) => part !== undefined)
    .join(", ");
const APIC_BASE: Bits = { 8: "boot processor", 10: "x2APIC", 11: "enabled" };
const MP_STATES = codes("runnable", "uninitialized", "init received", "halted", "SIPI received");

/** A table of bits from 0 up, by name; `.` stands for a bit without a name. */
function namesFrom(names: string): Bits {
  return Object.fromEntries([...names.split(" ").entries()].filter(([, name]) => name !== "."));
}

// Arm, s390, POWER.
const PSTATE_MODES = table({ 0: "EL0t", 4: "EL1t", 5: "EL1h", 8: "EL2t", 9: "EL2h", 12: "EL3t", 13: "EL3h" });
const AARCH32_MODES = table({
  16: "USR",
  17: "FIQ",
  18: "IRQ",
  19: "SVC",
  22: "MON",
  23: "ABT",
  26: "HYP",
  27: "UND",
  31: "SYS",
});
const CPSR: Bits = { 6: "F", 7: "I", 8: "A", 9: "D", 20: "IL", 21: "SS", 28: "V", 29: "C", 30: "Z", 31: "N" };
const CPSR_NAMED = 0xf03003c0n;
const cpsr: Words = (value) => {
  const wide = (value & 0x10n) === 0n;
  const mode = wide ? PSTATE_MODES.get(String(value & 0xfn)) : AARCH32_MODES.get(String(value & 0x1fn));
  return (
    [mode, bitNames(value & CPSR_NAMED, CPSR)].filter((part) => part !== undefined).join(" ") || undefined
  );
};
/** Bit 0 of a PSW is the most significant. */
const PSW_MASK: Bits = {
  62: "PER",
  58: "DAT",
  57: "I/O",
  56: "external",
  50: "machine check",
  49: "wait",
  48: "problem",
  32: "31-bit",
  31: "64-bit",
};
const MSR: Bits = {
  0: "LE",
  1: "RI",
  4: "DR",
  5: "IR",
  8: "FE1",
  9: "BE",
  10: "SE",
  11: "FE0",
  12: "ME",
  13: "FP",
  14: "PR",
  15: "EE",
  23: "VSX",
  25: "VEC",
  60: "HV",
  63: "SF",
};

// All of them.
const INTERRUPT_REQUEST: Bits = { 1: "hard", 2: "exit", 5: "halt", 7: "debug", 10: "reset" };
const NANOSECONDS = 1_000_000_000n;
const seconds = (value: bigint): string => {
  const whole = value / NANOSECONDS;
  return `${whole}.${(value % NANOSECONDS).toString().padStart(9, "0")} s`;
};
const FAR = 1n << 62n;
/** A date from milliseconds since 1970, for 2001 to 2099; other numbers have another meaning. */
const date = (milliseconds: bigint): string | undefined =>
  milliseconds >= 1_000_000_000_000n && milliseconds < 4_102_444_800_000n
    ? new Date(Number(milliseconds)).toISOString()
    : undefined;
/** Expiry in the clock's nanoseconds, as a date for the host's clock. An unarmed timer has -1. */
const timer: Words = (value) => {
  if (value === NEVER || value < 0n) return "not armed";
  return value >= FAR ? "never" : (date(value / 1_000_000n) ?? seconds(value));
};
/** Goldfish's clock counts nanoseconds, PL031's seconds. */
const clock: Words = (value) => date(value > 0xffffffffn ? value / 1_000_000n : value * 1000n);
const duration: Words = (value) => (value < 0n ? `-${seconds(-value)}` : seconds(value));

const WORDS: ReadonlyMap<string, Words> = table<Words>({
  ...riscvWords,
  "env.vsstatus": statusWords,
  "env.mstatus_hs": statusWords,
  "env.hideleg": interruptWords,
  "env.miclaim": interruptWords,
  "env.vscause": causeWords,
  "env.vsatp": satpWords,
  "env.misa_ext": misa,
  "env.misa_ext_mask": misa,
  "env.misa_mxl": codes("", "RV32", "RV64", "RV128"),
  "env.misa_mxl_max": codes("", "RV32", "RV64", "RV128"),
  "env.priv_ver": codes("1.10", "1.11", "1.12", "1.13"),

  "env.cr": controlRegister,
  "env.efer": flags(EFER),
  "env.eflags": (value) => bitNames(value & ~EFLAGS_ALWAYS, EFLAGS),
  "env.mp_state": MP_STATES,
  apicbase: (value) => bitNames(value & 0xfffn, APIC_BASE),
  ioredtbl: interruptEntry,
  lvt: interruptEntry,

  cpreg_vmstate_indexes: sysregName,
  cpsr,
  "env.psw.mask": flags(PSW_MASK),
  "env.cpu_state": codes("uninitialized", "stopped", "check stop", "operating", "load"),
  "env.msr": flags(MSR),

  // A serial port (16550), in QEMU's `serial`.
  ier: flags(namesFrom("received transmitted line modem")),
  lcr: (value) => `${5 + field(value, 0, 2)} bits${field(value, 7, 1) === 1 ? ", divisor shown" : ""}`,
  lsr: flags(namesFrom("data overrun parity framing break THRE TEMT FIFO")),

  halted: codes("", "waits for an interrupt"),
  interrupt_request: flags(INTERRUPT_REQUEST),
  crash_occurred: (value) => (value === 0n ? undefined : "the guest has crashed"),
  power_state: codes("on", "off", "turning on"),
  cpu_clock_offset: duration,
  base_rtc: (value) => date(value * 1000n),
  tick_offset: clock,
  tick_offset_vmstate: clock,
  saved_at: clock,
  config_reg: (value) => ((value & 0x80000000n) === 0n ? undefined : configAddress(value)),
});

/** Register 0xcf8 of a PC's host bridge: selects the config space that 0xcfc accesses. */
function configAddress(value: bigint): string {
  const part = (at: number, width: number): string => field(value, at, width).toString(16).padStart(2, "0");
  return `${part(16, 8)}:${part(11, 5)}.${field(value, 8, 3)} register 0x${part(0, 8)}`;
}

const TEXTS = new Set(["runstate", "name"]);

/** Characters up to the first zero, if they are printable. */
function text(bytes: Uint8Array): string | undefined {
  const end = bytes.indexOf(0);
  const used = end < 0 ? bytes : bytes.subarray(0, end);
  return used.length > 0 && used.every((byte) => byte >= 0x20 && byte < 0x7f) ? decodeUtf8(used) : undefined;
}

/**
 * Describes a plain value; undefined if there is nothing to add. `name` is the field's name in the
 * VMDESCRIPTION, with `[3]` appended for an element of an array. `type` is the VMDESCRIPTION's.
 */
export function describeValue(name: string, type: string, value: FieldValue): string | undefined {
  if (value instanceof Uint8Array) return type === "buffer" && TEXTS.has(name) ? text(value) : undefined;
  if (typeof value !== "bigint") return undefined;
  if (type === "timer") return timer(value, 0);
  const bracket = name.endsWith("]") ? name.lastIndexOf("[") : -1;
  const words = WORDS.get(bracket < 0 ? name : name.slice(0, bracket));
  return words?.(value, bracket < 0 ? 0 : Number(name.slice(bracket + 1, -1))) || undefined;
}
