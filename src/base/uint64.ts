// Unsigned 64-bit values, as BigInts.

/**
 * What "none" is in every register of an address, a mask or a deadline, and what QEMU's timers have while not
 * armed.
 */
export const ALL_ONES = 0xffff_ffff_ffff_ffffn;
