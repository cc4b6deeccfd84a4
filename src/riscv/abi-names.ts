// Names of the integer and floating-point registers by number (RISC-V calling convention,
// riscv-elf-psabi-doc).

const X =
  "zero ra sp gp tp t0 t1 t2 s0 s1 a0 a1 a2 a3 a4 a5 a6 a7 s2 s3 s4 s5 s6 s7 s8 s9 s10 s11 t3 t4 t5 t6";
const F =
  "ft0 ft1 ft2 ft3 ft4 ft5 ft6 ft7 fs0 fs1 fa0 fa1 fa2 fa3 fa4 fa5 fa6 fa7 fs2 fs3 fs4 fs5 fs6 fs7 fs8 fs9 fs10 fs11 ft8 ft9 ft10 ft11";

export const X_NAMES: readonly string[] = X.split(" ");
export const F_NAMES: readonly string[] = F.split(" ");
/** The other name of s0. */
export const FRAME_POINTER = "fp";
/** Rounding modes of the rm field and of frm; `undefined` is reserved. */
export const ROUNDING_MODE_NAMES: readonly (string | undefined)[] = [
  ...["rne", "rtz", "rdn", "rup", "rmm"],
  ...[undefined, undefined, "dyn"],
];
