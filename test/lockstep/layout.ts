// The layout of the RAM of a lock-step program, and its mappings in the address spaces. A place is an offset
// in the first 512 KiB; the kernel (kernel.s, which has its own copies) moves pc and pointers between the
// spaces by keeping their low 19 bits.

export const RAM_SIZE = 0x80000;
/**
 * So far behind the code is another, of the same layout: some spaces have that instead. RAM ends behind it.
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

/** Four times RAM from a space's window on: twice as S-mode may use it, twice as U-mode may. */
export const WINDOW_COUNT = 4;

/**
 * Global in all spaces, for S-mode: all RAM for the kernel; and once more for programs, with random rights.
 */
export const KERNEL_ALIAS = 0xffff_ffd0_0000_0000n;
export const PROGRAM_ALIAS = 0x1000_0000n;
