// The translator's side of float-semantics.ts: f registers are locals; a region is entered only while FS is dirty and
// frm is round-to-nearest, so both are known; whether NX has accrued is a local too.
import { type F64, I32 } from "../../wasm/expr.ts";
import type { Local } from "../../wasm/function.ts";
import { hasFusedMultiplyAdd } from "../../wasm/fused.ts";
import type { FloatSemantics, FpSource } from "./float-semantics.ts";
import { hartLayout } from "./hart.ts";
import type { Semantics } from "./semantics.ts";
import { FFLAGS, RM } from "./softfloat-format.ts";

const FIELD: Record<FpSource, number> = { 1: 15, 2: 20, 3: 27 };
const BOX = -1n << 32n;

/** What the local for `inexact` holds. */
export const inexactNow = (hart: I32): I32 => hart.load32(hartLayout.offsetOf("fflags")).and(FFLAGS.NX);

/** `register` is the f register whose number is at that bit of the word. */
export function translatedFloat(
  s: Pick<Semantics, "hart" | "load" | "store">,
  register: (low: number) => Local<F64>,
  inexact: Local<I32>,
): FloatSemantics {
  return {
    isFused: hasFusedMultiplyAdd(),
    require: () => {},
    markDirty: () => {},
    frm: () => I32.of(RM.RNE),
    inexact: () => inexact,
    accrued: () => inexact.set(inexactNow(s.hart)),
    double: (source) => register(FIELD[source]),
    single: (source) => {
      const bits = register(FIELD[source]).reinterpret();
      return { low: bits.wrap().reinterpretF32(), isBoxed: bits.geU(BOX) };
    },
    setDouble: (value) => register(7).set(value),
    setSingle: (value) => register(7).set(value.reinterpret().extendU().or(BOX).reinterpretF64()),
    loadDouble: (address) => s.load("64", address).reinterpretF64(),
    loadSingle: (address) => s.load("32U", address).wrap().reinterpretF32(),
    storeDouble: (address, value) => s.store(8, address, value.reinterpret()),
    storeSingle: (address, value) => s.store(4, address, value.reinterpret().extendU()),
  };
}
