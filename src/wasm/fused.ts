// Whether the host has relaxed multiply-add (WebAssembly 3.0, relaxed SIMD) and rounds it once. The
// specification leaves fusing to the host but requires one choice for all modules and tiers; V8 chooses by
// the CPU (FMA3). So one probe is valid for the process. Left out: a host that fuses only one width counts as
// having neither.
import { F32, F64, I32 } from "./expr.ts";
import { fn } from "./function.ts";
import { compileModule, createSharedMemory, instantiateModule } from "./webassembly.ts";
import { buildModule } from "./module.ts";

let known: boolean | undefined;

/** True if `F64.relaxedMadd` and `F32.relaxedMadd` exist on this host and are fused. */
export function hasFusedMultiplyAdd(): boolean {
  known ??= probe();
  return known;
}

function probe(): boolean {
  // (1 + ε)² - (1 + 2ε) is ε², or 0 if the product is rounded first.
  const probe64 = fn("probe64", [F64, F64], I32, (_, x, z) => x.relaxedMadd(x, z).ne(F64.of(0)));
  const probe32 = fn("probe32", [F32, F32], I32, (_, x, z) => x.relaxedMadd(x, z).ne(F32.of(0)));
  const memory = { module: "env", name: "memory", initialPages: 1, maximumPages: 1, shared: true };
  const bytes = buildModule({ memory, exports: { probe64, probe32 } });
  try {
    const probes = instantiateModule(compileModule(bytes), { env: { memory: createSharedMemory(1) } });
    const isFused = (probe: unknown, epsilon: number): boolean => {
      return (probe as (x: number, z: number) => number)(1 + epsilon, -(1 + 2 * epsilon)) !== 0;
    };
    return isFused(probes["probe64"], 2 ** -30) && isFused(probes["probe32"], 2 ** -15);
  } catch {
    // A host without relaxed SIMD rejects the module.
    return false;
  }
}
