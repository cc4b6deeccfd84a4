// The interface between a vCPU thread and the engine's WebAssembly module: imports, exports, and the reasons
// why run() returns. engine-module.ts generates the module, vcpu/engine-instance.ts creates an instance for
// each hart.

/** Why run() returned. */
export const EXIT = {
  /** The budget is used up. */
  SLICE: 0,
  /** The kick word is set. */
  KICK: 1,
  /** An ecall from S-mode with the built-in firmware; pc is the address of the ecall. */
  ECALL: 2,
  /** A wfi with no interrupt pending; pc is the next instruction. */
  WFI: 3,
  INTERNAL_ERROR: 4,
  /** The guest spins: it waits for another hart, which may need this core. */
  SPIN: 5,
} as const;

/** In place of an ASID: every address space, including global translations. */
export const ALL_SPACES = -1;

export interface EngineImports {
  /** Time in 10 MHz ticks, not below 0. */
  hostTicks(): number;
  /**
   * 1 if a device answered (value at CTL_MMIO_DATA), 0: access fault. `size` is 1, 2, 4 or 8, naturally
   * aligned.
   */
  mmioRead(guestPhys: bigint, size: number): number;
  mmioWrite(guestPhys: bigint, size: number, value: bigint): number;
  /**
   * Translator: the code at this host address is hot; non-zero if it is translated on return. Default:
   * request a translation.
   */
  hot?(address: number): number;
  /**
   * Translator: much time is spent in the translated code of this address's page. Default: request better
   * code.
   */
  improve?(address: number): void;
  /**
   * Translator: many modules have been dropped. A hart's thread creates so little garbage that the JavaScript
   * engine would otherwise retain their machine code for a long time.
   */
  collectGarbage?(): void;
  /**
   * Runs the work that the hart's own thread must do for translated code: adopt and drop modules. Default:
   * just run it.
   */
  runAdoption?(work: () => void): void;
}

/** `hartBase` is the byte offset of the hart's area in shared memory. */
export interface EngineExports {
  /**
   * Execute about `budget` instructions; returns EXIT.*. The state is in memory whenever this function is not
   * executing.
   */
  run(hartBase: number, budget: number): number;
  /** Flush everything: state, memory slots or dirty bits have changed. */
  flushTlb(hartBase: number): void;
  /**
   * sfence.vma: flush the page of a guest-virtual address in the address space with this ASID, or in
   * ALL_SPACES.
   */
  flushTlbPage(hartBase: number, guestVirt: bigint, asid: number): void;
  /** sfence.vma: flush the address space with this ASID except global pages; or ALL_SPACES. */
  flushSpace(hartBase: number, asid: number): void;
  /** Flush write translations, after pages have become code pages. */
  protectCode(hartBase: number): void;
}
