// Contexts: which one an access uses, and that jumps go when the fetch translations they rest on go.
import { beforeEach, describe, expect, it } from "vitest";
import { asm, HartHarness, RAM_BASE } from "../../../test/hart-harness.ts";
import { hartBase } from "../layout.ts";
import { CTX_JUMPS, JUMP_ENTRIES, PRIV, SCRATCH, TLB_ENTRIES } from "./hart.ts";
import { ALL_SPACES } from "./tlb.ts";
import { MSTATUS } from "./trap.ts";

const bit = (n: number): bigint => 1n << BigInt(n);
const NOP = asm("addi");

let h: HartHarness;
beforeEach(() => {
  h = new HartHarness();
});

const contexts = (): { data: number; fetch: number } => ({
  data: h.view.getUint32(hartBase(0) + SCRATCH.dataContext, true),
  fetch: h.view.getUint32(hartBase(0) + SCRATCH.fetchContext, true),
});

/** The contexts after one instruction with this privilege and status. */
function contextsAs(priv: number, status = 0n): { data: number; fetch: number } {
  h.hart.set("priv", BigInt(priv));
  h.hart.set("mstatus", status);
  h.execute([NOP], RAM_BASE);
  return contexts();
}

it("has one for U, S, S with SUM and M; only MPRV splits data from fetches", () => {
  const each = [
    contextsAs(PRIV.U),
    contextsAs(PRIV.S),
    contextsAs(PRIV.S, bit(MSTATUS.SUM)),
    contextsAs(PRIV.M),
  ];
  for (const c of each) expect(c.data).toBe(c.fetch);
  expect(new Set(each.map((c) => c.data)).size).toBe(4);
  const [user, supervisor, withSum, machine] = each.map((c) => c.data);
  const mprv = (mpp: number, more = 0n): bigint =>
    bit(MSTATUS.MPRV) | (BigInt(mpp) << BigInt(MSTATUS.MPP)) | more;
  expect(contextsAs(PRIV.M, mprv(PRIV.U))).toEqual({ data: user, fetch: machine });
  expect(contextsAs(PRIV.M, mprv(PRIV.S))).toEqual({ data: supervisor, fetch: machine });
  expect(contextsAs(PRIV.M, mprv(PRIV.S, bit(MSTATUS.SUM)))).toEqual({ data: withSum, fetch: machine });
  expect(contextsAs(PRIV.M, mprv(PRIV.M))).toEqual({ data: machine, fetch: machine });
  expect(contextsAs(PRIV.U, mprv(PRIV.M))).toEqual({ data: user, fetch: user });
});

describe("jumps", () => {
  const EMPTY = -1n;
  const slot = (pc: bigint): number =>
    contexts().fetch + CTX_JUMPS + (Number(pc >> 1n) & (JUMP_ENTRIES - 1)) * 16;
  const enter = (pc: bigint): void => {
    h.view.setBigUint64(slot(pc), pc, true);
  };
  const jump = (pc: bigint): bigint => h.view.getBigInt64(slot(pc), true);

  /** A hart in S-mode: fences do not reach M-mode's addresses, which are not translated. */
  const supervisor = (ramSize = 0x100000): void => {
    h = new HartHarness({ ramSize });
    h.hart.set("priv", BigInt(PRIV.S));
  };
  beforeEach(() => supervisor());

  it("start empty", () => {
    h.execute([NOP], RAM_BASE);
    const { fetch } = contexts();
    for (let i = 0; i < JUMP_ENTRIES; i++) {
      expect(h.view.getBigInt64(fetch + CTX_JUMPS + i * 16, true)).toBe(EMPTY);
    }
  });

  it("go with their page, and only they", () => {
    const other = RAM_BASE + 0x1000n;
    h.execute([NOP], other);
    h.execute([NOP], RAM_BASE);
    enter(RAM_BASE + 4n);
    enter(RAM_BASE + 0x406n);
    enter(other + 8n);
    h.engine.flushTlbPage(hartBase(0), RAM_BASE + 0x2000n, ALL_SPACES);
    expect(jump(RAM_BASE + 4n)).toBe(RAM_BASE + 4n);
    h.engine.flushTlbPage(hartBase(0), RAM_BASE + 0xfffn, ALL_SPACES);
    expect([jump(RAM_BASE + 4n), jump(RAM_BASE + 0x406n), jump(other + 8n)]).toEqual([
      EMPTY,
      EMPTY,
      other + 8n,
    ]);
  });

  it("go with their page when its fetch entry has long been replaced", () => {
    supervisor(TLB_ENTRIES * 4096 + 0x10000);
    h.execute([NOP], RAM_BASE);
    enter(RAM_BASE + 4n);
    h.execute([NOP], RAM_BASE + BigInt(TLB_ENTRIES * 4096));
    h.engine.flushTlbPage(hartBase(0), RAM_BASE, ALL_SPACES);
    expect(jump(RAM_BASE + 4n)).toBe(EMPTY);
  });

  it("go when all goes, in every context", () => {
    contextsAs(PRIV.S);
    enter(RAM_BASE + 4n);
    const inSupervisor = slot(RAM_BASE + 4n);
    contextsAs(PRIV.U);
    enter(RAM_BASE + 6n);
    h.engine.flushTlb(hartBase(0));
    expect(jump(RAM_BASE + 6n)).toBe(EMPTY);
    expect(h.view.getBigInt64(inSupervisor, true)).toBe(EMPTY);
  });
});
