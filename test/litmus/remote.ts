// Tests of remote fences (SBI, RFENCE) on real harts: when the call has returned, no other hart executes code
// or uses a translation that is older than the call. Hart 0 makes a change, calls RFENCE and publishes a
// number; a hart that sees the number must see the change.
import { SATP_MODE } from "../../src/riscv/paging.ts";
import { satpOf } from "../support/satp.ts";
import type { CountingTest } from "./counting.ts";
import { DATA, finish, HARTS, type LitmusMachine } from "./machine.ts";

const LIMIT_MS = 60_000;
/** Offsets from DATA. */
const [PUBLISHED, INTENDED, ENDED, ERRORS, START] = [0, 128, 256, 512, 1024];
const [ROOT, MIDDLE, LEAVES, PAGE_A, PAGE_B] = [0x20000, 0x21000, 0x22000, 0x24000, 0x25000];
const USED = 0x30000;
const VIRTUAL = 0x40000000;
const RWXAD = 0xcf;

const satp = satpOf(SATP_MODE.SV39, DATA + ROOT);

function pageTables(data: DataView): void {
  const entry = (place: number, flags: number): bigint => BigInt(((DATA + place) / 4096) * 1024 + flags);
  data.setBigUint64(ROOT + 8, entry(MIDDLE, 1), true);
  // RAM is identity-mapped.
  data.setBigUint64(ROOT + 16, BigInt((0x80000000 / 4096) * 1024 + RWXAD), true);
  data.setBigUint64(MIDDLE, entry(LEAVES, 1), true);
  data.setBigUint64(LEAVES, entry(PAGE_A, RWXAD), true);
}

const prologue = (n: number, harts: number): string => `
hart${n}:
  li s0, ${DATA}
  li t0, ${satp}
  csrw satp, t0
  sfence.vma
  addi t1, s0, ${START}
  li t2, 1
  amoadd.w.aqrl x0, t2, (t1)
1: lw t2, 0(t1)
  li t3, ${harts}
  bltu t2, t3, 1b
  li s4, 0
  li s5, ${DATA + PAGE_A}
  li s6, ${DATA + PAGE_B}
  li s7, ${VIRTUAL}
  li s8, ${DATA + LEAVES}
`;

/** An RFENCE call for all other harts. */
const rfence = (func: number, harts: number): string => `
  fence rw, rw
  li a0, ${2 ** harts - 2}
  li a1, 0
  mv a2, s7
  li a3, 4096
  li a6, ${func}
  li a7, 0x52464e43
  ecall`;

const error = `
  addi t6, s0, ${ERRORS}
  sd t5, 8(t6)
  li t5, 1
  amoadd.d x0, t5, (t6)`;

interface Plan {
  readonly rounds: number;
  /** Makes change number s4, and fences. */
  readonly change: (harts: number) => string;
  /** Uses what was changed: t5 is the number found, modulo 1024. */
  readonly use: string;
  readonly prepare?: (machine: LitmusMachine) => void;
}

function remote(name: string, { rounds, change, use, prepare }: Plan): CountingTest {
  return {
    name,
    needsFirmware: true,
    run: async (machine, r) => {
      const harts = 2 + r.int(HARTS - 1);
      const { data } = machine;
      new Uint8Array(data.buffer, data.byteOffset, USED).fill(0);
      pageTables(data);
      prepare?.(machine);
      const writer = `${prologue(0, harts)}
again0:
  addi s4, s4, 1
  sd s4, ${INTENDED}(s0)
  fence w, w
  ${change(harts)}
  fence rw, rw
  sd s4, ${PUBLISHED}(s0)
  li t0, ${rounds}
  bltu s4, t0, again0
  fence rw, rw
  li t0, 1
  sd t0, ${ENDED}(s0)
  ${finish(0)}`;
      // The number found is the published one or the next, unless more have been published meanwhile.
      const reader = (n: number): string => `${prologue(n, harts)}
again${n}:
  ld s4, ${PUBLISHED}(s0)
  fence r, rw
  ${use}
  fence rw, rw
  ld t0, ${INTENDED}(s0)
  sub t1, t5, s4
  andi t1, t1, 1023
  sub t0, t0, s4
  bgeu t0, t1, seen${n}
  ${error}
seen${n}:
  ld t0, ${ENDED}(s0)
  beqz t0, again${n}
  ${finish(n)}`;
      const texts = [writer, ...Array.from({ length: harts - 1 }, (_, n) => reader(n + 1))];
      await machine.run(
        texts.join("\n"),
        texts.map(() => ({})),
        LIMIT_MS,
      );
      const errors = data.getBigUint64(ERRORS, true);
      return errors === 0n
        ? undefined
        : `${errors} times something old, as ${data.getBigUint64(ERRORS + 8, true)}`;
    },
  };
}

/** s9 = one of the two pages, by the number's lowest bit. */
const otherPage = `
  mv s9, s5
  andi t0, s4, 1
  beqz t0, 2f
  mv s9, s6
2:`;
const mapPage = `
  srli t0, s9, 12
  slli t0, t0, 10
  ori t0, t0, ${RWXAD}
  sd t0, 0(s8)
  fence rw, rw
  sfence.vma s7`;
/** Writes \`addi a0, x0, n; ret\` to the page s9. */
const writeCode = (base: string): string => `
  andi t0, s4, 1023
  slli t0, t0, 20
  ori t0, t0, 0x513
  sw t0, 0(${base})`;
const RET = 0x00008067;
const returning = (machine: LitmusMachine): void => {
  const code = new Uint8Array(new Uint32Array([0x513, RET]).buffer);
  for (const page of [PAGE_A, PAGE_B]) machine.write(DATA + page, code);
};
const call = `
  jalr ra, 0(s7)
  mv t5, a0`;

export const remoteTests: readonly CountingTest[] = [
  remote("remote fence.i", {
    rounds: 60,
    change: (harts) => `${writeCode("s5")}${rfence(0, harts)}`,
    use: call,
    prepare: returning,
  }),
  remote("remote fence.i, with code of a page that is mapped elsewhere too", {
    rounds: 60,
    change: (harts) => `${writeCode("s7")}${rfence(0, harts)}`,
    use: `
  jalr ra, 0(s5)
  mv t5, a0`,
    prepare: returning,
  }),
  remote("remote sfence.vma of data", {
    rounds: 60,
    change: (harts) => `${otherPage}
  sd s4, 0(s9)
  fence rw, rw
  ${mapPage}${rfence(1, harts)}`,
    use: "ld t5, 0(s7)",
  }),
  remote("remote sfence.vma of code", {
    rounds: 60,
    // Writes to the page that is not mapped; its code was last executed two numbers ago.
    change: (harts) => `${otherPage}${writeCode("s9")}${rfence(0, harts)}${mapPage}${rfence(1, harts)}`,
    use: call,
    prepare: returning,
  }),
];
