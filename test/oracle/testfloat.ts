// Berkeley TestFloat as the judge of reference-softfloat.ts, and with --engine, of an engine that executes
// the instruction or of the instruction rows alone ("rows"): every operation, every rounding mode, results
// and flags. TestFloat is not part of the repository: build its `testfloat_gen` elsewhere, against a
// SoftFloat specialised for RISCV, and give its path:
//   node test/oracle/testfloat.ts PATH/testfloat_gen [--level 1|2] [--only NAME]
//     [--engine rows|interpreter|translator] [--threshold N]
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import {
  type FpEnv,
  fpAdd,
  fpConvert,
  fpDiv,
  fpEq,
  fpFma,
  fpFromInt,
  fpLe,
  fpLt,
  fpMul,
  fpSqrt,
  fpSub,
  fpToInt,
} from "../support/reference-softfloat.ts";

import {
  BINARY16,
  BINARY32,
  BINARY64,
  FFLAGS,
  type FpFormat,
} from "../../src/hypervisor/float/softfloat-format.ts";
import { hasFusedMultiplyAdd } from "../../src/wasm/fused.ts";
import { rowNamed } from "../../src/hypervisor/isa/isa.ts";
import { engineOf } from "./engine-option.ts";
import { BATCH, FloatGuest, type FloatResult } from "./float-guest.ts";
import { instantiateFloats } from "../support/float-module.ts";

type Operation = (env: FpEnv, operands: bigint[]) => bigint;

const operand = (operands: bigint[], i: number): bigint => operands[i] ?? 0n;

function operationsOf(name: string, f: FpFormat): [string, Operation][] {
  const binary = (op: (env: FpEnv, f: FpFormat, a: bigint, b: bigint) => bigint | boolean): Operation => {
    return (env, x) => BigInt(op(env, f, operand(x, 0), operand(x, 1)));
  };
  const toInt = (width: 32 | 64, isSigned: boolean): Operation => {
    return (env, x) => BigInt.asUintN(width, fpToInt(env, f, operand(x, 0), width, isSigned));
  };
  return [
    [`${name}_add`, binary(fpAdd)],
    [`${name}_sub`, binary(fpSub)],
    [`${name}_mul`, binary(fpMul)],
    [`${name}_div`, binary(fpDiv)],
    [`${name}_eq`, binary(fpEq)],
    [`${name}_lt`, binary(fpLt)],
    [`${name}_le`, binary(fpLe)],
    [`${name}_sqrt`, (env, x) => fpSqrt(env, f, operand(x, 0))],
    [`${name}_mulAdd`, (env, x) => fpFma(env, f, operand(x, 0), operand(x, 1), operand(x, 2))],
    [`${name}_to_i32`, toInt(32, true)],
    [`${name}_to_ui32`, toInt(32, false)],
    [`${name}_to_i64`, toInt(64, true)],
    [`${name}_to_ui64`, toInt(64, false)],
    [`i32_to_${name}`, (env, x) => fpFromInt(env, f, BigInt.asIntN(32, operand(x, 0)))],
    [`ui32_to_${name}`, (env, x) => fpFromInt(env, f, operand(x, 0))],
    [`i64_to_${name}`, (env, x) => fpFromInt(env, f, BigInt.asIntN(64, operand(x, 0)))],
    [`ui64_to_${name}`, (env, x) => fpFromInt(env, f, operand(x, 0))],
  ];
}

const operations: [string, Operation][] = [
  ...operationsOf("f16", BINARY16),
  ...operationsOf("f32", BINARY32),
  ...operationsOf("f64", BINARY64),
  ["f16_to_f32", (env, x) => fpConvert(env, BINARY16, BINARY32, operand(x, 0))],
  ["f16_to_f64", (env, x) => fpConvert(env, BINARY16, BINARY64, operand(x, 0))],
  ["f32_to_f16", (env, x) => fpConvert(env, BINARY32, BINARY16, operand(x, 0))],
  ["f64_to_f16", (env, x) => fpConvert(env, BINARY64, BINARY16, operand(x, 0))],
  ["f32_to_f64", (env, x) => fpConvert(env, BINARY32, BINARY64, operand(x, 0))],
  ["f64_to_f32", (env, x) => fpConvert(env, BINARY64, BINARY32, operand(x, 0))],
];

