// The engine's scratch words in each hart's area of the shared memory, beside its state: reservation, events, the window,
// counters, heat. Rebuilt, never saved. What lies in the contexts is in hart/tlb-context.ts.

/** Rebuilt, never saved. */
export const SCRATCH = {
  /** Address of the LR reservation with the width in its low bits (0: none), and the value that LR read. */
  reservation: 0x10000,
  reservedValue: 0x10008,
  /** Exception cause of a translation that failed, or NO_FAULT. */
  fault: 0x10010,
  /** Guest-physical address of the last translation. */
  guestPhys: 0x10018,
  /** EVENT_*: what the last slow path wants of the interpreter. */
  event: 0x10020,
  /** CONFIG_* bits. */
  config: 0x10028,
  /** Non-zero once run() has made the TLBs' memory valid. */
  ready: 0x1002c,
  /** LEAF_* of the last translation. */
  leaf: 0x10030,
  /** Address of the context of U-mode in the current address space. */
  userContext: 0x10034,
  /** u32: counts address-space switches. */
  spaceClock: 0x10038,
  /** Addresses of the contexts in use (hart-tlb.ts): of loads and stores, of fetches and jumps. */
  dataContext: 0x10050,
  fetchContext: 0x10054,
  /**
   * The window: guest-physical addresses, of one slot, where PMP lets every privilege do all and the slot may be
   * written. First address, bytes (0: none), the slot's entry, host address − guest-physical address.
   */
  windowStart: 0x10100,
  windowSize: 0x10108,
  windowSlot: 0x10110,
  windowDelta: 0x10114,
  /** What pmpOpenRange found: first address, and the one after the last. */
  openStart: 0x10118,
  openEnd: 0x10120,
  /** Host address of what the reservation is on. */
  reservedHost: 0x1003c,
  /** Always 0, and this hart's alone: what a full fence locks. */
  barrier: 0x10048,
  /** u64: walks that filled a TLB entry. */
  refills: 0x10058,
  /** u64: instructions executed, those that trapped too; no CSR holds or sets it. Exact whenever a CSR or MMIO is accessed. */
  executed: 0x10060,
  /** u64: those of them that translated code executed. */
  translated: 0x10068,
  /** LEAVE_*: why translated code came back (code-dispatch.ts). */
  leave: 0x10070,
  /** CODE_EPOCH of the code cache when the jump caches were last emptied for it. */
  codeEpoch: 0x10078,
  /** The same for CODE_PROTECTION and translations for writing. */
  codeProtection: 0x1007c,
  /** Instructions to the next sample of where translated code spends its time. */
  untilSample: 0x10080,
} as const;

/** How often an address is still to be reached before it is hot: a byte each, by bits of the host address. */
export const HEAT_OFFSET = 0xe0000;
export const HEAT_ENTRIES = 0x10000;
/** How often a sample fell into translated code of a page: a byte each, by bits of the virtual page number. */
export const SAMPLES_OFFSET = HEAT_OFFSET + HEAT_ENTRIES;
export const SAMPLES_ENTRIES = 0x1000;

/** An ecall from S-mode leaves run() with EXIT.ECALL: the firmware is ours. */
export const CONFIG_BUILTIN_FIRMWARE = 1;
/** A write of stimecmp leaves run(), whose budget depends on it. */
export const CONFIG_EXACT_TIMER = 2;
