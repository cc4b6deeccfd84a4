// The engine's scratch words in each hart's area of the shared memory, beside its state: reservation, events,
// the window, counters. Rebuilt, never saved. What lies in the contexts is in hart/tlb-context.ts.
import { MemoryRegion } from "./memory-region.ts";
import { SCRATCH_OFFSET, SCRATCH_SIZE } from "./memory-map.ts";

const scratch = new MemoryRegion("scratch", SCRATCH_OFFSET, SCRATCH_OFFSET + SCRATCH_SIZE);

/** Rebuilt, never saved. */
export const SCRATCH = {
  /** Address of the LR reservation with the width in its low bits (0: none), and the value that LR read. */
  reservation: scratch.u64("reservation"),
  reservedValue: scratch.u64("reservedValue"),
  /** Exception cause of a translation that failed, or NO_FAULT. */
  fault: scratch.u32("fault"),
  /** Guest-physical address of the last translation. */
  guestPhys: scratch.u64("guestPhys"),
  /** EVENT_*: what the last slow path wants of the interpreter. */
  event: scratch.u32("event"),
  /** CONFIG_* bits. */
  config: scratch.u32("config"),
  /** Non-zero once run() has made the TLBs' memory valid. */
  ready: scratch.u32("ready"),
  /** LEAF_* of the last translation. */
  leaf: scratch.u32("leaf"),
  /** Address of the context of U-mode in the current address space. */
  userContext: scratch.u32("userContext"),
  /** u32: counts address-space switches. */
  spaceClock: scratch.u32("spaceClock"),
  /** Addresses of the contexts in use (hart-tlb.ts): of loads and stores, of fetches and jumps. */
  dataContext: scratch.u32("dataContext"),
  fetchContext: scratch.u32("fetchContext"),
  /**
   * The window: guest-physical addresses, of one slot, where PMP lets every privilege do all and the slot may
   * be written. First address, bytes (0: none), the slot's entry, host address − guest-physical address.
   */
  windowStart: scratch.u64("windowStart"),
  windowSize: scratch.u64("windowSize"),
  windowSlot: scratch.u32("windowSlot"),
  windowDelta: scratch.u32("windowDelta"),
  /** What pmpOpenRange found: first address, and the one after the last. */
  openStart: scratch.u64("openStart"),
  openEnd: scratch.u64("openEnd"),
  /** Host address of what the reservation is on. */
  reservedHost: scratch.u32("reservedHost"),
  /** Always 0, and this hart's alone: what a full fence locks. */
  barrier: scratch.u32("barrier"),
  /** u64: walks that filled a TLB entry. */
  refills: scratch.u64("refills"),
  /**
   * u64: instructions executed, those that trapped too; no CSR holds or sets it. Exact whenever a CSR or MMIO
   * is accessed.
   */
  executed: scratch.u64("executed"),
  /** u64: those of them that translated code executed. */
  translated: scratch.u64("translated"),
  /** LEAVE_*: why translated code came back (code-dispatch.ts). */
  leave: scratch.u32("leave"),
  /** CODE_EPOCH of the code cache when the jump caches were last emptied for it. */
  codeEpoch: scratch.u32("codeEpoch"),
  /** The same for CODE_PROTECTION and translations for writing. */
  codeProtection: scratch.u32("codeProtection"),
  /** Instructions to the next sample of where translated code spends its time. */
  untilSample: scratch.u32("untilSample"),
} as const;

/** An ecall from S-mode leaves run() with EXIT.ECALL: the firmware is ours. */
export const CONFIG_BUILTIN_FIRMWARE = 1;
/** A write of stimecmp leaves run(), whose budget depends on it. */
export const CONFIG_EXACT_TIMER = 2;
