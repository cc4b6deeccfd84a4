// binary16, binary32 and binary64 of IEEE 754-2019 as numbers of bits, and RISC-V's names of exception flags
// and rounding modes (unprivileged ISA, "F", floating-point control and status register).

/** Accrued exception bits, as in `fflags`. */
export const FFLAGS = { NX: 1, UF: 2, OF: 4, DZ: 8, NV: 16 } as const;

/** Rounding modes, as in `frm` and an instruction's `rm` field (7 there is "dynamic"). */
export const RM = { RNE: 0, RTZ: 1, RDN: 2, RUP: 3, RMM: 4, DYN: 7 } as const;

export interface FpFormat {
  readonly fracBits: number;
  /** Exponent of the smallest and the largest normal number. */
  readonly minExp: number;
  readonly maxExp: number;
  readonly signBit: bigint;
  readonly infinity: bigint;
  readonly quietBit: bigint;
  readonly canonicalNan: bigint;
}

function format(expBits: number, fracBits: number): FpFormat {
  const bias = 2 ** (expBits - 1) - 1;
  const infinity = ((1n << BigInt(expBits)) - 1n) << BigInt(fracBits);
  const quietBit = 1n << BigInt(fracBits - 1);
  return {
    fracBits,
    minExp: 1 - bias,
    maxExp: bias,
    signBit: 1n << BigInt(expBits + fracBits),
    infinity,
    quietBit,
    canonicalNan: infinity | quietBit,
  };
}

export const BINARY16 = format(5, 10);
export const BINARY32 = format(8, 23);
export const BINARY64 = format(11, 52);
