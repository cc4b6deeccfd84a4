// Berkeley TestFloat as the judge of softfloat.ts: every operation, every rounding mode, results and flags.
// TestFloat is not part of the repository: build its `testfloat_gen` elsewhere, against a SoftFloat
// specialised for RISCV, and give its path:
//   node test/oracle/testfloat.ts PATH/testfloat_gen [--level 1|2] [--only NAME]
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import {
  BINARY32,
  BINARY64,
  type FpEnv,
  type FpFormat,
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
} from "../../src/hypervisor/riscv/softfloat.ts";

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
  ...operationsOf("f32", BINARY32),
  ...operationsOf("f64", BINARY64),
  ["f32_to_f64", (env, x) => fpConvert(env, BINARY32, BINARY64, operand(x, 0))],
  ["f64_to_f32", (env, x) => fpConvert(env, BINARY64, BINARY32, operand(x, 0))],
];

/** TestFloat's options, in the order of RISC-V's rounding modes. */
const modes = ["-rnear_even", "-rminMag", "-rmin", "-rmax", "-rnear_maxMag"];

/** Runs one operation in one mode; returns the number of vectors and the lines that differ. */
async function check(generator: string, level: string, name: string, op: Operation, rm: number) {
  const args = ["-level", level, "-tininessafter", "-exact", modes[rm] ?? "", name];
  const child = spawn(generator, args, { stdio: ["ignore", "pipe", "ignore"] });
  const failed = new Promise<never>((_, reject) => child.once("error", reject));
  let vectors = 0;
  const differences: string[] = [];
  const readAll = async (): Promise<void> => {
    for await (const line of createInterface({ input: child.stdout })) {
      const words = line.split(" ").map((word) => BigInt(`0x${word}`));
      const flags = Number(words.pop());
      const expected = words.pop();
      const env: FpEnv = { rm, flags: 0 };
      const found = op(env, words);
      vectors++;
      if (found !== expected || env.flags !== flags) {
        differences.push(`${name} rm=${rm}: ${line}: found ${found.toString(16)} ${env.flags.toString(16)}`);
      }
    }
  };
  await Promise.race([readAll(), failed]);
  return { vectors, differences };
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { level: { type: "string", default: "1" }, only: { type: "string" } },
});
const generator = positionals[0];
if (generator === undefined) {
  console.error("usage: node test/oracle/testfloat.ts PATH/testfloat_gen [--level 1|2] [--only NAME]");
  process.exit(2);
}
let total = 0;
let wrong = 0;
for (const [name, op] of operations) {
  if (values.only !== undefined && values.only !== name) continue;
  for (let rm = 0; rm < modes.length; rm++) {
    const { vectors, differences } = await check(generator, values.level, name, op, rm);
    if (vectors === 0) throw new Error(`${generator} gave no vectors for ${name}`);
    total += vectors;
    wrong += differences.length;
    for (const line of differences.slice(0, 5)) console.log(line);
  }
}
console.log(`${total} vectors, ${wrong} differ`);
process.exitCode = wrong === 0 ? 0 : 1;
