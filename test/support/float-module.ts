// The F and D rows (isa-fp.ts) as functions of a module, for tests that call them directly with register
// values: the code that the translator emits. Left out: loads and stores, FS, frm, illegal modes.
import type { FloatSemantics } from "../../src/hypervisor/isa/float-semantics.ts";
import { hartLayout } from "../../src/hypervisor/hart/hart-layout.ts";
import { fpRows, fpSlow } from "../../src/hypervisor/isa/isa-fp.ts";
import { halfRows } from "../../src/hypervisor/isa/isa-half.ts";
import type { Row, Semantics } from "../../src/hypervisor/isa/instruction-semantics.ts";
import { FFLAGS } from "../../src/hypervisor/float/softfloat-format.ts";
import { I32, I64 } from "../../src/wasm/expr.ts";
import { type Fn, fn, type Func, type Local } from "../../src/wasm/function.ts";
import { buildModule, type ModuleOptions } from "../../src/wasm/module.ts";

const FFLAGS_OFFSET = hartLayout.offsetOf("fflags");

/** Calls the row of this name (such as "fadd.d") with the values of its x or f registers. */
export type FloatCall = (
  name: string,
  rm: number,
  operands: readonly bigint[],
  flagsBefore: number,
) => { result: bigint; flags: number; slow: boolean };

export interface FloatModuleOptions {
  /** Use the relaxed multiply-add, which must be fused on this host. */
  readonly isFused: boolean;
  /** Rounding modes are constants, as in translated code; otherwise read at run time. */
  readonly isStatic: boolean;
}

const params = [I32, I32, I64, I64, I64] as const;

function rowFunction(row: Row, name: string, mode: number | undefined, isFused: boolean): Fn {
  return fn(name, params, I64, (f: Func, hart: I32, rm: I32, ...registers: Local<I64>[]) => {
    const result = f.let(I64.of(0));
    const source = (n: number): I64 => registers[n - 1] as I64;
    const nx = f.let(hart.load32(FFLAGS_OFFSET).and(FFLAGS.NX));
    const float: Partial<FloatSemantics> = {
      isFused,
      require: () => {},
      markDirty: () => {},
      roundingMode: (field) => field,
      inexact: () => nx,
      double: (n) => source(n).reinterpretF64(),
      single: (n) => ({ low: source(n).wrap().reinterpretF32(), isBoxed: source(n).shrS(32).eq(-1) }),
      setDouble: (value) => result.set(value.reinterpret()),
      setSingle: (value) =>
        result.set(
          value
            .reinterpret()
            .extendU()
            .or(-1n << 32n),
        ),
    };
    const field = (low: number): I32 => {
      if (low === 12) return mode === undefined ? rm : I32.of(mode);
      return I32.of(low);
    };
    const semantics: Partial<Semantics> = {
      f,
      hart,
      float: float as FloatSemantics,
      rs1: source(1),
      field,
      setRd: (value) => result.set(value),
      illegal: () => f.unreachable(),
    };
    row.meaning(semantics as Semantics);
    return result;
  }) as unknown as Fn;
}

const MEMORY = { module: "env", name: "memory", initialPages: 1, maximumPages: 1, shared: true };
type Exports = Record<string, (...args: (number | bigint)[]) => bigint>;

function instantiate(options: ModuleOptions, imports: WebAssembly.Imports): Exports {
  return new WebAssembly.Instance(new WebAssembly.Module(buildModule(options)), imports).exports as Exports;
}

/** The exact path alone: (hart area at 0, op, rm, a, b, c) → bits. Flags accrue into `flags`. */
export function instantiateSlow(): {
  call(op: number, rm: number, a: bigint, b: bigint, c: bigint): bigint;
  flags: Uint32Array;
} {
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
  const slow = instantiate({ memory: MEMORY, exports: { fpSlow } }, { env: { memory } })["fpSlow"];
  return {
    call: (op, rm, a, b, c) => (slow as NonNullable<typeof slow>)(0, op, rm, a, b, c),
    flags: new Uint32Array(memory.buffer, FFLAGS_OFFSET, 1),
  };
}

/** `slow` in a result is true if the exact path was called. */
export function instantiateFloats({ isFused, isStatic }: FloatModuleOptions): FloatCall {
  const exported: Record<string, Fn> = {};
  for (const row of [...fpRows, ...halfRows]) {
    if (row.fields.has("imm12") || row.immediate !== undefined) continue;
    for (const mode of isStatic ? [0, 1, 2, 3, 4] : [undefined]) {
      const name = mode === undefined ? row.name : `${row.name}/${mode}`;
      exported[name] = rowFunction(row, name, mode, isFused);
    }
  }
  // The exact path is in a module of its own, so that calls to it can be observed.
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
  let asked = false;
  const exact = instantiate({ memory: MEMORY, exports: { fpSlow } }, { env: { memory } })["fpSlow"];
  const exports = instantiate(
    {
      memory: MEMORY,
      exports: exported,
      externals: { module: "exact", names: new Set(["fpSlow"]) },
    },
    {
      env: { memory },
      exact: {
        fpSlow: (...args: (number | bigint)[]) => {
          asked = true;
          return exact?.(...args);
        },
      },
    },
  );
  const state = new Uint32Array(memory.buffer);
  return (name, rm, operands, flagsBefore) => {
    const call = exports[isStatic ? `${name}/${rm}` : name];
    if (call === undefined) throw new Error(`no float instruction ${name}`);
    asked = false;
    state[FFLAGS_OFFSET / 4] = flagsBefore;
    const [a = 0n, b = 0n, c = 0n] = operands;
    const result = BigInt.asUintN(64, call(0, rm, a, b, c));
    return { result, flags: state[FFLAGS_OFFSET / 4] ?? 0, slow: asked };
  };
}
