// Functions built with the DSL, run by the host: arithmetic, control flow, memory, atomics, imports, data.
import { describe, expect, it } from "vitest";
import { F64, I32, I64 } from "./expr.ts";
import { Data, fn, type AnyFn, type Fn, imported } from "./function.ts";
import { buildModule } from "./module.ts";

function run(exports: Record<string, AnyFn>, imports: Record<string, unknown> = {}) {
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 4, shared: true });
  const bytes = buildModule({
    memory: { module: "host", name: "memory", initialPages: 1, maximumPages: 4, shared: true },
    exports,
  });
  const module = new WebAssembly.Module(bytes);
  const instance = new WebAssembly.Instance(module, { host: { memory, ...imports } } as WebAssembly.Imports);
  return { call: instance.exports as Record<string, (...a: unknown[]) => unknown>, memory };
}

describe("wasm builder", () => {
  it("encodes constants of every size", () => {
    const values = [0n, -1n, 63n, 64n, -64n, -65n, 2n ** 63n - 1n, -(2n ** 63n), 0x1234_5678_9abcn];
    const exports = Object.fromEntries(
      values.map((v, i) => [`c${i}`, fn(`c${i}`, [], I64, () => I64.of(v))]),
    );
    const { call } = run(exports);
    expect(values.map((_, i) => call[`c${i}`]?.())).toEqual(values);
  });

  it("loops over memory and calls imports", () => {
    const log = imported("host", "log", [I64], undefined);
    const sum = fn("sum", [I32, I32], I64, (f, address, count) => {
      const total = f.let(I64.of(0));
      f.loop((again) => {
        f.if(count.eqz(), () => {
          f.call(log, total);
          f.return(total);
        });
        total.set(total.add(address.load64()));
        address.set(address.add(8));
        count.set(count.sub(1));
        f.br(again);
      });
    });
    const logged: bigint[] = [];
    const { call, memory } = run({ sum }, { log: (v: bigint) => logged.push(v) });
    new BigUint64Array(memory.buffer).set([1n, 2n, 3n, 4n]);
    expect(call.sum?.(8, 3)).toBe(9n);
    expect(logged).toEqual([9n]);
  });

  it("switches, with scoped locals, choose and select", () => {
    const pick = fn("pick", [I32], I32, (f, n) => {
      const out = f.let(I32.of(-1));
      f.switch(
        n,
        [10, 20, 30].map((v) => () => {
          const t = f.let(I32.of(v));
          out.set(t.add(1));
        }),
        () => f.return(n.gtU(100).choose(I32.of(7), n.eq(9).select(I32.of(8), I32.of(9)))),
      );
      return out;
    });
    const { call } = run({ pick });
    expect([0, 1, 2, 3, 9, 101].map((n) => call.pick?.(n))).toEqual([11, 21, 31, 9, 8, 7]);
  });

  it("leaves nested blocks by label", () => {
    const find = fn("find", [I32], I32, (f, limit) => {
      const i = f.let(I32.of(0));
      f.block((exit) => {
        f.loop((again) => {
          f.if(i.eq(limit), () => f.br(exit));
          i.set(i.add(1));
          f.switch(I32.of(0), [() => f.br(again)], () => f.unreachable());
        });
      });
      return i;
    });
    expect(run({ find }).call.find?.(5)).toBe(5);
  });

  it("does recursion, atomics, data segments and doubles", () => {
    const factorial: Fn<readonly [typeof I64], typeof I64> = fn("factorial", [I64], I64, (_f, n) =>
      n.eqz().choose(I64.of(1), n.mul(factorial.call(n.sub(1)))),
    );
    const swap = fn("swap", [I32, I32], I32, (f, from, to) => {
      f.drop(I32.of(16).rmw32("add", 1));
      f.drop(I32.of(24).rmw64("or", 1n << 40n));
      return I32.of(20).cmpxchg32(from, to);
    });
    const table = new Data(Uint8Array.of(5, 6, 7));
    const fill = fn("fill", [I32], undefined, (f, at) => f.init(at, table));
    const root = fn("root", [I32], F64, (_f, n) => n.toF64S().sqrt());
    const { call, memory } = run({ factorial, swap, fill, root });
    expect(call.factorial?.(20n)).toBe(2432902008176640000n);
    expect(call.swap?.(0, 77)).toBe(0);
    expect(call.swap?.(1, 78)).toBe(77);
    expect(new Int32Array(memory.buffer).slice(4, 8)).toEqual(Int32Array.of(2, 77, 0, 256));
    call.fill?.(100);
    expect([...new Uint8Array(memory.buffer, 99, 5)]).toEqual([0, 5, 6, 7, 0]);
    expect(call.root?.(16)).toBe(4);
  });

  it("writes the same bytes each time", () => {
    const f1 = fn("f", [], I32, () => I32.of(1));
    const memory = { module: "host", name: "memory", initialPages: 1, maximumPages: 1, shared: false };
    expect(buildModule({ memory, exports: { f1 } })).toEqual(buildModule({ memory, exports: { f1 } }));
  });
});
