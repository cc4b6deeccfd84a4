// All of KVM's MP states (KVM_MP_STATE_*), shared by the VMM and hypervisor halves. Each architecture accepts
// a subset.

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
/** RISC-V's. INIT_RECEIVED: reset at the SBI start address. */
export const RISCV_MP_STATES: readonly number[] = [
  MP_STATE.RUNNABLE,
  MP_STATE.INIT_RECEIVED,
  MP_STATE.STOPPED,
  MP_STATE.SUSPENDED,
];
