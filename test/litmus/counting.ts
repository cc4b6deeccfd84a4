// Tests whose harts access the same words concurrently, with one correct result: sums of atomic increments,
// counters protected by a lock, tickets, queues, and code that one hart writes and another executes. No
// update may be lost.
import type { Random } from "../support/random.ts";
import { DATA, finish, HARTS, type LitmusMachine } from "./machine.ts";

export interface CountingTest {
  readonly name: string;
  /** The test needs the built-in firmware, and runs in S-mode. */
  readonly needsFirmware?: boolean;
  /** Resolves to the fault found, or undefined. */
  readonly run: (machine: LitmusMachine, r: Random) => Promise<string | undefined>;
}

const LIMIT_MS = 60_000;
/** Offsets from DATA of the tests' words, each in its own cache line. */
const [WORD, OTHER, LOCK, TURN, ERRORS, ARRAY] = [0, 128, 256, 384, 512, 4096];
const START = 1024;

/**
 * All harts start together and run `body` s1 times. s0 is DATA; `body` may use the t registers, and s4 and
 * above.
 */
function hart(n: number, harts: number, body: string, before = ""): string {
  return `
hart${n}:
  fence.i
  li s0, ${DATA}
  addi t1, s0, ${START}
  li t2, 1
  amoadd.w.aqrl x0, t2, (t1)
1: lw t2, 0(t1)
  li t3, ${harts}
  bltu t2, t3, 1b
  ${before}
round${n}:
  ${body}
  addi s1, s1, -1
  bnez s1, round${n}
  ${finish(n)}
`;
}

interface Plan {
  readonly harts: number;
  readonly rounds: number;
  /** Code of a hart's round; `before` runs before the first round. */
  readonly body: (hart: number) => string;
  readonly before?: (hart: number) => string;
  readonly check: (data: DataView) => string | undefined;
  readonly after?: string;
}

function test(name: string, plan: (r: Random) => Plan): CountingTest {
  return {
    name,
    run: async (machine, r) => {
      const { harts, rounds, body, before, check, after } = plan(r);
      new Uint8Array(machine.data.buffer, machine.data.byteOffset, 0x40000).fill(0);
      const texts = Array.from({ length: harts }, (_, n) => hart(n, harts, body(n), before?.(n)));
      await machine.run(
        `${texts.join("\n")}\n${after ?? ""}`,
        texts.map(() => ({ 9: rounds })),
        LIMIT_MS,
      );
      return check(machine.data);
    },
  };
}

const u64 = (data: DataView, at: number): bigint => data.getBigUint64(at, true);
const expectWord = (data: DataView, at: number, wanted: bigint): string | undefined =>
  u64(data, at) === wanted ? undefined : `${u64(data, at)} instead of ${wanted}`;
const noErrors = (data: DataView): string | undefined =>
  u64(data, ERRORS) === 0n
    ? undefined
    : `${u64(data, ERRORS)} errors, the last ${u64(data, ERRORS + 8).toString(16)}`;
/** Counts an error; t5 is the value observed. */
const error = `
  addi t6, s0, ${ERRORS}
  sd t5, 8(t6)
  li t5, 1
  amoadd.d x0, t5, (t6)`;
const some = (r: Random): number => 2 + r.int(HARTS - 1);

const sum = (name: string, body: string, wanted: (n: bigint) => bigint = (n) => n): CountingTest =>
  test(name, (r) => {
    const [harts, rounds] = [some(r), 5000];
    return {
      harts,
      rounds,
      body: () => body,
      check: (d) => expectWord(d, WORD, wanted(BigInt(harts * rounds))),
    };
  });

const exchange = (width: string, offset = 0, add = 1, ordering = ""): string => `
  addi t3, s0, ${offset}
2: lr.${width}${ordering} t0, (t3)
  addi t0, t0, ${add}
  sc.${width}${ordering} t1, t0, (t3)
  bnez t1, 2b`;

