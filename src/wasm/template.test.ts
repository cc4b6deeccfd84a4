// Templates: the code that is written has the operands, locals and branches of the place it is written at.
import { expect, test } from "vitest";
import { I32, I64 } from "./expr.ts";
import { fn, recordTemplate, TEMPLATE_EXIT, templateConstant } from "./function.ts";
import { buildModule } from "./module.ts";
import { compileModule, instantiateModule } from "./webassembly.ts";

const memory = { module: "env", name: "memory", initialPages: 1, maximumPages: 1, shared: false };
const square = fn("square", [I64], I64, (_f, x) => x.mul(x));

/** rd = rs² + constant, unless rs is the limit: then the exit. With temporaries of two types. */
const step = recordTemplate([I32], (f) => {
  const [rs, rd] = [f.operand(I64, 0), f.operand(I64, 1)];
  const squared = f.let(square.call(rs));
  f.scope(() => {
    const isLimit = f.let(rs.eq(templateConstant.i64(3)));
    f.if(isLimit, () => f.if(isLimit, () => f.br(TEMPLATE_EXIT)));
  });
  rd.set(squared.add(templateConstant.i64(2)));
});

test.each([0, 1, 63, 64, -64, -65, 8191, 2 ** 31 - 1, -(2 ** 31)])("with the constant %i", (constant) => {
  const main = fn("main", [I32, I64], I64, (f, _unused, x) => {
    // More locals than one byte of an index counts.
    const many = Array.from({ length: 130 }, () => f.let(x));
    const [a, b] = [many[0], many[129]];
    const done = f.let(I64.of(-1));
    f.block((exit) => {
      f.loop(() => {
        f.write(step, [a?.index ?? 0, b?.index ?? 0, constant, 7], exit);
        f.write(step, [b?.index ?? 0, done.index ?? 0, constant, 7], exit);
      });
    });
    return done;
  });
  const run = instantiateModule(compileModule(buildModule({ memory, exports: { main } })), {
    env: { memory: new WebAssembly.Memory({ initial: 1, maximum: 1 }) },
  })["main"] as (unused: number, x: bigint) => bigint;
  const judge = (x: bigint): bigint => {
    if (x === 7n) return -1n;
    const first = BigInt.asIntN(64, x * x + BigInt(constant));
    return first === 7n ? -1n : BigInt.asIntN(64, first * first + BigInt(constant));
  };
  for (const x of [0n, 1n, 5n, 7n, -9n, 2n ** 40n]) expect(run(0, x)).toBe(judge(x));
});
