// npm run check:float -- [--count N] [--seed S] [--engine translator|interpreter] [--only NAME]: executed
// floating-point instructions, judged by exact arithmetic: each instruction in each rounding mode, static and
// dynamic (frm), with fflags initially clear and set. Without --engine it checks both engines; the translator
// translates from the first instruction.
import { parseArgs } from "node:util";
import { ENGINE_KINDS, type EngineKind } from "../../src/hypervisor/shared/engine-kind.ts";
import { rowNamed } from "../../src/hypervisor/isa/isa.ts";
import type { FpEnv } from "../support/reference-softfloat.ts";
import { FloatGuest, type FloatResult, type FloatVector } from "./float-guest.ts";
import { type FloatOperation, floatOperations } from "./float-vectors.ts";
import { Random } from "../support/random.ts";

const MODES = ["rne", "rtz", "rdn", "rup", "rmm"];
const REPORTED = 5;

interface Judged extends FloatVector {
  readonly expected: FloatResult;
}

function vectorsOf(r: Random, operation: FloatOperation, rm: number, count: number): Judged[] {
  return Array.from({ length: count }, () => {
    const operands = operation.operands(r);
    const flagsBefore = r.pick([0, 0, 1, r.int(32)]);
    const env: FpEnv = { rm, flags: flagsBefore };
    const result = BigInt.asUintN(64, operation.expected(env, operands));
    return { operands, flagsBefore, expected: { result, flags: env.flags } };
  });
}

const hex = (x: bigint): string => x.toString(16);

/** One line for each vector that differs. */
function differences(vectors: readonly Judged[], found: readonly FloatResult[]): string[] {
  return vectors.flatMap(({ operands, flagsBefore, expected }, i) => {
    const { result, flags } = found[i] as FloatResult;
    if (result === expected.result && flags === expected.flags) return [];
    const given = `${operands.map(hex).join(" ")} fflags ${flagsBefore}`;
    return [
      `${given}: ${hex(expected.result)} fflags ${expected.flags}, found ${hex(result)} fflags ${flags}`,
    ];
  });
}

const { values } = parseArgs({
  options: {
    count: { type: "string", default: "4000" },
    seed: { type: "string", default: String(Date.now() % 2 ** 31) },
    engine: { type: "string" },
    threshold: { type: "string", default: "0" },
    only: { type: "string" },
  },
});
const seed = Number(values.seed);
const count = Number(values.count);
const engines = ENGINE_KINDS.filter((kind) => values.engine === undefined || kind === values.engine);
if (engines.length === 0) throw new Error(`--engine is ${ENGINE_KINDS.join(" or ")}`);
const guests = new Map<EngineKind, FloatGuest>(
  engines.map((engine) => [engine, new FloatGuest({ engine, threshold: Number(values.threshold) })]),
);
const operations = floatOperations().filter(({ name }) => values.only === undefined || name === values.only);
console.log(`floating point, ${operations.length} instructions on ${engines.join(" and ")}, seed ${seed}`);

const r = new Random(seed);
let total = 0;
let wrong = 0;
for (const operation of operations) {
  const hasMode = rowNamed(operation.name).fields.has("rm");
  for (const [rm, mode] of MODES.entries()) {
    if (rm > 0 && !operation.rounds) break;
    const vectors = vectorsOf(r, operation, rm, count);
    for (const dynamic of hasMode ? [false, true] : [false]) {
      for (const [engine, guest] of guests) {
        const lines = differences(vectors, guest.run(operation.name, rm, dynamic, vectors));
        total += vectors.length;
        wrong += lines.length;
        for (const line of lines.slice(0, REPORTED))
          console.log(`${engine}: ${operation.name} ${mode}${dynamic ? " by frm" : ""} ${line}`);
      }
    }
  }
}
console.log(`${total} vectors, ${wrong} differ`);
process.exitCode = wrong === 0 && total > 0 ? 0 : 1;