/** Critical section: two words that must stay equal, incremented without atomics. */
const critical = `
  ld t0, ${WORD}(s0)
  ld t1, ${OTHER}(s0)
  beq t0, t1, 4f
  mv t5, t0
  ${error}
4: addi t0, t0, 1
  sd t0, ${WORD}(s0)
  addi t1, t1, 1
  sd t1, ${OTHER}(s0)`;

function locked(name: string, lock: string, unlock: string, harts = 2): CountingTest {
  const rounds = 2000;
  return test(name, () => ({
    harts,
    rounds,
    body: () => `${lock}${critical}${unlock}`,
    check: (d) => noErrors(d) ?? expectWord(d, WORD, BigInt(harts * rounds)),
  }));
}

/**
 * Peterson's lock: flags at LOCK + 64 × hart, the turn at TURN. Correct only if a store is ordered before a
 * later load.
 */
const PETERSON = ["0", "1"].map((me) => {
  const other = me === "0" ? 1 : 0;
  return `
  li t0, 1
  sw t0, ${LOCK + 64 * Number(me)}(s0)
  li t0, ${other}
  sw t0, ${TURN}(s0)
  fence rw, rw
2: lw t0, ${LOCK + 64 * other}(s0)
  beqz t0, 3f
  lw t0, ${TURN}(s0)
  li t1, ${other}
  beq t0, t1, 2b
3: fence rw, rw`;
});

/**
 * Stores, AMOs and cbo.zero all over 256 KiB while the VMM copies the pages in the dirty log: the copy must
 * be complete.
 */
const dirtyLog: CountingTest = {
  name: "pages that the dirty log names",
  run: async (machine, r) => {
    const harts = some(r);
    const body = `
  slli t0, s4, 13
  xor s4, s4, t0
  srli t0, s4, 7
  xor s4, s4, t0
  slli t0, s4, 17
  xor s4, s4, t0
  li t1, 0x3fff8
  srli t2, s4, 9
  and t1, t1, t2
  add t1, t1, s5
  sd s4, 0(t1)
  sb s4, 9(t1)
  fsd fa0, 1024(t1)
  andi t2, s4, 7
  bnez t2, 2f
  amoadd.d x0, s4, (t1)
  sh s4, 2043(t1)
2: andi t2, s4, 31
  bnez t2, 3f
  cbo.zero (t1)
3:`;
    const before = `li s4, ${r.u32() | 1}\n  li s5, ${DATA + 0x8000}\n  li t0, 0x6000\n  csrs mstatus, t0\n  fmv.d.x fa0, s4`;
    const texts = Array.from({ length: harts }, (_, n) => hart(n, harts, body, before));
    new Uint8Array(machine.data.buffer, machine.data.byteOffset, 0x8000).fill(0);
    const arguments_ = texts.map(() => ({ 9: 20_000 }));
    const { copy, ram, rounds } = await machine.runAndCopy(texts.join("\n"), arguments_, LIMIT_MS);
    const page = copy.findIndex((byte, at) => byte !== ram[at]);
    return page < 0 ? undefined : `byte ${page.toString(16)} of RAM is not in the copy, ${rounds} rounds`;
  },
};

