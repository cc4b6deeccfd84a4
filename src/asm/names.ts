// Names that stand for numbers in operands: registers and rounding modes; CSRs are those of
// src/riscv/registers.ts.
import { F_NAMES, FRAME_POINTER, ROUNDING_MODE_NAMES, X_NAMES } from "../riscv/abi-names.ts";

function registerMap(prefix: string, names: readonly string[]): ReadonlyMap<string, number> {
  const map = new Map<string, number>();
  for (const [n, name] of names.entries()) map.set(name, n).set(`${prefix}${n}`, n);
  return map;
}

export const INTEGER_REGISTERS: ReadonlyMap<string, number> = new Map(registerMap("x", X_NAMES)).set(
  FRAME_POINTER,
  X_NAMES.indexOf("s0"),
);
export const FLOAT_REGISTERS: ReadonlyMap<string, number> = registerMap("f", F_NAMES);

export const ROUNDING_MODES: ReadonlyMap<string, number> = new Map(
  ROUNDING_MODE_NAMES.flatMap((name, mode) => (name === undefined ? [] : [[name, mode] as const])),
);
