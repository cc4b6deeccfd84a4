// The interface that an instruction's meaning is written against. The interpreter provides operands that are
// read from the instruction word at run time; the translator provides operands that are known at translation
// time. A row is the only source of an instruction: name, encoding, extension, meaning.
import type { I32, I64 } from "../../wasm/expr.ts";
import type { Func, Local } from "../../wasm/function.ts";
import type { FloatSemantics } from "./float-semantics.ts";
import { type Encoding, parsePattern } from "./instruction-encoding.ts";

/** Width and extension of a load. */
export type LoadKind = "8S" | "8U" | "16S" | "16U" | "32S" | "32U" | "64";
export type StoreSize = 1 | 2 | 4 | 8;

export const SIZE_OF_LOAD: Record<LoadKind, StoreSize> = {
  "8S": 1,
  "8U": 1,
  "16S": 2,
  "16U": 2,
  "32S": 4,
  "32U": 4,
  "64": 8,
};

/** A load at an offset from a host address, and how the zero-extended bytes become its value. */
export const loadAccess: Record<
  LoadKind,
  readonly [from: (hva: I32, offset?: number) => I64, extend: (value: I64) => I64]
> = {
  "8S": [(h, at) => h.load64From8S(at), (v) => v.extend8S()],
  "8U": [(h, at) => h.load64From8U(at), (v) => v],
  "16S": [(h, at) => h.load64From16S(at), (v) => v.extend16S()],
  "16U": [(h, at) => h.load64From16U(at), (v) => v],
  "32S": [(h, at) => h.load64From32S(at), (v) => v.extend32S()],
  "32U": [(h, at) => h.load64From32U(at), (v) => v],
  "64": [(h, at) => h.load64(at), (v) => v],
};

/** Store the low bytes of a value at an offset from a host address. */
export function storeAccess(f: Func, size: StoreSize, hva: I32, value: I64, offset = 0): void {
  if (size === 1) f.store8(hva, value, offset);
  else if (size === 2) f.store16(hva, value, offset);
  else if (size === 4) f.store32(hva, value, offset);
  else f.store64(hva, value, offset);
}

/**
 * One instruction being executed or translated. Expressions are evaluated at each use: bind a source with
 * `f.let` if it is needed after `setRd`.
 */
export interface Semantics {
  readonly f: Func;
  /** Address of the hart's area. */
  readonly hart: I32;
  /** The instruction word; for a compressed instruction, its expansion. */
  readonly word: I32;
  readonly rs1: I64;
  readonly rs2: I64;
  readonly float: FloatSemantics;
  /** The host reorders only a store with a later load (x86), and so does its compiler. */
  readonly hasTotalStoreOrder: boolean;
  /** The sign-extended immediate of the row's format. */
  readonly imm: I64;
  readonly pc: I64;
  /** Address of the instruction after this one. */
  readonly nextPc: I64;
  /** Unsigned field of the word. */
  field(low: number, width: number): I32;
  setRd(value: I64): void;
  /** Jump to `target`; the code after this is not reached. */
  jump(target: I64): void;
  /** Branch to pc + imm if `condition`. */
  branch(condition: I32): void;
  /** Jump to pc + imm; the code after this is not reached. */
  jumpImmediate(): void;
  load(kind: LoadKind, address: I64): I64;
  store(size: StoreSize, address: I64, value: I64): void;
  /**
   * The value of a call that may trap or change cached state of the engine (SCRATCH.event); reached only if
   * it did not trap.
   */
  guard(call: I64): Local<I64>;
  /** Handle SCRATCH.event; either `guard` has stored pc, or nothing can trap. */
  checkEvent(): void;
  /** Bring mcycle and minstret up to date. */
  syncCounters(): void;
  /** Raise an exception; the code after this is not reached. */
  trap(cause: number, tval: I64 | number): void;
  trapDynamic(cause: I64): void;
  illegal(): void;
  /** pc and privilege have been set: continue at that pc. */
  resume(): void;
  /** Leave run() with this reason, with pc at this instruction or at the next. */
  exit(reason: number, where: "here" | "next"): void;
}

export interface Row extends Encoding {
  readonly name: string;
  readonly extension: string;
  readonly meaning: (s: Semantics) => void;
}

/** Create a table row; instruction-encoding.ts describes the patterns. */
export function row(name: string, extension: string, pattern: string, meaning: (s: Semantics) => void): Row {
  return { name, extension, ...parsePattern(pattern), meaning };
}