/** The instruction for an operation of TestFloat. */
function instructionName(name: string): string {
  const ints: Record<string, string> = { i32: "w", ui32: "wu", i64: "l", ui64: "lu" };
  const formats: Record<string, string> = { f16: "h", f32: "s", f64: "d" };
  const conversion = /^(\w+)_to_(\w+)$/.exec(name);
  if (conversion) {
    const [from, to] = conversion.slice(1).map((type) => formats[type] ?? ints[type] ?? type);
    return `fcvt.${to}.${from}`;
  }
  const [format = "", op = ""] = name.split("_");
  return `${op === "mulAdd" ? "fmadd" : `f${op}`}.${formats[format]}`;
}

/** Converts operands to register values; `mask` selects the bits of TestFloat's result. */
function registersOf(name: string): { toRegister: (x: bigint) => bigint; mask: bigint } {
  const [, from = "", to = ""] = /^(?:(\w+)_to_)?(\w+?)(?:_\w+)?$/.exec(name) ?? [];
  const source = from === "" ? to : from;
  const toRegister = (x: bigint): bigint => {
    if (source === "f16") return x | 0xffff_ffff_ffff_0000n;
    if (source === "f32") return x | 0xffff_ffff_0000_0000n;
    return source === "i32" ? BigInt.asIntN(32, x) : x;
  };
  const isComparison = /_(eq|lt|le)$/.test(name);
  const isShort = (to === "f32" && !isComparison) || /^u?i32$/.test(to);
  if (to === "f16" && !isComparison) return { toRegister, mask: 0xffffn };
  return { toRegister, mask: isShort ? 0xffff_ffffn : 0xffff_ffff_ffff_ffffn };
}

/**
 * The operation as WebAssembly functions: the interpreter's and the translator's, each with NX clear and set.
 * A difference between them is reported as one of the flags.
 */
function rowsOperation(name: string): Operation {
  const ours = instructionName(name);
  const { toRegister, mask } = registersOf(name);
  return (env, operands) => {
    const registers = operands.map(toRegister);
    const [first, ...others] = calls.flatMap((call) => {
      const set = call(ours, env.rm, registers, FFLAGS.NX);
      return [call(ours, env.rm, registers, 0), { result: set.result, flags: set.flags }];
    });
    const { result = 0n, flags = 0 } = first ?? {};
    const agree = others.every((o) => o.result === result && (o.flags | FFLAGS.NX) === (flags | FFLAGS.NX));
    env.flags = agree && others[1]?.flags === flags ? flags : -1;
    return result & mask;
  };
}
const calls = [
  { isFused: false, isStatic: false },
  { isFused: hasFusedMultiplyAdd(), isStatic: true },
].map(instantiateFloats);

/** TestFloat's options, in the order of RISC-V's rounding modes. */
const modes = ["-rnear_even", "-rminMag", "-rmin", "-rmax", "-rnear_maxMag"];

interface Vector {
  readonly line: string;
  readonly operands: readonly bigint[];
  readonly expected: FloatResult;
}
/** The results of a batch of vectors in a rounding mode; bits above the result's format are 0. */
type Judged = (rm: number, batch: readonly Vector[]) => FloatResult[];

const oneByOne = (op: Operation): Judged => {
  return (rm, batch) =>
    batch.map(({ operands }) => {
      const env: FpEnv = { rm, flags: 0 };
      const result = op(env, [...operands]);
      return { result, flags: env.flags };
    });
};

/**
 * By executing the instruction: batches alternate between the static and the dynamic rounding mode, and
 * between NX clear and set before.
 */
