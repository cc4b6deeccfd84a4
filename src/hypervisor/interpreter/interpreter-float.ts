// The interpreter's implementation of float-semantics.ts: f registers and float state are read from and
// written to the hart's area at each use.
import type { I32 } from "../../wasm/expr.ts";
import { hasFusedMultiplyAdd } from "../../wasm/fused.ts";
import type { FloatSemantics, FpSource } from "../isa/float-semantics.ts";
import { hartLayout } from "../hart/hart-layout.ts";
import type { Semantics } from "../isa/instruction-semantics.ts";
import { FFLAGS, RM } from "../float/softfloat-format.ts";
import { MSTATUS_FS } from "../../riscv/status.ts";

const FLOATS = hartLayout.offsetOf("f");
const FRM = hartLayout.offsetOf("frm");
const STATUS = hartLayout.offsetOf("mstatus");
const FS = Number(MSTATUS_FS);
const FIELD: Record<FpSource, number> = { 1: 15, 2: 20, 3: 27 };

/**
 * `register` is the address, minus FLOATS, of the 8-byte register whose number is at that bit of the word.
 */
export function interpretedFloat(
  s: Pick<Semantics, "f" | "hart" | "load" | "store" | "illegal">,
  register: (low: number) => I32,
): FloatSemantics {
  const { f, hart } = s;
  return {
    isFused: hasFusedMultiplyAdd(),
    require: () => f.if(hart.load32(STATUS).and(FS).eqz(), () => s.illegal(), undefined, false),
    markDirty: () => f.store32(hart, hart.load32(STATUS).or(FS), STATUS),
    roundingMode: (field) => {
      const rm = f.let(field);
      f.if(rm.eq(RM.DYN), () => rm.set(hart.load32(FRM)));
      f.if(rm.gtU(RM.RMM), () => s.illegal(), undefined, false);
      return rm;
    },
    inexact: () => hart.load32(hartLayout.offsetOf("fflags")).and(FFLAGS.NX),
    double: (source) => register(FIELD[source]).loadF64(FLOATS),
    single: (source) => ({
      low: register(FIELD[source]).loadF32(FLOATS),
      isBoxed: register(FIELD[source])
        .load32(FLOATS + 4)
        .eq(-1),
    }),
    setDouble: (value) => f.storeF64(register(7), value, FLOATS),
    setSingle: (value) => {
      f.storeF32(register(7), value, FLOATS);
      f.store32(register(7), -1, FLOATS + 4);
    },
    loadDouble: (address) => s.load("64", address).reinterpretF64(),
    loadSingle: (address) => s.load("32U", address).wrap().reinterpretF32(),
    storeDouble: (address, value) => s.store(8, address, value.reinterpret()),
    storeSingle: (address, value) => s.store(4, address, value.reinterpret().extendU()),
  };
}
