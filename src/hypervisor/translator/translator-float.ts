// The translator's implementation of float-semantics.ts. The f registers that a region names are locals, and
// so are the values that its instructions would otherwise load each time: whether FS is dirty, frm, and
// whether NX has accrued. A register that only binary32 instructions name is a binary32 local with a word
// that says whether it is boxed; the others are binary64.
import { REGISTERS as CSR } from "../../riscv/registers.ts";
import { F32, F64, type I32, type I64, type Value } from "../../wasm/expr.ts";
import type { Func, Local } from "../../wasm/function.ts";
import { hasFusedMultiplyAdd } from "../../wasm/fused.ts";
import type { FieldName } from "../isa/instruction-encoding.ts";
import type { BoxedSingle, FloatSemantics, FpSource } from "../isa/float-semantics.ts";
import { hartLayout } from "../hart/hart-layout.ts";
import type { Region } from "./region.ts";
import type { Row, Semantics, StoreSize } from "../isa/instruction-semantics.ts";
import { FFLAGS, RM } from "../float/softfloat-format.ts";
import { MSTATUS_FS } from "../../riscv/status.ts";

const SOURCES = ["frs1", "frs2", "frs3"] as const;
const REGISTERS = hartLayout.offsetOf("f");
const FS = Number(MSTATUS_FS);
const BOX = -1n << 32n;

/** Loads and stores of any type of value: at a host address after a TLB hit, otherwise as bits. */
export interface Accesses {
  load<T extends Value>(
    size: StoreSize,
    address: I64,
    zero: T,
    fromHost: (hva: I32, offset?: number) => T,
    fromBits: (bits: I64) => T,
  ): T;
  store(size: StoreSize, address: I64, toHost: (hva: I32, offset?: number) => void, bits: I64): void;
  /** Let the interpreter execute this instruction. */
  step(): void;
}

/** An f register: either one binary64 local or a binary32 local. */
interface Register {
  readonly double?: Local<F64>;
  readonly single?: { readonly low: Local<F32>; readonly isBoxed: Local<I32> };
}

/** The field names a binary32 register. */
function isSingle(row: Row, field: FieldName): boolean {
  if (row.name === "fcvt.s.d") return field === "frd";
  if (row.name === "fcvt.d.s") return field !== "frd";
  return row.extension === "F";
}

/** The float part of a region being generated. */
export class RegionFloat {
  readonly #f: Func;
  readonly #hart: I32;
  readonly registers = new Map<number, Register>();
  readonly #written = new Set<number>();
  /** Non-zero if FS is dirty and frm is not reserved. */
  readonly isReady: Local<I32>;
  readonly frm: Local<I32>;
  /** `isReady` has already been tested in this block. */
  isRequired = false;
  readonly inexact: Local<I32>;

  /** Emits the loads that the region needs. */
  constructor(f: Func, hart: I32, region: Region) {
    this.#f = f;
    this.#hart = hart;
    this.frm = f.let(hart.load32(hartLayout.offsetOf("frm")));
    const isDirty = hart.load32(hartLayout.offsetOf("mstatus")).and(FS).eq(FS);
    this.isReady = f.let(isDirty.and(this.frm.leU(RM.RMM)));
    this.inexact = f.let(this.#inexactNow());
    const singles = new Map<number, boolean>();
    for (const { instructions } of region.blocks) {
      for (const { row, word, flow } of instructions) {
        if (row === undefined || flow.kind === "step") continue;
        for (const field of [...SOURCES, "frd"] as const) {
          const low = row.fields.get(field);
          if (low === undefined) continue;
          const register = (word >>> low) & 31;
          singles.set(register, isSingle(row, field) && (singles.get(register) ?? true));
          if (field === "frd") this.#written.add(register);
        }
      }
    }
    for (const [i, only] of singles) {
      const at = REGISTERS + 8 * i;
      if (!only) this.registers.set(i, { double: f.let(hart.loadF64(at)) });
      else {
        const low = f.let(hart.loadF32(at));
        const isBoxed = f.let(hart.load32(at + 4).eq(-1));
        this.registers.set(i, { single: { low, isBoxed } });
      }
    }
  }

  /** Whether the region uses f registers or fflags. */
  static isUsedBy(region: Region): boolean {
    return region.blocks.some(({ instructions }) =>
      instructions.some(({ row, word, flow }) => {
        if (row === undefined || flow.kind === "step") return false;
        return (
          /^([FD]|Zf[ah])$/.test(row.extension) ||
          (row.extension === "Zicsr" && word >>> 20 === CSR.fflags.csr)
        );
      }),
    );
  }

  writeBack(): void {
    for (const i of this.#written) {
      const at = REGISTERS + 8 * i;
      const { double, single } = this.registers.get(i) as Register;
      if (double !== undefined) this.#f.storeF64(this.#hart, double, at);
      // If it is not boxed, it has not been written.
      else if (single !== undefined) {
        this.#f.if(single.isBoxed, () => {
          this.#f.storeF32(this.#hart, single.low, at);
          this.#f.store32(this.#hart, -1, at + 4);
        });
      }
    }
  }

  /** Called before the instructions of a block. */
  startBlock(): void {
    this.isRequired = false;
  }

  /**
   * fflags may have been cleared. Flags that arithmetic has set are noticed when the region is entered again.
   */
  flagsChanged(): void {
    this.inexact.set(this.#inexactNow());
  }

  #inexactNow(): I32 {
    return this.#hart.load32(hartLayout.offsetOf("fflags")).and(FFLAGS.NX);
  }

  /** The `FloatSemantics` for one instruction. */
  semantics(s: Pick<Semantics, "f" | "illegal">, word: number, access: Accesses): FloatSemantics {
    return new InstructionFloat(this, s, word, access);
  }
}

