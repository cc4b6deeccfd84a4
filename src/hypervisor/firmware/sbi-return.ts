// What an SBI call returns: an error in a0 and a value in a1 (SBI 3.0, chapter 3).

export const SBI_SUCCESS = 0;
/** Standard SBI errors. */
export const SBI_ERR = {
  FAILED: -1,
  NOT_SUPPORTED: -2,
  INVALID_PARAM: -3,
  DENIED: -4,
  INVALID_ADDRESS: -5,
  ALREADY_AVAILABLE: -6,
  ALREADY_STARTED: -7,
  ALREADY_STOPPED: -8,
  NO_SHMEM: -9,
  DENIED_LOCKED: -14,
} as const;

export interface SbiReturn {
  readonly error: number;
  readonly value: bigint;
}

export const ok = (value = 0n): SbiReturn => ({ error: SBI_SUCCESS, value });
export const fail = (error: (typeof SBI_ERR)[keyof typeof SBI_ERR]): SbiReturn => ({ error, value: 0n });
