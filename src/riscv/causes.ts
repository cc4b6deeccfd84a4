// Exceptions and interrupts: their numbers in mcause, mip, mie and the delegation registers, and their
// descriptions (privileged specification, 3.1.9 and 3.1.15). Numbers of extensions that harts here do not
// have are for streams of other machines.
import { bitNames } from "../base/text.ts";
import { bit, bits, fieldOf } from "./bits.ts";

const EXCEPTIONS = {
  INSTRUCTION_MISALIGNED: [0, "instruction address misaligned"],
  INSTRUCTION_ACCESS: [1, "instruction access fault"],
  ILLEGAL_INSTRUCTION: [2, "illegal instruction"],
  BREAKPOINT: [3, "breakpoint"],
  LOAD_MISALIGNED: [4, "load address misaligned"],
  LOAD_ACCESS: [5, "load access fault"],
  STORE_MISALIGNED: [6, "store address misaligned"],
  STORE_ACCESS: [7, "store access fault"],
  /** From U-mode; for S and M add the privilege mode. */
  ECALL: [8, "ecall from U"],
  ECALL_S: [9, "ecall from S"],
  ECALL_VS: [10, "ecall from VS"],
  ECALL_M: [11, "ecall from M"],
  INSTRUCTION_PAGE: [12, "instruction page fault"],
  LOAD_PAGE: [13, "load page fault"],
  STORE_PAGE: [15, "store page fault"],
} as const;

type Causes = { readonly [K in keyof typeof EXCEPTIONS]: (typeof EXCEPTIONS)[K][0] };
/** Exception codes of mcause and scause. */
export const CAUSE = Object.fromEntries(
  Object.entries(EXCEPTIONS).map(([name, [code]]) => [name, code]),
) as Causes;
const EXCEPTION_WORDS = new Map<number, string>(Object.values(EXCEPTIONS));

/** Interrupt numbers: bits of mip, mie, mideleg, sip and sie; with CAUSE_INTERRUPT causes. */
export const INTERRUPT = {
  SSI: 1,
  VSSI: 2,
  MSI: 3,
  STI: 5,
  VSTI: 6,
  MTI: 7,
  SEI: 9,
  VSEI: 10,
  MEI: 11,
  SGEI: 12,
  LCOFI: 13,
} as const;
/** Set in the cause of an interrupt. */
export const CAUSE_INTERRUPT = bit(63);

/** mip's bits as masks. */
export const MIP = {
  SSIP: bit(INTERRUPT.SSI),
  MSIP: bit(INTERRUPT.MSI),
  STIP: bit(INTERRUPT.STI),
  MTIP: bit(INTERRUPT.MTI),
  SEIP: bit(INTERRUPT.SEI),
  MEIP: bit(INTERRUPT.MEI),
} as const;

/** Interrupts that can be delegated to S-mode, and all that a hart here has. */
export const SUPERVISOR_INTERRUPTS = MIP.SSIP | MIP.STIP | MIP.SEIP;
export const INTERRUPTS = SUPERVISOR_INTERRUPTS | MIP.MSIP | MIP.MTIP | MIP.MEIP;
/** Exceptions that can be delegated to S-mode: all of a hart here except an environment call from M. */
export const DELEGABLE = bits(
  ...Object.values(CAUSE).filter((code) => code !== CAUSE.ECALL_VS && code !== CAUSE.ECALL_M),
);

/** mip's bits by number, as their names. */
const INTERRUPT_NAMES: Readonly<Record<number, string>> = Object.fromEntries(
  Object.entries(INTERRUPT).map(([name, n]) => [n, `${name}P`]),
);

/** The bits of mip, mie and mideleg, described. */
export const interruptWords = (mip: bigint): string | undefined => bitNames(mip, INTERRUPT_NAMES);

/** A cause of a 64-bit hart, described. */
export function causeWords(cause: bigint): string | undefined {
  const code = fieldOf(cause, 0, 6);
  return (cause & CAUSE_INTERRUPT) === 0n
    ? EXCEPTION_WORDS.get(code)
    : `interrupt ${INTERRUPT_NAMES[code] ?? code}`;
}
