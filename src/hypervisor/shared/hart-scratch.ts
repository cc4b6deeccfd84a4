// The engine's scratch words in each hart's area of the shared memory, beside the hart's state: reservation,
// events, window, counters. They are rebuilt, never saved. The contents of the contexts are in
// hart/tlb-context.ts.
import { MemoryRegion } from "./memory-region.ts";
import { SCRATCH_OFFSET, SCRATCH_SIZE } from "./memory-map.ts";

const scratch = new MemoryRegion("scratch", SCRATCH_OFFSET, SCRATCH_OFFSET + SCRATCH_SIZE);

/** Rebuilt, never saved. */
export const SCRATCH = {
  /** Address of the LR reservation with the width in its low bits (0: none), and the value that LR read. */
  reservation: scratch.u64("reservation"),
  reservedValue: scratch.u64("reservedValue"),
  /** Exception cause of a failed translation, or NO_FAULT. */
  fault: scratch.u32("fault"),
  /** Guest-physical address of the last translation. */
  guestPhys: scratch.u64("guestPhys"),
  /** EVENT_*: what the interpreter must do after the last slow path. */
  event: scratch.u32("event"),
  /** CONFIG_* bits. */
  config: scratch.u32("config"),
  /** Non-zero once run() has initialised the TLBs' memory. */
  ready: scratch.u32("ready"),
  /** LEAF_* of the last translation. */
  leaf: scratch.u32("leaf"),
  /** Address of U-mode's context for the current address space. */
  userContext: scratch.u32("userContext"),
  /** u32: counts address-space switches. */
  spaceClock: scratch.u32("spaceClock"),
  /** Addresses of the contexts in use (hart-tlb.ts): for loads and stores, and for fetches and jumps. */
  dataContext: scratch.u32("dataContext"),
  fetchContext: scratch.u32("fetchContext"),
  /**
   * The window: a range of guest-physical addresses, in one slot, where PMP allows every access at every
   * privilege and the slot is writable. First address, bytes (0: none), the slot's entry, host address −
   * guest-physical address.
   */
  windowStart: scratch.u64("windowStart"),
  windowSize: scratch.u64("windowSize"),
  windowSlot: scratch.u32("windowSlot"),
  windowDelta: scratch.u32("windowDelta"),
  /** The range that pmpOpenRange found: first address, and the one after the last. */
  openStart: scratch.u64("openStart"),
  openEnd: scratch.u64("openEnd"),
  /** Host address of the reservation. */
  reservedHost: scratch.u32("reservedHost"),
  /** Always 0, and private to this hart: the operand of a full fence's locked add. */
  barrier: scratch.u32("barrier"),
  /** u64: page walks that filled a TLB entry. */
  refills: scratch.u64("refills"),
  /**
   * u64: instructions executed, including those that trapped; no CSR reads or writes it. Exact whenever a CSR
   * or MMIO is accessed.
   */
  executed: scratch.u64("executed"),
  /** u64: the part of them that translated code executed. */
  translated: scratch.u64("translated"),
  /** LEAVE_*: why translated code returned (code-dispatch.ts). */
  leave: scratch.u32("leave"),
  /** The code cache's CODE_EPOCH when the jump caches were last emptied. */
  codeEpoch: scratch.u32("codeEpoch"),
  /** The code cache's CODE_PROTECTION when write translations were last dropped. */
  codeProtection: scratch.u32("codeProtection"),
  /** Waits for another hart (pause, wrs.nto, wrs.sto): at SPINS run() returns. The vCPU thread sets it. */
  spins: scratch.u32("spins"),
  /** Instructions to the next sample of where translated code spends its time. */
  untilSample: scratch.u32("untilSample"),
} as const;

/**
 * Waits before run() returns, about 0.1 ms: a lock whose holder runs is free sooner. KVM sets processors to
 * exit after some time of this (pause-loop exiting).
 */
export const SPINS = 512;

/** An ecall from S-mode leaves run() with EXIT.ECALL, for the built-in firmware. */
export const CONFIG_BUILTIN_FIRMWARE = 1;
/** A write of stimecmp leaves run(), whose budget depends on it. */
export const CONFIG_EXACT_TIMER = 2;
