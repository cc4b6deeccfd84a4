// Functions built with the DSL and run by the host: arithmetic, control flow, memory, atomics, imports, data.
import { describe, expect, it } from "vitest";
import { F64, I32, I64 } from "./expr.ts";
import { Data, fn, type AnyFn, type Fn, imported } from "./function.ts";
import { buildModule } from "./module.ts";

function run(exports: Record<string, AnyFn>, imports: Record<string, unknown> = {}) {
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 4, shared: true });
  const bytes = buildModule({
    memory: { module: "env", name: "memory", initialPages: 1, maximumPages: 4, shared: true },
    exports,
  });
  const module = new WebAssembly.Module(bytes);
  const instance = new WebAssembly.Instance(module, { env: { memory, ...imports } } as WebAssembly.Imports);
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
    const log = imported("env", "log", [I64], undefined);
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

  // Constants fold to the value that the host computes from the same operands at run time.
  it("folds integer constants", () => {
    const words = [0, 1, -1, 5, 31, 33, 0x7fff_ffff, -0x8000_0000, 0x1234_5678];
    const longs = [0n, 1n, -1n, 63n, 65n, 2n ** 63n - 1n, -(2n ** 63n), 0x1234_5678_9abc_def0n, -300n];
    const binary32 = "eq ne ltS ltU gtS gtU leS leU geS geU add sub mul and or xor shl shrS shrU rotl rotr";
    const binary64 = "eq ne ltS ltU gtS gtU leS leU geS geU add sub mul and or xor shl shrS shrU";
    const unary32 = "eqz clz extend8S extend16S extendS extendU";
    const unary64 = "eqz extend8S extend16S extend32S wrap";
    type Operations = Record<string, (o?: I32 | I64) => I32 | I64>;
    const operation = (x: I32 | I64, name: string, y?: I32 | I64) => (x as unknown as Operations)[name]?.(y);
    const check = (type: typeof I32 | typeof I64, values: readonly (number | bigint)[], names: string[]) => {
      const of = type.of as (v: number | bigint) => I32 | I64;
      for (const name of names) {
        const { call } = run({
          at: fn(
            "at",
            [type, type],
            operation(of(values[0] ?? 0), name, of(1))?.type === I32.type ? I32 : I64,
            (_, x, y) => operation(x, name, y) as never,
          ),
        });
        for (const a of values) {
          for (const b of values) {
            const folded = operation(of(a), name, of(b));
            expect(`${name} ${a} ${b} ${folded?.constant}`).toBe(`${name} ${a} ${b} ${call.at?.(a, b)}`);
          }
        }
      }
    };
    check(I32, words, `${binary32} ${unary32}`.split(" "));
    check(I64, longs, `${binary64} ${unary64}`.split(" "));
  });

  it("omits code that constants make unreachable", () => {
    const missing = imported("env", "missing", [], I32);
    const same = fn("same", [I32, I64], I64, (f, x, y) => {
      f.if(I32.of(0), () => f.call(missing));
      f.if(
        I32.of(2),
        () => {
          const t = f.let(x.add(0).or(0).shl(0));
          f.block((exit) => {
            f.brIf(exit, I32.of(0).eq(1));
            f.if(I32.of(1), () => f.brIf(exit, t.eq(x)));
            f.unreachable();
          });
        },
        () => f.call(missing),
      );
      return I32.of(0).choose(missing.call().extendS(), I64.of(0).add(y).mul(1));
    });
    // `missing` is not even imported.
    expect(run({ same }).call.same?.(3, 4n)).toBe(4n);
    expect(I32.of(7).divU(0).constant).toBeUndefined();
  });

  it("writes the same bytes each time", () => {
    const f1 = fn("f", [], I32, () => I32.of(1));
    const memory = { module: "env", name: "memory", initialPages: 1, maximumPages: 1, shared: false };
    expect(buildModule({ memory, exports: { f1 } })).toEqual(buildModule({ memory, exports: { f1 } }));
  });
});
