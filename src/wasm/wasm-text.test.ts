import { expect, test } from "vitest";
import { F64, I32, I64 } from "./expr.ts";
import { fn, FnType, imported } from "./function.ts";
import { functionText } from "./wasm-text.ts";

const lines = (...args: Parameters<typeof functionText>): string[] =>
  functionText(...args).map(({ depth, text }) => "  ".repeat(depth) + text);

test("statements are folded, blocks are indented, locals have their names", () => {
  const helper = imported("env", "helper", [I64], I64);
  const sum = fn("sum", [I32, I32], I64, (f, address, count) => {
    const total = f.let(I64.of(-5), "total");
    const other = f.let(F64.of(1.5));
    f.loop((again) => {
      f.if(count.eqz(), () => f.return(total), undefined, false);
      total.set(total.add(address.load64(8)).xor(helper.call(total)));
      f.store8(address, total, 70000);
      f.brIf(again, other.gt(total.toF64S()), true);
      f.block((out) => f.brTable(count, [out, again]));
    });
    return count.eqz().choose(total, total.mul(2));
  });
  expect(lines(sum, ["address", "count"])).toEqual([
    "(local.set $total -5)",
    "(local.set $3 1.5)",
    "(loop @1",
    "  (if (i32.eqz $count) ;; unlikely",
    "    (return $total)",
    "  )",
    "  (local.set $total (i64.xor (i64.add $total (i64.load offset=8 $address)) (call $helper $total)))",
    "  (i64.store8 offset=0x11170 $address $total)",
    "  (br_if @1 (f64.gt $3 (f64.convert_i64_s $total))) ;; likely",
    "  (block @3",
    "    (br_table @3 @1 $count)",
    "  )",
    ")",
    "(if (result i64) (i32.eqz $count) (then $total) (else (i64.mul $total 2)))",
  ]);
});

test("calls through tables, tail calls, atomics, bulk memory, vectors", () => {
  const type = new FnType([I32] as const, I32);
  const tail = fn("tail", [I32, F64], I32, (f, a, x) => {
    f.drop(a.rmw64("xchg", 7, 16));
    f.atomicStore32(a, a.cmpxchg32(1, 2));
    f.fence();
    f.fill(a, 0, 64);
    f.copy(a, a.add(8), 4);
    f.drop(x.relaxedMadd(x, x));
    f.drop(x.toI64S());
    f.call(other, a);
    f.returnCallIndirect(type, a, a);
  });
  const other = fn("other", [I32], I32, (f, a) => {
    f.call(tail, a, F64.of(0));
  });
  expect(lines(tail, ["a", "x"])).toEqual([
    "(drop (i64.atomic.rmw.xchg offset=16 $a 7))",
    "(i32.atomic.store $a (i32.atomic.rmw.cmpxchg $a 1 2))",
    "(atomic.fence)",
    "(memory.fill $a 0 64)",
    "(memory.copy $a (i32.add $a 8) 4)",
    "(drop (f64x2.extract_lane 0 (f64x2.relaxed_madd (f64x2.splat $x) (f64x2.splat $x) (f64x2.splat $x))))",
    "(drop (i64.trunc_sat_f64_s $x))",
    "(drop (call $other $a))",
    "(return_call_indirect $a $a)",
    "(unreachable)",
  ]);
  expect(lines(other, ["a"])[0]).toBe("(drop (call $tail $a 0))");
});

test("a line has the note before it", () => {
  const noted = fn("noted", [I32], undefined, (f, a) => {
    f.store32(a, 0);
    f.note(4);
    f.store32(a, 4);
    f.store32(a, 5);
    f.note(8);
    f.if(a, () => {
      f.note(12);
      f.store32(a, 12);
    });
  });
  expect(functionText(noted).map(({ note }) => note)).toEqual([undefined, 4, 4, 8, 12, 12]);
});
