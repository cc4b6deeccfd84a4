// Contexts: which one an access uses, and that jumps are dropped with the fetch translations that they depend
// on.
import { beforeEach, describe, expect, it } from "vitest";
import { asm, HartHarness, RAM_BASE } from "../../../test/support/hart-harness.ts";
import { HART_AREA_SIZE, hartBase } from "../shared/memory-map.ts";
import {
  CONTEXT_COUNT,
  CONTEXT_SIZE,
  CTX_JUMPS,
  JUMP_ENTRIES,
  MAX_LOCAL_ENTRIES,
  TLB_ENTRIES,
} from "./tlb-context.ts";
import { CONTEXTS_OFFSET } from "../shared/memory-map.ts";
import { PRIV } from "../../riscv/privilege.ts";
import { SCRATCH } from "../shared/hart-scratch.ts";
import { MSTATUS } from "../../riscv/status.ts";
import { ALL_SPACES } from "./engine-interface.ts";

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

it("has one for each of U, S, and S with SUM, and M; only MPRV separates data from fetches", () => {
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

it("is in the hart's area with all its contexts", () => {
  expect(CONTEXTS_OFFSET + CONTEXT_COUNT * CONTEXT_SIZE).toBeLessThanOrEqual(HART_AREA_SIZE);
});

describe("jumps", () => {
  const EMPTY = -1n;
  const slot = (pc: bigint): number =>
    contexts().fetch + CTX_JUMPS + (Number(pc >> 1n) & (JUMP_ENTRIES - 1)) * 16;
  const enter = (pc: bigint): void => {
    h.view.setBigUint64(slot(pc), pc, true);
  };
  const jump = (pc: bigint): bigint => h.view.getBigInt64(slot(pc), true);

  /** A hart in S-mode: fences do not affect M-mode's addresses, which are not translated. */
  const supervisor = (ramSize = 0x100000): void => {
    h = new HartHarness({ ramSize, engine: "interpreter" });
    h.hart.set("priv", BigInt(PRIV.S));
  };
  beforeEach(() => supervisor());

  it("are empty at first", () => {
    h.execute([NOP], RAM_BASE);
    const { fetch } = contexts();
    for (let i = 0; i < JUMP_ENTRIES; i++) {
      expect(h.view.getBigInt64(fetch + CTX_JUMPS + i * 16, true)).toBe(EMPTY);
    }
  });

  it("are dropped with their page, and no others", () => {
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

  it("are dropped with their page when its fetch entry has long been replaced", () => {
    supervisor(TLB_ENTRIES * 4096 + 0x10000);
    h.execute([NOP], RAM_BASE);
    enter(RAM_BASE + 4n);
    h.execute([NOP], RAM_BASE + BigInt(TLB_ENTRIES * 4096));
    h.engine.flushTlbPage(hartBase(0), RAM_BASE, ALL_SPACES);
    expect(jump(RAM_BASE + 4n)).toBe(EMPTY);
  });

  it("are dropped by a full flush, in every context", () => {
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

describe("address spaces", () => {
  const V = 1n;
  const LEAF = V | 2n | 4n | 8n | 64n | 128n;
  const USER = 16n;
  const GLOBAL = 32n;
  const VA = 0x4000_0000n;
  const CODE = RAM_BASE + 0x1000n;
  const rootOf = (space: number): bigint => RAM_BASE + 0x1_0000n + BigInt(space) * 0x1000n;
  const satpOf = (space: number, asid = space + 1): bigint =>
    (8n << 60n) | (BigInt(asid) << 44n) | (rootOf(space) >> 12n);

  /** A gigapage at VA in each of the spaces. */
  function mapAll(flags: bigint, spaces = 12): void {
    for (let space = 0; space < spaces; space++) {
      h.write64(rootOf(space) + ((VA >> 30n) & 511n) * 8n, ((RAM_BASE >> 12n) << 10n) | LEAF | flags);
    }
  }
  const refills = (): number => h.view.getUint32(hartBase(0) + SCRATCH.refills, true);
  /** In M-mode: write satp, then load as `priv` from a page; returns how many walks the load needed. */
  function walks(satp: bigint, priv: number, page = 0n, status = 0n): number {
    h.hart.set("priv", BigInt(PRIV.M));
    h.hart.set("mstatus", status | bit(MSTATUS.MPRV) | (BigInt(priv) << BigInt(MSTATUS.MPP)));
    h.setX(5, satp);
    h.execute([asm("csrrw", { csr: 0x180, rs1: 5 })], CODE);
    const before = refills();
    h.setX(5, VA + page * 0x1000n);
    h.execute([asm("ld", { rd: 6, rs1: 5 })], CODE);
    expect(h.hart.get("pc")).toBe(CODE + 4n);
    return refills() - before;
  }
  const fence = (asid: number): void => {
    h.hart.set("priv", BigInt(PRIV.M));
    h.setX(7, BigInt(asid));
    h.execute([asm("sfence.vma", { rs2: 7 })], CODE);
  };
  beforeEach(() => {
    h.execute([NOP], CODE);
  });

  it("retain their user pages while others run, the last eight; the oldest is evicted", () => {
    mapAll(USER);
    for (let space = 0; space < 8; space++) expect(walks(satpOf(space), PRIV.U)).toBe(1);
    for (let space = 0; space < 8; space++) expect(walks(satpOf(space), PRIV.U)).toBe(0);
    expect(walks(satpOf(8), PRIV.U)).toBe(1);
    expect(walks(satpOf(1), PRIV.U)).toBe(0);
    expect(walks(satpOf(0), PRIV.U)).toBe(1);
    expect(walks(satpOf(2), PRIV.U)).toBe(1);
  });

  it("share global pages in S-mode, and nothing else", () => {
    mapAll(GLOBAL);
    expect(walks(satpOf(0), PRIV.S)).toBe(1);
    expect(walks(satpOf(1), PRIV.S)).toBe(0);
    fence(2);
    expect(walks(satpOf(1), PRIV.S)).toBe(0);
    mapAll(0n);
    expect(walks(satpOf(1), PRIV.S, 1n)).toBe(1);
    expect(walks(satpOf(2), PRIV.S, 1n)).toBe(1);
    expect(walks(satpOf(2), PRIV.S)).toBe(0);
  });

  it("drop many non-global pages as well as few", () => {
    const count = MAX_LOCAL_ENTRIES + 10;
    h = new HartHarness({ ramSize: (count + 16) * 4096 });
    mapAll(0n);
    for (let page = 0; page < count; page++) walks(satpOf(0), PRIV.S, BigInt(page));
    const again = Array.from({ length: count }, (_, page) => walks(satpOf(1), PRIV.S, BigInt(page)));
    expect(again).toEqual(new Array(count).fill(1));
  });

  it("change at once with another table, and with another mode", () => {
    mapAll(USER);
    walks(satpOf(0, 5), PRIV.U);
    expect(walks(satpOf(1, 5), PRIV.U)).toBe(1);
    expect(walks(satpOf(0, 5), PRIV.U)).toBe(1);
    mapAll(GLOBAL);
    walks(satpOf(0), PRIV.S);
    h.setX(5, 0n);
    h.execute([asm("csrrw", { csr: 0x180, rs1: 5 })], CODE);
    expect(walks(satpOf(0), PRIV.S)).toBe(1);
  });

  it("lose their pages, but not those of others, by a fence of their ASID", () => {
    mapAll(USER);
    for (const space of [0, 1, 2]) walks(satpOf(space), PRIV.U);
    fence(1);
    fence(3 | 0x10000);
    expect([0, 1, 2].map((space) => walks(satpOf(space), PRIV.U))).toEqual([1, 0, 1]);
    walks(satpOf(0), PRIV.S, 0n, bit(MSTATUS.SUM));
    expect(walks(satpOf(0), PRIV.S, 0n, bit(MSTATUS.SUM))).toBe(0);
    fence(1);
    expect(walks(satpOf(0), PRIV.S, 0n, bit(MSTATUS.SUM))).toBe(1);
  });

  it("lose all of a gigapage by any address in it", () => {
    mapAll(USER);
    for (const page of [0n, 5n, 200n]) walks(satpOf(0), PRIV.U, page);
    walks(satpOf(1), PRIV.U);
    h.hart.set("priv", BigInt(PRIV.M));
    h.setX(5, VA + 0x3000n);
    h.setX(7, 1n);
    h.execute([asm("sfence.vma", { rs1: 5, rs2: 7 })], CODE);
    expect([0n, 5n, 200n].map((page) => walks(satpOf(0), PRIV.U, page))).toEqual([1, 1, 1]);
    expect(walks(satpOf(1), PRIV.U)).toBe(0);
  });

  it("see code pages that were marked while others ran", () => {
    h = new HartHarness({ engine: "interpreter" });
    mapAll(USER);
    const store = (space: number): void => {
      walks(satpOf(space), PRIV.U);
      h.setX(5, VA + 0x80000n);
      h.execute([asm("sd", { rs1: 5 })], CODE);
    };
    const page = RAM_BASE + 0x80000n;
    for (const space of [0, 1]) store(space);
    h.markCode(page);
    expect(h.codeState(page)).toBe("code 0");
    store(0);
    expect(h.codeState(page)).toBe("stale 1");
    h.markCode(page);
    store(0);
    store(1);
    expect(h.codeState(page)).toBe("stale 2");
    h.markCode(page);
    store(1);
    expect(h.codeState(page)).toBe("stale 3");
  });

  it("belong to the hart again after satp was set from outside", () => {
    mapAll(USER);
    walks(satpOf(0), PRIV.U);
    h.hart.set("satp", satpOf(1));
    h.engine.flushTlb(hartBase(0));
    expect(walks(satpOf(1), PRIV.U)).toBe(1);
    expect(walks(satpOf(1), PRIV.U)).toBe(0);
    expect(walks(satpOf(0), PRIV.U)).toBe(1);
  });
});