const FIELD: Record<FpSource, number> = { 1: 15, 2: 20, 3: 27 };

class InstructionFloat implements FloatSemantics {
  readonly isFused = hasFusedMultiplyAdd();
  readonly #region: RegionFloat;
  readonly #s: Pick<Semantics, "f" | "illegal">;
  readonly #word: number;
  readonly #access: Accesses;

  constructor(region: RegionFloat, s: Pick<Semantics, "f" | "illegal">, word: number, access: Accesses) {
    this.#region = region;
    this.#s = s;
    this.#word = word;
    this.#access = access;
  }

  #register(low: number): Register {
    return this.#region.registers.get((this.#word >>> low) & 31) as Register;
  }

  require(): void {
    // Instructions that make FS other than dirty leave the region.
    if (this.#region.isRequired) return;
    this.#region.isRequired = true;
    this.#s.f.if(this.#region.isReady.eqz(), () => this.#access.step(), undefined, false);
  }
  markDirty(): void {}
  roundingMode(field: I32): I32 {
    if (field.constant === RM.DYN) return this.#region.frm;
    this.#s.f.if(field.gtU(RM.RMM), () => this.#s.illegal());
    return field;
  }
  inexact(): I32 {
    return this.#region.inexact;
  }

  double(source: FpSource): F64 {
    return this.#register(FIELD[source]).double as Local<F64>;
  }
  single(source: FpSource): BoxedSingle {
    const { double, single } = this.#register(FIELD[source]);
    if (single !== undefined) return single;
    const bits = (double as Local<F64>).reinterpret();
    return { low: bits.wrap().reinterpretF32(), isBoxed: bits.geU(BOX) };
  }
  setDouble(value: F64): void {
    this.#register(7).double?.set(value);
  }
  setSingle(value: F32): void {
    const { double, single } = this.#register(7);
    single?.low.set(value);
    single?.isBoxed.set(1);
    double?.set(value.reinterpret().extendU().or(BOX).reinterpretF64());
  }

  loadDouble(address: I64): F64 {
    return this.#access.load<F64>(
      8,
      address,
      F64.of(0),
      (hva, at) => hva.loadF64(at),
      (bits) => bits.reinterpretF64(),
    );
  }
  loadSingle(address: I64): F32 {
    return this.#access.load<F32>(
      4,
      address,
      F32.of(0),
      (hva, at) => hva.loadF32(at),
      (bits) => bits.wrap().reinterpretF32(),
    );
  }
  storeDouble(address: I64, value: F64): void {
    const { f } = this.#s;
    this.#access.store(8, address, (hva, at) => f.storeF64(hva, value, at), value.reinterpret());
  }
  storeSingle(address: I64, value: F32): void {
    const { f } = this.#s;
    const bits = value.reinterpret().extendU();
    this.#access.store(4, address, (hva, at) => f.storeF32(hva, value, at), bits);
  }
}