export const countingTests: readonly CountingTest[] = [
  dirtyLog,
  sum("amoadd.w", `li t0, 1\n  amoadd.w x0, t0, (s0)`),
  sum("amoadd.d", `li t0, 1\n  slli t0, t0, 30\n  amoadd.d t1, t0, (s0)`, (n) => n << 30n),
  sum("lr.w and sc.w", exchange("w")),
  sum("lr.d and sc.d", exchange("d", WORD, 1, ".aqrl")),
  test("amoadd.w of one half, amoadd.d of the other", (r) => {
    const rounds = 5000;
    const harts = 2 * (1 + r.int(HARTS / 2));
    return {
      harts,
      rounds,
      body: (n) =>
        n % 2 === 0
          ? "li t0, 1\n  amoadd.w x0, t0, (s0)"
          : "li t0, 1\n  slli t0, t0, 32\n  amoadd.d x0, t0, (s0)",
      check: (d) => expectWord(d, WORD, BigInt((harts / 2) * rounds) * 0x1_0000_0001n),
    };
  }),
  test("lr.w of one half, lr.d of all, amoadd.w of the other half", () => {
    const rounds = 5000;
    const bodies = [exchange("w"), "li t0, 1\n  addi t3, s0, 4\n  amoadd.w x0, t0, (t3)", exchange("d")];
    return {
      harts: 3,
      rounds,
      body: (n) => bodies[n] as string,
      check: (d) => expectWord(d, WORD, BigInt(rounds) * 0x1_0000_0002n),
    };
  }),
  test("amoor, amoand and amoxor of a bit a hart", (r) => {
    const harts = some(r);
    return {
      harts,
      rounds: 3000,
      before: (n) => `li s4, ${1 << (n * 5)}\n  not s5, s4`,
      body: () => `
  amoor.w t0, s4, (s0)
  and t5, t0, s4
  beqz t5, 2f
  ${error}
2: amoxor.w t0, s4, (s0)
  and t5, t0, s4
  bnez t5, 3f
  ${error}
3: amoor.w x0, s4, (s0)
  amoand.w t0, s5, (s0)
  and t5, t0, s4
  bnez t5, 4f
  ${error}
4:`,
      check: (d) => noErrors(d) ?? expectWord(d, WORD, 0n),
    };
  }),
  test("amomaxu and amomin", () => {
    const rounds = 5000;
    return {
      harts: 2,
      rounds,
      body: (n) => `
  slli t0, s1, 1
  addi t0, t0, ${n}
  amomaxu.d t5, t0, (s0)
  neg t0, t0
  addi t1, s0, ${OTHER}
  amomin.w x0, t0, (t1)`,
      check: (d) =>
        expectWord(d, WORD, BigInt(2 * rounds + 1)) ??
        (d.getInt32(OTHER, true) === -(2 * rounds + 1) ? undefined : `least ${d.getInt32(OTHER, true)}`),
    };
  }),
  test("tickets", (r) => {
    const [harts, rounds] = [some(r), 4000];
    return {
      harts,
      rounds,
      body: () => `
  li t0, 1
  amoadd.w t1, t0, (s0)
  slli t1, t1, 3
  add t1, t1, s0
  li t2, ${ARRAY}
  add t1, t1, t2
  ld t0, 0(t1)
  addi t0, t0, 1
  sd t0, 0(t1)`,
      check: (d) => {
        for (let i = 0; i < harts * rounds; i++) {
          if (u64(d, ARRAY + 8 * i) !== 1n) return `ticket ${i} was drawn ${u64(d, ARRAY + 8 * i)} times`;
        }
        return undefined;
      },
    };
  }),
  locked(
    "amoswap.aq lock, amoswap.rl unlock",
    `
  addi t3, s0, ${LOCK}
2: li t0, 1
  amoswap.w.aq t0, t0, (t3)
  bnez t0, 2b`,
    `
  addi t3, s0, ${LOCK}
  amoswap.w.rl x0, x0, (t3)`,
  ),
  locked(
    "lr.aq and sc lock, fence and store unlock",
    `
  addi t3, s0, ${LOCK}
  li t1, 1
2: lr.w.aq t0, (t3)
  bnez t0, 2b
  sc.w t0, t1, (t3)
  bnez t0, 2b`,
    `
  fence rw, w
  sw x0, ${LOCK}(s0)`,
  ),
  locked(
    "amoswap lock of three",
    `
  addi t3, s0, ${LOCK}
2: li t0, 1
  amoswap.w.aq t0, t0, (t3)
  bnez t0, 2b`,
    `
  addi t3, s0, ${LOCK}
  amoswap.w.rl x0, x0, (t3)`,
    3,
  ),
  test("Peterson's lock", () => ({
    harts: 2,
    rounds: 3000,
    body: (n) => `${PETERSON[n]}${critical}
  fence rw, w
  sw x0, ${LOCK + 64 * n}(s0)`,
    check: (d) => noErrors(d) ?? expectWord(d, WORD, 6000n),
  })),
  test("a queue", () => ({
    harts: 2,
    rounds: 2000,
    before: () => "li s4, 0\n  li s5, 4096\n  add s5, s5, s0",
    // Head at WORD, tail at OTHER, 128 entries at ARRAY. Entry n holds 3n.
    body: (n) => {
      const entry = `
  andi t0, s4, 127
  slli t0, t0, 3
  add t0, t0, s5
  slli t5, s4, 1
  add t5, t5, s4`;
      return n === 0
        ? `
2: ld t0, ${OTHER}(s0)
  sub t0, s4, t0
  li t1, 128
  bgeu t0, t1, 2b
  fence r, rw
  ${entry}
  sd t5, 0(t0)
  addi s4, s4, 1
  fence w, w
  sd s4, ${WORD}(s0)`
        : `
2: ld t0, ${WORD}(s0)
  beq t0, s4, 2b
  fence r, r
  ${entry}
  ld t0, 0(t0)
  beq t0, t5, 3f
  mv t5, t0
  ${error}
3: addi s4, s4, 1
  fence r, w
  sd s4, ${OTHER}(s0)`;
    },
    check: noErrors,
  })),
  test("a sequence lock", () => ({
    harts: 3,
    rounds: 4000,
    body: (n) =>
      n === 0
        ? `
  ld t0, ${LOCK}(s0)
  addi t0, t0, 1
  sd t0, ${LOCK}(s0)
  fence w, w
  sd t0, ${WORD}(s0)
  sd t0, ${OTHER}(s0)
  fence w, w
  addi t0, t0, 1
  sd t0, ${LOCK}(s0)`
        : `
2: ld t0, ${LOCK}(s0)
  andi t1, t0, 1
  bnez t1, 2b
  fence r, r
  ld t1, ${OTHER}(s0)
  ld t5, ${WORD}(s0)
  fence r, r
  ld t2, ${LOCK}(s0)
  bne t0, t2, 2b
  beq t1, t5, 3f
  ${error}
3:`,
    check: noErrors,
  })),
  test("64-bit stores are whole, halves are their own", () => ({
    harts: 3,
    rounds: 4000,
    body: (n) =>
      [
        `
  neg t0, s1
  srli t0, t0, 32
  slli t0, t0, 32
  slli t1, s1, 32
  srli t1, t1, 32
  slli t2, t1, 32
  or t0, t1, t2
  sd t0, ${WORD}(s0)`,
        `
  sw s1, ${OTHER}(s0)
  fence w, w
  sw s1, ${OTHER + 4}(s0)
  fence w, w`,
        `
  ld t5, ${WORD}(s0)
  srli t0, t5, 32
  slli t1, t5, 32
  srli t1, t1, 32
  beq t0, t1, 2f
  ${error}
2: ld t5, ${OTHER}(s0)
  srli t0, t5, 32
  slli t1, t5, 32
  srli t1, t1, 32
  # The low half counts down ahead of the high one.
  beqz t0, 3f
  bgeu t0, t1, 3f
  ${error}
3:`,
      ][n] as string,
    check: noErrors,
  })),
  test("code that another hart writes", () => ({
    harts: 2,
    rounds: 100,
    // Hart 0 writes `addi a0, x0, n; ret` and then the request n; hart 1 answers with the code's result.
    before: () => `li s4, 0\n  la s5, patched`,
    body: (n) =>
      n === 0
        ? `
  addi s4, s4, 1
  andi s6, s4, 1023
  slli t0, s6, 20
  ori t0, t0, 0x513
  sw t0, 0(s5)
  fence rw, rw
  sd s4, ${WORD}(s0)
2: ld t0, ${OTHER}(s0)
  bne t0, s4, 2b
  fence r, rw
  ld t5, ${LOCK}(s0)
  beq t5, s6, 3f
  ${error}
3:`
        : `
2: ld t0, ${WORD}(s0)
  beq t0, s4, 2b
  mv s4, t0
  fence r, rw
  fence.i
  jalr ra, 0(s5)
  sd a0, ${LOCK}(s0)
  fence w, w
  sd s4, ${OTHER}(s0)`,
    after: `
.balign 4096
patched:
  li a0, 0
  ret
.balign 4096
`,
    check: noErrors,
  })),
];
