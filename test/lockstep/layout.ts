// The layout of the RAM of a lock-step program, and its mappings in the address spaces. A place is an offset
// in the first 512 KiB; the kernel (kernel.s, which has its own copies) moves pc and pointers between the
// spaces by keeping their low 19 bits.

export const RAM_SIZE = 0x80000;
/**
 * Offset of the copy of the code, which has the same layout and which some address spaces map instead. RAM
 * ends after it.
 */
export const COPY = 0x80000;
export const RAM_TOTAL = 0x100000;
/** The kernel's data page; see kernel.s for the offsets in it. */
export const KERNEL_DATA = 0x2000;
export const DATA = {
  coin: 0x00,
  traps: 0x10,
  landing: 0x18,
  good: 0x20,
  medeleg: 0x40,
  mideleg: 0x48,
  spaces: 0x80,
} as const;
/** A page that stays readable and writable. */
export const STACK = 0x3000;
export const TABLES = 0x4000;
export const TABLES_END = 0x40000;
export const CODE = 0x40000;
export const CODE_SIZE = 0x20000;
export const SCRATCH = 0x60000;
export const SCRATCH_SIZE = 0x20000;

/** A space's window maps RAM four times: twice for S-mode, twice for U-mode. */
export const WINDOW_COUNT = 4;

/**
 * Global mappings of all spaces, for S-mode: all RAM for the kernel, and again for programs with random
 * permissions.
 */
export const KERNEL_ALIAS = 0xffff_ffd0_0000_0000n;
export const PROGRAM_ALIAS = 0x1000_0000n;
