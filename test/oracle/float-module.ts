// The engine's float functions (softfloat-fast.ts) as a module of their own, for tests that call them
// directly. Left out: what the instruction rows do (rounding mode decoding, boxing of results in x registers).
import { fastFloats } from "../../src/hypervisor/riscv/softfloat-fast.ts";
import { makeFpSlow } from "../../src/hypervisor/riscv/softfloat.ts";
import { I32, I64 } from "../../src/wasm/expr.ts";
import { type Fn, imported } from "../../src/wasm/function.ts";
import { buildModule } from "../../src/wasm/module.ts";

const FFLAGS_OFFSET = 8;

/** Calls function `name` (such as "fadd.d") on register values. */
export type FloatCall = (
  name: string,
  rm: number,
  operands: readonly bigint[],
  flagsBefore: number,
) => { result: bigint; flags: number; slow: boolean };

/** `slow` in an answer tells whether the exact path was asked. */
export function instantiateFloats(): FloatCall {
  const params = [I32, I32, I32, I64, I64, I64] as const;
  const floats = fastFloats(imported("host", "fpSlow", params, I64), FFLAGS_OFFSET);
  const functions: Fn[] = [floats.s, floats.d].flatMap((format) => Object.values(format) as Fn[]);
  functions.push(floats.singleToDouble as Fn, floats.doubleToSingle as Fn);
  const bytes = buildModule({
    memory: { module: "host", name: "memory", initialPages: 1, maximumPages: 1, shared: true },
    exports: Object.fromEntries(functions.map((f) => [f.name, f])),
  });
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
  const state = new Uint32Array(memory.buffer);
  let asked = false;
  const fpSlow = makeFpSlow((hart, flags) => {
    asked = true;
    state[(hart + FFLAGS_OFFSET) / 4] = (state[(hart + FFLAGS_OFFSET) / 4] ?? 0) | flags;
  });
  const instance = new WebAssembly.Instance(new WebAssembly.Module(bytes), { host: { memory, fpSlow } });
  const exports = instance.exports as Record<string, (...args: (number | bigint)[]) => bigint>;
  return (name, rm, operands, flagsBefore) => {
    const call = exports[name];
    if (call === undefined) throw new Error(`no float function ${name}`);
    asked = false;
    state[FFLAGS_OFFSET / 4] = flagsBefore;
    const result = BigInt.asUintN(64, call(0, rm, ...operands));
    return { result, flags: state[FFLAGS_OFFSET / 4] ?? 0, slow: asked };
  };
}
