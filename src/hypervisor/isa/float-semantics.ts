// The interface that the meanings of F and D instructions are written against, in addition to
// instruction-semantics.ts: f registers as numbers, and the float state that a translator can know in advance
// (FS, frm, NX).
import type { F32, F64, I32, I64 } from "../../wasm/expr.ts";

/** frs1, frs2 or frs3. */
export type FpSource = 1 | 2 | 3;

/**
 * The lower half of a register, and 1 if it is a properly boxed binary32 number. Otherwise the number is a
 * NaN.
 */
export interface BoxedSingle {
  readonly low: F32;
  readonly isBoxed: I32;
}

/**
 * Expressions, evaluated at each use. Sources are raw bits as numbers: they may be moved, stored, negated and
 * reinterpreted without losing a bit of a NaN.
 */
export interface FloatSemantics {
  /** The host's relaxed multiply-add is fused. */
  readonly isFused: boolean;
  /** Illegal instruction while mstatus.FS is off. */
  require(): void;
  /** f registers or fflags may change: set FS to dirty. */
  markDirty(): void;
  /**
   * The rounding mode of an rm field, 0 to 4; illegal instruction if it is reserved, or if it selects frm and
   * that is reserved.
   */
  roundingMode(field: I32): I32;
  /**
   * 1 if NX has accrued, so that one more inexact result changes no flag. May still be 0 for some time after
   * that.
   */
  inexact(): I32;
  double(source: FpSource): F64;
  single(source: FpSource): BoxedSingle;
  setDouble(value: F64): void;
  /** NaN-boxes the value. */
  setSingle(value: F32): void;
  loadDouble(address: I64): F64;
  loadSingle(address: I64): F32;
  storeDouble(address: I64, value: F64): void;
  storeSingle(address: I64, value: F32): void;
}
