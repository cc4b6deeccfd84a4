// The interface of the engine's module: its exports, which a vCPU thread calls, its imports, and the reasons
// why run() returns. engine-module.ts builds the module, vcpu/engine-instance.ts instantiates it for each
// hart.

/** Why run() returned. */
export const EXIT = {
  /** The budget is used up. */
  SLICE: 0,
  /** The kick word is set. */
  KICK: 1,
  /** An ecall from S-mode with the built-in firmware; pc is the ecall's. */
  ECALL: 2,
  /** A wfi with nothing pending; pc is after it. */
  WFI: 3,
  INTERNAL_ERROR: 4,
} as const;

/** In place of an ASID: every address space, global translations too. */
export const ALL_SPACES = -1;

export interface EngineImports {
  /** Time in 10 MHz ticks, not below 0. */
  hostTicks(): number;
  /**
   * 1 if something answered (value at CTL_MMIO_DATA), 0: access fault. `size` is 1, 2, 4 or 8, naturally
   * aligned.
   */
  mmioRead(guestPhys: bigint, size: number): number;
  mmioWrite(guestPhys: bigint, size: number, value: bigint): number;
  /**
   * The translator: code at this host address is hot; non-zero if it is translated on return. Default: ask
   * for it.
   */
  hot?(address: number): number;
  /**
   * The translator: much time is spent in the translated code of this address's page. Default: ask for better
   * code.
   */
  improve?(address: number): void;
  /**
   * The translator: many modules were dropped. A hart's thread makes so little garbage that its host would
   * keep their machine code for long.
   */
  collectGarbage?(): void;
  /**
   * Does what the hart's thread itself has to do for translated code: adopt it, forget it. Default: just
   * that.
   */
  adopting?(work: () => void): void;
}

/** `hartBase` is the byte offset of the hart's area in shared memory. */
export interface EngineExports {
  /**
   * Execute about `budget` instructions; returns EXIT.*. The state is in memory whenever this is not
   * executing.
   */
  run(hartBase: number, budget: number): number;
  /** Forget all: state, memory slots or dirty bits changed. */
  flushTlb(hartBase: number): void;
  /**
   * sfence.vma: forget the page of a guest-virtual address in the address space with this ASID, or in
   * ALL_SPACES.
   */
  flushTlbPage(hartBase: number, guestVirt: bigint, asid: number): void;
  /** sfence.vma: forget the address space with this ASID, but global pages; or ALL_SPACES. */
  flushSpace(hartBase: number, asid: number): void;
  /** Forget translations for writing: after pages became code pages. */
  protectCode(hartBase: number): void;
}
