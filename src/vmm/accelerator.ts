// The accelerator interface: what the VMM half asks of the hypervisor half, in KVM's shape
// (KVM_CREATE_VM, KVM_SET_USER_MEMORY_REGION, KVM_RUN, KVM_GET/SET_ONE_REG, KVM_GET/SET_MP_STATE,
// KVM_GET_DIRTY_LOG, KVM_IRQ_LINE, KVM_IOEVENTFD). The VMM never reaches into a running hart.
// src/hypervisor implements it structurally; a real /dev/kvm could too.

/** KVM_MP_STATE_*: all of KVM's states; each architecture accepts its own. */
export const MP_STATE = {
  RUNNABLE: 0,
  UNINITIALIZED: 1,
  INIT_RECEIVED: 2,
  HALTED: 3,
  SIPI_RECEIVED: 4,
  STOPPED: 5,
  CHECK_STOP: 6,
  OPERATING: 7,
  LOAD: 8,
  AP_RESET_HOLD: 9,
  SUSPENDED: 10,
} as const;

/** Why a vCPU came out to the VMM (KVM_EXIT_*). Reads are answered by value, the vCPU waits. */
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
  /** SBI SRST, or an SBI console byte (DBCN, legacy) when no device takes it. */
  systemEvent(event: SystemEvent): void;
  consoleWrite(bytes: Uint8Array): void;
  /** Up to `max` bytes of console input for SBI DBCN reads; empty if none. */
  consoleRead(max: number): Uint8Array;
  /** A vCPU hit something that cannot go on (an internal error): the VM is dead. */
  internalError(vcpu: number, message: string): void;
}

export interface MemorySlot {
  readonly slot: number;
  readonly guestPhys: number;
  /** 0 removes the slot. */
  readonly size: number;
  readonly hostOffset: number;
  readonly readonly: boolean;
  readonly logDirty: boolean;
}

export interface AcceleratorVm {
  readonly buffer: SharedArrayBuffer;
  setMemorySlot(slot: MemorySlot): void;
  /** Turn dirty logging of a slot on or off (makes TLB_FLUSH of all vCPUs, waits). */
  setDirtyLogging(slot: number, on: boolean): Promise<void>;
  /** Fetch and clear the dirty bits of a slot, then TLB_FLUSH all (waits). A bit a page, 32 to a word. */
  getAndClearDirtyLog(slot: number): Promise<Int32Array>;
  readonly vcpus: readonly AcceleratorVcpu[];
  /** Level of an interrupt line of the in-half PLIC (source number). */
  irqLine(source: number, level: boolean): void;
  /** A 4-byte write of `datamatch` at `guestPhys` only signals `notify` on the VMM thread; the vCPU goes on. */
  ioeventfd(guestPhys: number, datamatch: number, notify: () => void): { remove(): void };
  /** Guest time (mtime ticks); frozen while all vCPUs are paused by stopClock. */
  clock: { frequencyHz: number; read(): bigint; write(ticks: bigint): void; stop(): void; start(): void };
  /** State blobs of the in-half irqchip and timer: plain objects as their schemas define them. */
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
  /** ONE_REG ids as RISC-V KVM lays them out. Throws if the vCPU is not paused. */
  getOneReg(id: bigint): bigint;
  setOneReg(id: bigint, value: bigint): void;
  getMpState(): number;
  setMpState(state: number): void;
  /** All register ids this vCPU has (KVM_GET_REG_LIST). */
  regList(): bigint[];
}
