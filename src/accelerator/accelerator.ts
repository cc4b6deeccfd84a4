// The accelerator interface: what the VMM half asks of the hypervisor half, in KVM's shape
// (KVM_CREATE_VM, KVM_SET_USER_MEMORY_REGION, KVM_RUN, KVM_GET/SET_ONE_REG, KVM_GET/SET_MP_STATE,
// KVM_GET_DIRTY_LOG, KVM_IRQ_LINE, KVM_IOEVENTFD). The VMM never reaches into a running hart.
// Types only: src/hypervisor implements it, the VMM half calls it.
import type { GuestMemory } from "../memory/guest-memory.ts";

/** Why a vCPU came out to the VMM (KVM_EXIT_MMIO). The vCPU waits for the answer. */
export interface MmioHandler {
  /** Little-endian value of `size` bytes (1, 2, 4, 8), or undefined: nothing there (access fault). */
  read(guestPhys: number, size: number): bigint | undefined;
  /** False: nothing there (access fault). */
  write(guestPhys: number, size: number, value: bigint): boolean;
}

/** A system event that the hypervisor half's firmware asks for (KVM_EXIT_SYSTEM_EVENT). */
export type SystemEvent = "shutdown" | "reset" | "crash" | "suspend";

export interface VmEvents {
  readonly mmio: MmioHandler;
  /** From SBI SRST and SUSP. The calling vCPU runs no further guest instruction until it is reset (or, for suspend, woken). */
  systemEvent(event: SystemEvent): void;
  /** Bytes of SBI DBCN and the legacy console. */
  consoleWrite(bytes: Uint8Array): void;
  /** Up to `max` bytes of console input for SBI reads; empty if none. */
  consoleRead(max: number): Uint8Array;
  /** A vCPU (undefined: no single one) hit something that cannot go on (an internal error): the VM is dead. */
  internalError(vcpu: number | undefined, message: string): void;
  /** A vCPU used up its dirty quota (setDirtyQuota); it goes on when the promise resolves. */
  dirtyQuotaReached?(vcpu: number): Promise<void>;
}

/** State of an interrupt controller or timer in the hypervisor half, as its schema encodes it. */
export interface IrqchipPort<S> {
  get(): S;
  /** Throws if the state does not fit this VM (other number of harts). Changes nothing. */
  check(state: S): void;
  set(state: S): void;
}

export interface AcceleratorVm {
  readonly memory: GuestMemory;
  /** True if the hypervisor half answers SBI calls and harts start in S-mode. */
  readonly builtinFirmware: boolean;
  readonly vcpus: readonly AcceleratorVcpu[];
  /** Must be called before the first vCPU is resumed. */
  setEvents(events: VmEvents): void;
  /** Map or unmap the memory block of that index (all vCPUs drop their translations, waited for). */
  setMemorySlot(index: number, present: boolean): void;
  /** Turn dirty logging of a block on or off; it starts with no page dirty. */
  setDirtyLogging(index: number, on: boolean): void | Promise<void>;
  /** Fetch and clear the dirty bits of a block, then TLB_FLUSH all (waits). A bit a page, 32 to a word. */
  getAndClearDirtyLog(index: number): Int32Array | Promise<Int32Array>;
  /** Level of an interrupt line of the in-half PLIC (source number 1…95). */
  irqLine(source: number, level: boolean): void;
  /** A 4-byte write of `datamatch` at `guestPhys` only runs `notify` on the VMM thread; the vCPU goes on. */
  ioeventfd(guestPhys: number, datamatch: number, notify: () => void): { remove(): void };
  /** Writes of 1 to 4 bytes in this range may reach the VMM late, but before any other exit and any pause is over. */
  coalesceMmio?(guestPhys: number, size: number): void;
  /** The byte at this address may have a known value, which vCPUs then read by themselves; undefined: ask the device. */
  shadowRead?(guestPhys: number): { set(value: number | undefined): void };
  resetIrqchip(): void;
  /** Guest time (mtime ticks); frozen between stop and start. */
  readonly clock: {
    readonly frequencyHz: number;
    read(): bigint;
    write(ticks: bigint): void;
    stop(): void;
    start(): void;
  };
  /** No vCPU of this VM runs again. */
  markDead(): void;
  /** End all vCPU threads. */
  destroy(): Promise<void>;
}

export interface AcceleratorVcpu {
  readonly id: number;
  /** Let the vCPU thread run (KVM_RUN in its loop). No-op if running. */
  resume(): void;
  /** Ask it to stop at an instruction boundary; resolves when it is parked outside the guest with no I/O under way. */
  pause(): Promise<void>;
  readonly paused: boolean;
  /** ONE_REG ids (src/accelerator/one-reg-ids.ts). Throws if the vCPU is not paused. */
  getOneReg(id: bigint): bigint;
  setOneReg(id: bigint, value: bigint): void;
  getMpState(): number;
  setMpState(state: number): void;
  /** All register ids this vCPU has (KVM_GET_REG_LIST). */
  regList(): bigint[];
  /** Drop what no stream carries (the LR/SC reservation). */
  clearTransient(): void;
  /** Newly dirtied pages after which the vCPU comes out to the VMM (0: never). */
  setDirtyQuota(pages: number): void;
}