function executed(name: string, guest: FloatGuest): Judged {
  const instruction = instructionName(name);
  const { toRegister, mask } = registersOf(name);
  const hasMode = rowNamed(instruction).fields.has("rm");
  let turn = 0;
  return (rm, batch) => {
    const flagsBefore = (turn & 2) === 0 ? 0 : FFLAGS.NX;
    const vectors = batch.map(({ operands }) => ({
      operands: operands.map((x) => BigInt.asUintN(64, toRegister(x))),
      flagsBefore,
    }));
    const found = guest.run(instruction, rm, hasMode && (turn & 1) === 1, vectors);
    turn++;
    return found.map(({ result, flags }, i) => {
      // NX was set before and stays set, so it tells nothing about this vector.
      const judged =
        flags & flagsBefore ? (flags & ~FFLAGS.NX) | ((batch[i] as Vector).expected.flags & FFLAGS.NX) : -1;
      return { result: result & mask, flags: flagsBefore === 0 ? flags : judged };
    });
  };
}

/** Runs one operation in one mode; returns the number of vectors and the lines that differ. */
async function check(generator: string, level: string, name: string, judged: Judged, rm: number) {
  const args = ["-level", level, "-tininessafter", "-exact", modes[rm] ?? "", name];
  const child = spawn(generator, args, { stdio: ["ignore", "pipe", "ignore"] });
  const failed = new Promise<never>((_, reject) => child.once("error", reject));
  let vectors = 0;
  const differences: string[] = [];
  let batch: Vector[] = [];
  const judge = (): void => {
    for (const [i, found] of judged(rm, batch).entries()) {
      const { line, expected } = batch[i] as Vector;
      if (found.result === expected.result && found.flags === expected.flags) continue;
      differences.push(
        `${name} rm=${rm}: ${line}: found ${found.result.toString(16)} ${found.flags.toString(16)}`,
      );
    }
    vectors += batch.length;
    batch = [];
  };
  const readAll = async (): Promise<void> => {
    for await (const line of createInterface({ input: child.stdout })) {
      const words = line.split(" ").map((word) => BigInt(`0x${word}`));
      const flags = Number(words.pop());
      const result = words.pop() ?? 0n;
      batch.push({ line, operands: words, expected: { result, flags } });
      if (batch.length === BATCH) judge();
    }
    if (batch.length > 0) judge();
  };
  await Promise.race([readAll(), failed]);
  return { vectors, differences };
}

const usage =
  "usage: node test/oracle/testfloat.ts PATH/testfloat_gen [--level 1|2] [--only NAME] [--engine rows|interpreter|translator]";
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    level: { type: "string", default: "1" },
    only: { type: "string" },
    engine: { type: "string" },
    threshold: { type: "string", default: "0" },
  },
});
const generator = positionals[0];
if (generator === undefined) {
  console.error(usage);
  process.exit(2);
}
const guest =
  values.engine === undefined || values.engine === "rows"
    ? undefined
    : new FloatGuest(engineOf({ engine: values.engine, threshold: values.threshold }));
const judgedBy = (name: string, reference: Operation): Judged => {
  if (guest !== undefined) return executed(name, guest);
  return oneByOne(values.engine === "rows" ? rowsOperation(name) : reference);
};
let total = 0;
let wrong = 0;
for (const [name, reference] of operations) {
  const judged = judgedBy(name, reference);
  if (values.only !== undefined && values.only !== name) continue;
  for (let rm = 0; rm < modes.length; rm++) {
    const { vectors, differences } = await check(generator, values.level, name, judged, rm);
    if (vectors === 0) throw new Error(`${generator} gave no vectors for ${name}`);
    total += vectors;
    wrong += differences.length;
    for (const line of differences.slice(0, 5)) console.log(line);
  }
}
console.log(`${total} vectors, ${wrong} differ`);
process.exitCode = wrong === 0 ? 0 : 1;
