// Zfa (unprivileged specification, "Zfa"): constants, minimum and maximum that propagate NaNs, rounding to
// integers within the format, quiet comparisons, and JavaScript's conversion to 32 bits. For single, double
// and, with Zfh, half precision.
import { F64, I32, I64 } from "../../wasm/expr.ts";
import { type Fn, fn } from "../../wasm/function.ts";
import {
  accrue,
  double,
  fp,
  invalidIfSignaling,
  isNan,
  type RegisterFormat,
  rounded,
  single,
} from "./isa-fp.ts";
import { half } from "./isa-half.ts";
import type { Row, Semantics } from "./instruction-semantics.ts";
import { canonicalNan } from "../float/softfloat-fast.ts";
import { FFLAGS } from "../float/softfloat-format.ts";

/** The constants of fli, by rs1. 1 is the format's smallest normal number, 31 its canonical NaN. */
const CONSTANTS: readonly number[] = [
  ...[-1, Number.NaN, 2 ** -16, 2 ** -15, 2 ** -8, 2 ** -7, 0.0625, 0.125],
  ...[0.25, 0.3125, 0.375, 0.4375, 0.5, 0.625, 0.75, 0.875],
  ...[1, 1.25, 1.5, 1.75, 2, 2.5, 3, 4],
  ...[8, 16, 128, 256, 2 ** 15, 2 ** 16, Number.POSITIVE_INFINITY, Number.NaN],
];
const SMALLEST_NORMAL = 1;
const CANONICAL_NAN = 31;
const HALF_MAX = 65504;

function constant(format: RegisterFormat, index: number): F64 {
  const { host } = format;
  if (index === SMALLEST_NORMAL) return host.fromBits(I64.of(format.minNormal));
  if (index === CANONICAL_NAN) return canonicalNan(host);
  const value = CONSTANTS[index] ?? 0;
  return host.of(format.letter === "h" && value > HALF_MAX ? Number.POSITIVE_INFINITY : value);
}

/** (index) → the constant. */
function constantOf(format: RegisterFormat): Fn<readonly [typeof I32], typeof F64> {
  const { host } = format;
  return fn(`fli.${format.letter}`, [I32], host.type, (f, index) => {
    const cases = CONSTANTS.map((_, i) => () => f.return(constant(format, i)));
    f.switch(index, cases, () => {});
    return constant(format, CANONICAL_NAN);
  });
}

type Round = Fn<readonly [typeof I32, typeof I32, typeof F64, typeof I32], typeof F64>;

/** (hart, rm, x, whether an inexact result raises NX) → x, rounded to an integer, with its sign. */
function roundOf(format: RegisterFormat): Round {
  const { host } = format;
  return fn(`fround.${format.letter}`, [I32, I32, host.type, I32], host.type, (f, hart, rm, x, reports) => {
    f.if(isNan(x), () => {
      invalidIfSignaling(f, hart, format, x);
      f.return(canonicalNan(host));
    });
    const whole = f.let(x);
    const modes = [x.nearest(), x.trunc(), x.floor(), x.ceil()];
    f.switch(
      rm,
      modes.map((value) => () => whole.set(value)),
      () => {
        // Ties away from zero.
        whole.set(x.trunc());
        const isHalf = x.sub(whole).abs().ge(host.of(0.5));
        f.if(isHalf, () => whole.set(whole.add(host.of(1).copysign(x))));
      },
    );
    f.if(reports.and(whole.ne(x)), () => accrue(f, hart, FFLAGS.NX));
    return whole.copysign(x);
  });
}

function rowsOf(format: RegisterFormat): Row[] {
  const { fmt, host, letter } = format;
  const load = constantOf(format);
  const round = roundOf(format);
  /** Uses x and y if they are ordered; `otherwise` handles NaNs. */
  const ordered = (s: Semantics, use: (x: F64, y: F64) => void, otherwise: () => void): void => {
    const x = s.f.let(format.source(s, 1).number);
    const y = s.f.let(format.source(s, 2).number);
    s.f.if(
      x.lt(y).or(x.ge(y)),
      () => use(x, y),
      () => {
        for (const operand of [x, y]) invalidIfSignaling(s.f, s.hart, format, operand);
        otherwise();
      },
      true,
    );
  };
  const select = (name: string, funct3: string, choose: (x: F64, y: F64) => F64): Row => {
    return fp(`${name}.${letter}`, `00101${fmt} frs2 frs1 ${funct3} frd 1010011`, true, (s) => {
      ordered(
        s,
        (x, y) => format.set(s, choose(x, y)),
        () => format.set(s, canonicalNan(host)),
      );
    });
  };
  const compare = (name: string, funct3: string, test: (x: F64, y: F64) => I32): Row => {
    return fp(`${name}.${letter}`, `10100${fmt} frs2 frs1 ${funct3} rd 1010011`, true, (s) => {
      ordered(
        s,
        (x, y) => s.setRd(test(x, y).extendU()),
        () => s.setRd(I64.of(0)),
      );
    });
  };
  const toWhole = (name: string, code: string, reports: 0 | 1): Row => {
    return rounded(`${name}.${letter}`, `01000${fmt} ${code} frs1 rm frd 1010011`, (s, rm) => {
      format.set(s, round.call(s.hart, rm, format.source(s, 1).number, I32.of(reports)));
    });
  };
  return [
    fp(`fli.${letter}`, `11110${fmt} 00001 uimm5 000 frd 1010011`, true, (s) => {
      const index = s.field(15, 5);
      const known = index.constant;
      format.set(s, known === undefined ? load.call(index) : constant(format, known));
    }),
    // WebAssembly's min and max are IEEE's: the minimum of -0 and 0 is -0.
    select("fminm", "010", (x, y) => x.min(y)),
    select("fmaxm", "011", (x, y) => x.max(y)),
    toWhole("fround", "00100", 0),
    toWhole("froundnx", "00101", 1),
    compare("fleq", "100", (x, y) => x.le(y)),
    compare("fltq", "101", (x, y) => x.lt(y)),
  ];
}

const EXPONENT_BIAS = 1075;
const FRACTION = (1n << 52n) - 1n;

/** (hart, x) → x without its fraction, modulo 2^32, as a signed word. */
const toWordModulo = fn("fcvtmod.w.d", [I32, F64], I64, (f, hart, x) => {
  const bits = f.let(x.reinterpret());
  const word = f.let(I64.of(0));
  f.if(
    x.abs().lt(F64.of(2 ** 63)),
    () => {
      const whole = f.let(x.trunc());
      word.set(whole.toI64S());
      f.if(word.eq(word.extend32S()), () => {
        f.if(whole.ne(x), () => accrue(f, hart, FFLAGS.NX));
        f.return(word);
      });
    },
    () => {
      // Bits of weight 2^32 and more are 0 modulo 2^32; infinities and NaNs give 0.
      const shift = f.let(bits.shrU(52).and(0x7ff).sub(EXPONENT_BIAS));
      f.if(shift.ltU(32), () => {
        const magnitude = f.let(
          bits
            .and(FRACTION)
            .or(FRACTION + 1n)
            .shl(shift),
        );
        word.set(bits.ltS(0).select<I64>(I64.of(0).sub(magnitude), magnitude));
      });
    },
  );
  accrue(f, hart, FFLAGS.NV);
  return word.extend32S();
});

export const additionalFloatRows: readonly Row[] = [
  ...[single, double, half].flatMap(rowsOf),
  fp("fcvtmod.w.d", "1100001 01000 frs1 001 rd 1010011", true, (s) => {
    s.setRd(toWordModulo.call(s.hart, double.source(s, 1).number));
  }),
];
