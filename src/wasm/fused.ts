// Whether this host's relaxed multiply-add (WebAssembly 3.0, relaxed SIMD) is there and rounds once. The
// specification leaves fused or not to the host, but has it decide once for all modules and tiers; V8 does by the
// CPU (FMA3). So one look tells for the process. Left out: hosts that fuse one width only get neither.
import { F32, F64, I32 } from "./expr.ts";
import { fn } from "./function.ts";
import { compileModule, createSharedMemory, instantiateModule } from "./host.ts";
import { buildModule } from "./module.ts";

let known: boolean | undefined;

/** `F64.relaxedMadd` and `F32.relaxedMadd` exist here and are fused. */
export function hasFusedMultiplyAdd(): boolean {
  known ??= probe();
  return known;
}

function probe(): boolean {
  // (1 + ε)² - (1 + 2ε) is ε²; rounded in between it is 0.
  const probe64 = fn("probe64", [F64, F64], I32, (_, x, z) => x.relaxedMadd(x, z).ne(F64.of(0)));
  const probe32 = fn("probe32", [F32, F32], I32, (_, x, z) => x.relaxedMadd(x, z).ne(F32.of(0)));
  const memory = { module: "host", name: "memory", initialPages: 1, maximumPages: 1, shared: true };
  const bytes = buildModule({ memory, exports: { probe64, probe32 } });
  try {
    const probes = instantiateModule(compileModule(bytes), { host: { memory: createSharedMemory(1) } });
    const isFused = (probe: unknown, epsilon: number): boolean => {
      return (probe as (x: number, z: number) => number)(1 + epsilon, -(1 + 2 * epsilon)) !== 0;
    };
    return isFused(probes["probe64"], 2 ** -30) && isFused(probes["probe32"], 2 ** -15);
  } catch {
    // A host without relaxed SIMD refuses the module.
    return false;
  }
}
