// Litmus programs as guest code, and their batches: each instance has its own variables; harts reach it at
// about the same time, by occasional barriers, and after random delays. Counts the instances' outcomes.
import type { Random } from "../support/random.ts";
import { DATA, DATA_SIZE, finish, type LitmusMachine } from "./machine.ts";
import { type LitmusTest, type Operation, type Outcome, registersOf, VARIABLES } from "./program.ts";

/**
 * Bytes of an instance: variables 128 bytes apart, the barrier's word, four result registers of each hart.
 */
const STRIDE = 512;
const VARIABLE_STRIDE = 128;
const BARRIER = 320;
const RESULTS = 384;
const RESULTS_PER_HART = 32;
const LARGEST_BATCH = DATA_SIZE / STRIDE;
/** Maximum number of barriers in a batch. */
const BARRIERS = 64;
const LIMIT_MS = 60_000;

/** Registers of the operations' results. */
const RESULT_REGISTERS = ["s4", "s5", "s6", "s7"];
const ADDRESSES = { x: "s0", y: "s1", z: "s2" } as const;

function operationText(o: Operation, width: "w" | "d", registerOf: (name: string) => string): string {
  if (o.op === "fence") {
    return o.before === "tso" ? ".word 0x8330000f # fence.tso" : `fence ${o.before}, ${o.after}`;
  }
  const address = ADDRESSES[o.variable];
  if (o.op === "amo") {
    return `li t0, ${o.value}\namo${o.kind}.${width}${o.ordering} ${registerOf(o.register)}, t0, (${address})`;
  }
  if (o.op === "lrsc") {
    const register = registerOf(o.register);
    return `1: lr.${width}${o.lr} ${register}, (${address})
      addi t1, ${register}, ${o.value}
      sc.${width}${o.sc} t2, t1, (${address})
      bnez t2, 1b`;
  }
  const lines: string[] = [];
  let at: string = address;
  const after = o.after === undefined ? undefined : { ...o.after, register: registerOf(o.after.register) };
  if (after?.kind === "ctrl") lines.push(`bnez ${after.register}, 1f\n1:`);
  if (after?.kind === "addr" || after?.kind === "data")
    lines.push(`xor t1, ${after.register}, ${after.register}`);
  if (after?.kind === "addr") {
    lines.push(`add t1, t1, ${address}`);
    at = "t1";
  }
  if (o.op === "load") lines.push(`l${width} ${registerOf(o.register)}, 0(${at})`);
  else {
    lines.push(`li t0, ${o.value}`);
    if (after?.kind === "data") lines.push("add t0, t0, t1");
    lines.push(`s${width} t0, 0(${at})`);
  }
  return lines.join("\n");
}

/** a0 instance, a1 end, a3 random state, a4 barrier mask, a5 harts, a6 index, a7 delay mask. */
function hartText(test: LitmusTest, hart: number, width: "w" | "d"): string {
  const mine = registersOf(test).filter((r) => r.hart === hart);
  const registerOf = (name: string): string =>
    RESULT_REGISTERS[mine.findIndex(({ register }) => register === name)] as string;
  const body = (test.harts[hart] as readonly Operation[]).map((o) => operationText(o, width, registerOf));
  const results = mine.map(
    (_, i) => `sd ${RESULT_REGISTERS[i]}, ${RESULTS + hart * RESULTS_PER_HART + 8 * i}(a0)`,
  );
  return `
hart${hart}:
  fence.i
instance${hart}:
  and t0, a6, a4
  bnez t0, delay${hart}
  addi t1, a0, ${BARRIER}
  li t2, 1
  amoadd.w.aqrl x0, t2, (t1)
wait${hart}:
  lw t2, 0(t1)
  bltu t2, a5, wait${hart}
delay${hart}:
  slli t0, a3, 13
  xor a3, a3, t0
  srli t0, a3, 7
  xor a3, a3, t0
  slli t0, a3, 17
  xor a3, a3, t0
  and t0, a3, a7
body${hart}:
  addi t0, t0, -1
  bgez t0, body${hart}
  mv s0, a0
  addi s1, a0, ${VARIABLE_STRIDE}
  addi s2, a0, ${2 * VARIABLE_STRIDE}
  ${body.join("\n  ")}
  ${results.join("\n  ")}
  addi a0, a0, ${STRIDE}
  addi a6, a6, 1
  bltu a0, a1, instance${hart}
  ${finish(hart)}
`;
}

/** Runs hundreds or thousands of instances of a test and adds their outcomes to `seen`. */
export async function runBatch(
  machine: LitmusMachine,
  test: LitmusTest,
  r: Random,
  seen: Map<Outcome, number>,
): Promise<void> {
  const width = r.pick(["w", "d"] as const);
  const barrierMask = r.pick([1023, 255, 63, 15, 3]);
  // With more threads than cores, a barrier may take as long as the scheduler's time slice.
  const count = Math.min(LARGEST_BATCH, BARRIERS * (barrierMask + 1));
  const { data } = machine;
  new Uint8Array(data.buffer, data.byteOffset, count * STRIDE).fill(0);
  const delayMask = r.pick([0, 3, 15, 63, 255]);
  const arguments_ = test.harts.map(() => ({
    10: DATA,
    11: DATA + count * STRIDE,
    13: r.u32() | 1,
    14: barrierMask,
    15: test.harts.length,
    16: 0,
    17: delayMask,
  }));
  const source = test.harts.map((_, hart) => hartText(test, hart, width)).join("\n");
  await machine.run(source, arguments_, LIMIT_MS);
  const registers = registersOf(test);
  const places = registers.map(({ hart, register }) => {
    const mine = registers.filter((other) => other.hart === hart);
    return RESULTS + hart * RESULTS_PER_HART + 8 * mine.findIndex((other) => other.register === register);
  });
  for (let i = 0; i < count; i++) {
    const at = i * STRIDE;
    const shown = registers.map(
      ({ register }, n) => `${register}=${data.getBigInt64(at + (places[n] as number), true)}`,
    );
    for (const variable of test.last ?? []) {
      shown.push(`${variable}=${data.getBigInt64(at + VARIABLES.indexOf(variable) * VARIABLE_STRIDE, true)}`);
    }
    const outcome = shown.join(" ");
    seen.set(outcome, (seen.get(outcome) ?? 0) + 1);
  }
}
