// The accelerator interface: the VMM half's calls to the hypervisor half, in KVM's shape (KVM_CREATE_VM,
// KVM_SET_USER_MEMORY_REGION, KVM_RUN, KVM_GET/SET_ONE_REG, KVM_GET/SET_MP_STATE, KVM_GET_DIRTY_LOG,
// KVM_IRQ_LINE, KVM_IOEVENTFD). The VMM never accesses a running hart. Types only: src/hypervisor implements
// them, the VMM half uses them.
import type { GuestMemory } from "../memory/guest-memory.ts";
import type { InterruptStatus } from "../memory/irq-line.ts";

/** Handles MMIO exits of vCPUs (KVM_EXIT_MMIO). The vCPU waits for the answer. */
export interface MmioHandler {
  /** A little-endian value of `size` bytes (1, 2, 4, 8); undefined if there is no device (access fault). */
  read(guestPhys: number, size: number): bigint | undefined;
  /** Returns false if there is no device (access fault). */
  write(guestPhys: number, size: number, value: bigint): boolean;
}

/** A system event requested through the hypervisor half's firmware (KVM_EXIT_SYSTEM_EVENT). */
export type SystemEvent = "shutdown" | "reset" | "crash" | "suspend";

export interface VmEvents {
  readonly mmio: MmioHandler;
  /**
   * From SBI SRST and SUSP. The calling vCPU executes no guest instruction until it is reset (or woken from
   * suspend).
   */
  systemEvent(event: SystemEvent): void;
  /** Output of SBI DBCN and the legacy console. Returns how many bytes were taken: 0 while none can be. */
  consoleWrite(bytes: Uint8Array): number;
  /** Up to `max` bytes of console input for SBI reads; empty if none. */
  consoleRead(max: number): Uint8Array;
  /** An internal error, of one vCPU or (undefined) of the VM: the VM is dead. */
  internalError(vcpu: number | undefined, message: string): void;
}

/** State of an interrupt controller or timer in the hypervisor, in the form of its schema. */
export interface IrqchipPort<S> {
  get(): S;
  /** Throws if the state does not fit this VM (another number of harts). Changes nothing. */
  check(state: S): void;
  set(state: S): void;
}

/** A range of guest-physical addresses. */
export interface MmioWindow {
  readonly base: number;
  readonly size: number;
}

/** The windows of the hypervisor's interrupt controllers and timer, as the board places them. */
export interface IrqchipWindows {
  readonly plic: MmioWindow;
  /** ACLINT: MSWI and MTIMER, at a CLINT's offsets. */
  readonly clint: MmioWindow;
  /** ACLINT: SSWI. */
  readonly sswi: MmioWindow;
}

export interface AcceleratorVm {
  readonly memory: GuestMemory;
  /** True if the hypervisor half handles SBI calls and harts start in S-mode. */
  readonly builtinFirmware: boolean;
  /** A machine arrives: who has machine mode there. Must be called before the first vCPU is resumed. */
  setBuiltinFirmware(on: boolean): void;
  readonly vcpus: readonly AcceleratorVcpu[];
  /** Must be called before the first vCPU is resumed. */
  setEvents(events: VmEvents): void;
  /** Maps or unmaps the memory slot with this index; waits until all vCPUs have flushed their TLBs. */
  setMemorySlot(index: number, present: boolean): void;
  /**
   * Fetches and clears the dirty bits of a slot, then makes TLB_FLUSH on all vCPUs and waits. One bit for
   * each page, 32 to a word. The log is never off: it also tells which pages were never written
   * (GuestMemory.isTouched).
   */
  getAndClearDirtyLog(index: number): Int32Array | Promise<Int32Array>;
  /**
   * Places the interrupt controllers and the timer (KVM_CREATE_DEVICE and its address attributes). Must be
   * called before the first vCPU is resumed; without it, accesses to their addresses exit to the VMM.
   */
  createIrqchip(windows: IrqchipWindows): void;
  /** Sets the level of an interrupt line of the hypervisor half's PLIC (sources 1 to 95). */
  irqLine(source: number, level: boolean): void;
  /** One edge on the line of a source: it is pending until a hart claims it. */
  irqEdge(source: number): void;
  /**
   * A 4-byte write of `datamatch` to `guestPhys` only runs `notify` on the VMM thread; the vCPU continues.
   */
  ioeventfd(guestPhys: number, datamatch: number, notify: () => void): { remove(): void };
  /** The doorbell that is served needs nothing more: the VMM thread may look for the next one by itself. */
  expectDoorbell?(): void;
  /**
   * Writes of 1 to 4 bytes in this range may reach the VMM late, but before any other exit and before a pause
   * completes.
   */
  coalesceMmio?(guestPhys: number, size: number): void;
  /**
   * vCPUs read the byte at this address without an exit while its value is set; with undefined, reads go to
   * the device.
   */
  shadowRead?(guestPhys: number): { set(value: number | undefined): void };
  /**
   * A register of 4 bytes at `guestPhys` that drives the line of `source`, with its acknowledge register in
   * the 4 bytes after it: vCPUs read and acknowledge it without an exit. Undefined if all accesses must exit.
   */
  interruptStatus?(guestPhys: number, source: number): InterruptStatus | undefined;
  resetIrqchip(): void;
  /** The guest has suspended itself (SBI SUSP): one hart waits for an interrupt, the others are stopped. */
  readonly isSuspended: boolean;
  /** Resumes a suspended guest at its resume address, as an interrupt does. No effect if it is awake. */
  wakeUp(): void;
  /** Guest time (mtime ticks); frozen between stop and start. */
  readonly clock: {
    readonly frequencyHz: number;
    read(): bigint;
    write(ticks: bigint): void;
    stop(): void;
    start(): void;
  };
  /** No vCPU of this VM runs any more. */
  markDead(why: string): void;
  /** Why no vCPU runs any more; undefined while they can. */
  readonly failure: string | undefined;
  /** Resolves when each vCPU's thread has started, or died: then `failure` tells why. */
  readonly started: Promise<void>;
  /** Ends all vCPU threads. */
  destroy(): Promise<void>;
}

export interface AcceleratorVcpu {
  readonly id: number;
  /** Lets the vCPU thread run (KVM_RUN in a loop). No effect if it runs. */
  resume(): void;
  /**
   * Stops the vCPU at an instruction boundary; resolves when it is parked outside guest mode with no I/O in
   * progress.
   */
  pause(): Promise<void>;
  readonly paused: boolean;
  /** Registers by ONE_REG id (src/accelerator/one-reg-ids.ts). Throws if the vCPU is not paused. */
  getOneReg(id: bigint): bigint;
  setOneReg(id: bigint, value: bigint): void;
  getMpState(): number;
  setMpState(state: number): void;
  /** The ids of all registers of this vCPU (KVM_GET_REG_LIST). */
  regList(): bigint[];
  /** Drops state that no stream carries (the LR/SC reservation). */
  clearTransient(): void;
}
