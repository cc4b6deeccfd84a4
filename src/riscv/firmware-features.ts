// State of SBI's firmware features (SBI 3.0, chapter 18) and of its performance counters (chapter 11) in the
// register table.
import { bit, bits } from "./bits.ts";

/** Feature types. */
export const FEATURE = {
  MISALIGNED_EXC_DELEG: 0,
  LANDING_PAD: 1,
  SHADOW_STACK: 2,
  DOUBLE_TRAP: 3,
  PTE_AD_HW_UPDATING: 4,
  POINTER_MASKING_PMLEN: 5,
} as const;

/** Bits of the register `fwft`: the feature with this number is locked; and a value that has no register. */
export const FWFT_LOCKS = bits(FEATURE.MISALIGNED_EXC_DELEG, FEATURE.PTE_AD_HW_UPDATING);
export const FWFT_MISALIGNED_HANDLED = bit(16);

/** Logical counters: cycles, none (CSR time is no counter), instructions, then the firmware's. */
export const PMU_CYCLES = 0;
export const PMU_INSTRUCTIONS = 2;
export const PMU_FIRST_FIRMWARE = 3;
export const PMU_COUNTERS = 19;
/** Bits of the register `pmuRuns`. */
export const PMU_FIRMWARE = bits(
  ...Array.from({ length: PMU_COUNTERS - PMU_FIRST_FIRMWARE }, (_, i) => PMU_FIRST_FIRMWARE + i),
);
/** An event has 20 bits. */
export const PMU_EVENT_MAX = (1n << 20n) - 1n;
