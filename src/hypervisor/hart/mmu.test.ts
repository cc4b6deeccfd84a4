// Address translation, PMP, TLB and the slow paths of loads and stores: Sv39, Sv48, Sv57, superpages,
// permissions, SUM, MXR, MPRV, A and D bits, misaligned and page-crossing accesses, read-only memory,
// devices, dirty log.
import { beforeEach, describe, expect, it } from "vitest";
import { asm, HartHarness, RAM_BASE, ROM_BASE } from "../../../test/support/hart-harness.ts";
import { hartBase } from "../shared/memory-map.ts";
import { PRIV } from "../../riscv/privilege.ts";
import { CAUSE } from "../../riscv/causes.ts";
import { MENVCFG_ADUE } from "../../riscv/envcfg.ts";
import { CSR_NUMBERS } from "../../riscv/registers.ts";
import { MSTATUS } from "../../riscv/status.ts";
import { ALL_SPACES } from "./engine-interface.ts";

const V = 1n;
const R = 2n;
const W = 4n;
const X = 8n;
const USER = 16n;
const A = 64n;
const D = 128n;

/** The handler's address: traps end there in M-mode, untranslated. */
const HANDLER = RAM_BASE + 0x2000n;
const CODE = RAM_BASE + 0x1000n;
const TABLES = RAM_BASE + 0x10000n;
const PAGE = RAM_BASE + 0x40000n;
const PAGE2 = RAM_BASE + 0x41000n;

const bit = (n: number): bigint => 1n << BigInt(n);

let h: HartHarness;
let nextTable = TABLES;

beforeEach(() => {
  h = new HartHarness();
  h.hart.set("mtvec", HANDLER);
  nextTable = TABLES + 0x1000n;
});

/** Map a page (or superpage at `level` > 0) in a tree of `levels` levels; returns the leaf's address. */
function map(levels: number, va: bigint, pa: bigint, flags: bigint, level = 0): bigint {
  let table = TABLES;
  for (let l = levels - 1; l > level; l--) {
    const at = table + ((va >> BigInt(12 + 9 * l)) & 511n) * 8n;
    if ((h.read64(at) & V) === 0n) {
      h.write64(at, ((nextTable >> 12n) << 10n) | V);
      nextTable += 0x1000n;
    }
    table = (h.read64(at) >> 10n) << 12n;
  }
  const at = table + ((va >> BigInt(12 + 9 * level)) & 511n) * 8n;
  h.write64(at, ((pa >> 12n) << 10n) | flags);
  return at;
}

function turnOn(levels: number, priv: number, status = 0n): void {
  h.hart.set("satp", (BigInt(levels + 5) << 60n) | (TABLES >> 12n));
  h.hart.set("priv", BigInt(priv));
  h.hart.set("mstatus", status);
  h.engine.flushTlb(hartBase(0));
}

/** In M-mode with MPRV, access with the rights of `priv`: code is not translated. */
function accessAs(levels: number, priv: number, status = 0n): void {
  turnOn(levels, PRIV.M, bit(MSTATUS.MPRV) | (BigInt(priv) << BigInt(MSTATUS.MPP)) | status);
}

const load = (va: bigint, name = "ld"): bigint | string => {
  h.setX(5, va);
  h.setX(6, 0n);
  h.execute([asm(name, { rd: 6, rs1: 5, imm: 0 })], CODE);
  return outcome() ?? h.x(6);
};
const store = (va: bigint, value: bigint, name = "sd"): string | undefined => {
  h.setX(5, va);
  h.setX(6, value);
  h.execute([asm(name, { rs1: 5, rs2: 6, imm: 0 })], CODE);
  return outcome();
};
/** "cause tval" of the trap that was taken; restores M-mode's permissions. */
function outcome(): string | undefined {
  if (h.hart.get("pc") !== HANDLER) return undefined;
  expect(h.hart.get("mepc")).toBe(CODE);
  const status = h.hart.get("mstatus");
  h.hart.set("mstatus", status | bit(MSTATUS.MPRV));
  const result = `${h.hart.get("mcause")} ${h.hart.get("mtval").toString(16)}`;
  // The trap set MPP to M; the test continues with its previous permissions.
  h.hart.set("mstatus", (h.hart.get("mstatus") & ~(3n << BigInt(MSTATUS.MPP))) | lastMpp);
  h.engine.flushTlb(hartBase(0));
  return result;
}
let lastMpp = 0n;

describe.each([
  [3, 0x12_3456_7000n],
  [4, 0x1234_5678_9000n],
  [5, 0x12_3456_789a_b000n],
])("Sv with %i levels", (levels, low) => {
  const high = BigInt.asUintN(64, -(1n << BigInt(11 + 9 * levels)) + 0x5000n);

  it("translates both halves of the address space and refuses the hole", () => {
    for (const va of [low, high]) map(levels, va, PAGE, V | R | W | A | D);
    h.write64(PAGE + 8n, 0x1122334455667788n);
    accessAs(levels, PRIV.S);
    lastMpp = 1n << BigInt(MSTATUS.MPP);
    expect(load(low + 8n)).toBe(0x1122334455667788n);
    expect(load(high + 8n)).toBe(0x1122334455667788n);
    const hole = 1n << BigInt(11 + 9 * levels);
    expect(load(hole)).toBe(`${CAUSE.LOAD_PAGE} ${hole.toString(16)}`);
    expect(store(low + 0x1000n, 1n)).toBe(`${CAUSE.STORE_PAGE} ${(low + 0x1000n).toString(16)}`);
  });

  it("translates superpages of every size and refuses misaligned ones", () => {
    lastMpp = 1n << BigInt(MSTATUS.MPP);
    for (let level = 1; level < levels; level++) {
      const size = 1n << BigInt(12 + 9 * level);
      const va = (low & -size) + 3n * size;
      // Only addresses in RAM are accessible; a gigapage starts at 0x80000000, larger pages at 0.
      const pa = size <= 1n << 30n ? RAM_BASE : 0n;
      map(levels, va, pa, V | R | W | A | D, level);
      h.write64(PAGE, 0xabcdn);
      accessAs(levels, PRIV.S);
      expect(load(va + (PAGE - pa))).toBe(0xabcdn);
      const wrong = map(levels, va + size, pa + 0x1000n, V | R | A, level);
      expect(load(va + size), `level ${level} at ${wrong.toString(16)}`).toBe(
        `${CAUSE.LOAD_PAGE} ${(va + size).toString(16)}`,
      );
    }
  });
});

describe("permissions", () => {
  const va = 0x4000_0000n;
  const S_MPP = 1n << BigInt(MSTATUS.MPP);
  const fault = (cause: number): string => `${cause} ${va.toString(16)}`;

  it.each([
    ["V clear", 0n | R | W | A | D],
    ["W without R", V | W | A | D],
    ["a pointer at the last level", V],
    ["reserved bits", V | R | W | A | D | bit(60)],
  ])("refuses %s", (_name, flags) => {
    map(3, va, PAGE, flags);
    lastMpp = S_MPP;
    accessAs(3, PRIV.S);
    expect(load(va)).toBe(fault(CAUSE.LOAD_PAGE));
    expect(store(va, 1n)).toBe(fault(CAUSE.STORE_PAGE));
  });

  it("separates U and S pages, and SUM lets S access U pages", () => {
    map(3, va, PAGE, V | R | W | USER | A | D);
    lastMpp = S_MPP;
    accessAs(3, PRIV.S);
    expect(load(va)).toBe(fault(CAUSE.LOAD_PAGE));
    accessAs(3, PRIV.S, bit(MSTATUS.SUM));
    expect(load(va)).toBe(0n);
    expect(store(va, 5n)).toBeUndefined();
    accessAs(3, PRIV.U);
    expect(load(va)).toBe(5n);
    map(3, va, PAGE, V | R | W | A | D);
    lastMpp = 0n;
    accessAs(3, PRIV.U);
    expect(load(va)).toBe(fault(CAUSE.LOAD_PAGE));
  });

  it("separates the contexts with and without SUM without a fence", () => {
    map(3, va, PAGE, V | R | W | X | A | D);
    map(3, va + 0x1000n, PAGE2, V | R | W | USER | A | D);
    const code = [
      asm("csrrs", { csr: 0x100, rs1: 7 }),
      asm("ld", { rd: 6, rs1: 5 }),
      asm("csrrc", { csr: 0x100, rs1: 7 }),
      asm("ld", { rd: 6, rs1: 5 }),
    ];
    h.load(code, PAGE);
    h.hart.set("pc", va);
    h.setX(5, va + 0x1000n);
    h.setX(7, bit(MSTATUS.SUM));
    turnOn(3, PRIV.S);
    h.run(3);
    expect(h.hart.get("pc")).toBe(va + 12n);
    h.run(1);
    expect([h.hart.get("mcause"), h.hart.get("mepc")]).toEqual([BigInt(CAUSE.LOAD_PAGE), va + 12n]);
  });

  it("reads execute-only pages only with MXR, writes never", () => {
    map(3, va, PAGE, V | X | A | D);
    lastMpp = S_MPP;
    accessAs(3, PRIV.S);
    expect(load(va)).toBe(fault(CAUSE.LOAD_PAGE));
    accessAs(3, PRIV.S, bit(MSTATUS.MXR));
    expect(load(va)).toBe(0n);
    expect(store(va, 1n)).toBe(fault(CAUSE.STORE_PAGE));
  });

  it("fetches with X only, and never from user pages in S", () => {
    for (const [flags, priv, ok] of [
      [V | X | A, PRIV.S, true],
      [V | R | W | A | D, PRIV.S, false],
      [V | X | USER | A, PRIV.S, false],
      [V | X | USER | A, PRIV.U, true],
      [V | X | A, PRIV.U, false],
    ] as const) {
      map(3, va, PAGE, flags);
      h.load([asm("addi", { rd: 6, imm: 9 })], PAGE);
      turnOn(3, priv, bit(MSTATUS.SUM));
      h.hart.set("pc", va);
      h.run(1);
      if (ok) expect(h.hart.get("pc")).toBe(va + 4n);
      else expect([h.hart.get("mcause"), h.hart.get("mtval"), h.hart.get("mepc")]).toEqual([12n, va, va]);
    }
  });

  it("sets A on any access and D on writes, and marks the table's page dirty", () => {
    const pte = map(3, va, PAGE, V | R | W);
    lastMpp = S_MPP;
    accessAs(3, PRIV.S);
    h.clearDirty();
    load(va);
    expect(h.read64(pte) & (A | D)).toBe(A);
    expect([h.dirty(pte), h.dirty(PAGE)]).toEqual([true, false]);
    store(va, 1n);
    expect(h.read64(pte) & (A | D)).toBe(A | D);
    expect(h.dirty(PAGE)).toBe(true);
  });

  it("faults where A or D would change while menvcfg.ADUE is 0 (Svade), until software sets them", () => {
    lastMpp = S_MPP;
    const flagsOf = (at: bigint): bigint => h.read64(at) & 0xffn;
    const csrw = (value: bigint): void => {
      h.hart.set("priv", BigInt(PRIV.M));
      h.setX(5, value);
      h.execute([asm("csrrw", { csr: CSR_NUMBERS.get("menvcfg") ?? 0, rs1: 5 })], CODE);
    };
    const at = map(3, va, PAGE, V | R | W);
    csrw(0n);
    accessAs(3, PRIV.S);
    expect(load(va)).toBe(fault(CAUSE.LOAD_PAGE));
    expect(flagsOf(at)).toBe(V | R | W);
    map(3, va, PAGE, V | R | W | A);
    accessAs(3, PRIV.S);
    expect([load(va), store(va, 1n)]).toEqual([0n, fault(CAUSE.STORE_PAGE)]);
    expect(flagsOf(at)).toBe(V | R | W | A);
    map(3, va, PAGE, V | R | W | A | D);
    accessAs(3, PRIV.S);
    expect([store(va, 7n), load(va)]).toEqual([undefined, 7n]);
    map(3, va, PAGE, V | R | W);
    csrw(MENVCFG_ADUE);
    accessAs(3, PRIV.S);
    expect([store(va, 8n), flagsOf(at)]).toEqual([undefined, V | R | W | A | D]);
  });

  it("faults on a fetch from a page without A while menvcfg.ADUE is 0", () => {
    h.load([asm("addi", { rd: 9, rs1: 0, imm: 3 })], PAGE);
    h.hart.set("svade", 1n);
    map(3, va, PAGE, V | X);
    turnOn(3, PRIV.S);
    h.hart.set("pc", va);
    h.run(1);
    expect([h.hart.get("mcause"), h.hart.get("mepc")]).toEqual([BigInt(CAUSE.INSTRUCTION_PAGE), va]);
  });

  it("does not set D when the write is refused", () => {
    const pte = map(3, va, PAGE, V | R);
    lastMpp = S_MPP;
    accessAs(3, PRIV.S);
    expect(store(va, 1n)).toBe(fault(CAUSE.STORE_PAGE));
    expect(h.read64(pte) & (A | D)).toBe(0n);
  });

  it("raises access faults for page tables outside memory", () => {
    h.write64(TABLES + ((va >> 30n) & 511n) * 8n, ((0x1_0000_0000n >> 12n) << 10n) | V);
    lastMpp = S_MPP;
    accessAs(3, PRIV.S);
    expect(load(va)).toBe(fault(CAUSE.LOAD_ACCESS));
    expect(store(va, 1n)).toBe(fault(CAUSE.STORE_ACCESS));
  });
});

describe("TLB", () => {
  const va = 0x4000_0000n;

  it("uses old translations until sfence.vma, of the page or of all pages", () => {
    map(3, va, PAGE, V | R | W | X | A | D);
    const data = va + 0x10_0000n;
    const pte = map(3, data, PAGE, V | R | W | A | D);
    h.write64(PAGE2, 2n);
    const code = [
      asm("ld", { rd: 6, rs1: 5 }),
      asm("sd", { rs1: 8, rs2: 9 }),
      asm("sfence.vma", { rs1: 5 }),
      asm("ld", { rd: 7, rs1: 5 }),
    ];
    h.load(code, PAGE);
    h.setX(5, data);
    // The table, mapped writable for the guest.
    map(3, va + 0x20_0000n, pte & -4096n, V | R | W | A | D);
    h.setX(8, va + 0x20_0000n + (pte & 4095n));
    h.setX(9, ((PAGE2 >> 12n) << 10n) | V | R | W | A | D);
    h.hart.set("pc", va);
    turnOn(3, PRIV.S);
    h.run(4);
    expect(h.hart.get("pc")).toBe(va + 16n);
    expect([h.x(6), h.x(7)]).toEqual([h.read64(PAGE), 2n]);
  });

  it("flushes all of a superpage by any address in it", () => {
    const data = 0x8000_0000n;
    const pte = map(3, data, RAM_BASE, V | R | A, 1);
    h.write64(PAGE, 1n);
    h.write64(PAGE + 0x8000n, 2n);
    accessAs(3, PRIV.S);
    lastMpp = 1n << BigInt(MSTATUS.MPP);
    expect([load(data + (PAGE - RAM_BASE)), load(data + (PAGE - RAM_BASE) + 0x8000n)]).toEqual([1n, 2n]);
    h.write64(pte, 0n);
    h.engine.flushTlbPage(hartBase(0), data, ALL_SPACES);
    expect(load(data + (PAGE - RAM_BASE) + 0x8000n)).toMatch(/^13 /);
  });

  it("switches with satp and when pc crosses pages", () => {
    map(3, va, PAGE, V | X | A);
    map(3, va + 0x1000n, PAGE2, V | X | A);
    h.load([asm("addi", { rd: 6, rs1: 6, imm: 1 })], PAGE + 0xffcn);
    h.load([asm("addi", { rd: 6, rs1: 6, imm: 2 }), asm("jal", { imm: -8 })], PAGE2);
    h.hart.set("pc", va + 0xffcn);
    turnOn(3, PRIV.S);
    h.run(6);
    expect([h.x(6), h.hart.get("pc")]).toEqual([6n, va + 0xffcn]);
  });
});

describe("misaligned accesses", () => {
  it("work within and across pages of different frames", () => {
    const va = 0x4000_0000n;
    map(3, va, PAGE2, V | R | W | A | D);
    map(3, va + 0x1000n, PAGE, V | R | W | A | D);
    accessAs(3, PRIV.S);
    const value = 0x8877665544332211n;
    for (const at of [0x10n, 0xff9n, 0xffan, 0xffbn, 0xffcn, 0xffdn, 0xffen, 0xfffn]) {
      for (const [st, ld, size] of [
        ["sd", "ld", 64],
        ["sw", "lwu", 32],
        ["sh", "lhu", 16],
      ] as const) {
        h.write64(PAGE2 + 0xff8n, 0n);
        h.write64(PAGE, 0n);
        expect(store(va + at + 1n, value, st)).toBeUndefined();
        expect(load(va + at + 1n, ld)).toBe(BigInt.asUintN(size, value));
      }
    }
    h.write64(PAGE2 + 0xff8n, 0n);
    h.write64(PAGE, 0n);
    store(va + 0xffdn, value);
    expect([h.read64(PAGE2 + 0xff8n), h.read64(PAGE)]).toEqual([0x332211n << 40n, 0x8877665544n]);
    store(va + 0xfffn, 0x80ffn, "sh");
    expect(load(va + 0xfffn, "lh")).toBe(BigInt.asUintN(64, BigInt.asIntN(16, 0x80ffn)));
  });

  it("write nothing if the second page faults", () => {
    const va = 0x4000_0000n;
    map(3, va, PAGE, V | R | W | A | D);
    lastMpp = 1n << BigInt(MSTATUS.MPP);
    accessAs(3, PRIV.S);
    expect(store(va + 0xffcn, -1n)).toBe(`${CAUSE.STORE_PAGE} ${(va + 0x1000n).toString(16)}`);
    expect(h.read64(PAGE + 0xff8n)).toBe(0n);
    expect(load(va + 0xffcn)).toBe(`${CAUSE.LOAD_PAGE} ${(va + 0x1000n).toString(16)}`);
  });

  it("executes an instruction that spans two pages, and reports the second if it is missing", () => {
    const va = 0x4000_0000n;
    map(3, va, PAGE2, V | X | A);
    const second = map(3, va + 0x1000n, PAGE, V | X | A);
    const word = asm("addi", { rd: 6, imm: 77 });
    h.loadHalves([word & 0xffff], PAGE2 + 0xffen);
    h.loadHalves([word >>> 16, 0x0001], PAGE);
    h.hart.set("pc", va + 0xffen);
    turnOn(3, PRIV.S);
    h.run(2);
    expect([h.x(6), h.hart.get("pc")]).toEqual([77n, va + 0x1004n]);
    h.write64(second, 0n);
    h.hart.set("pc", va + 0xffen);
    turnOn(3, PRIV.S);
    h.run(1);
    expect([h.hart.get("mcause"), h.hart.get("mepc"), h.hart.get("mtval")]).toEqual([
      12n,
      va + 0xffen,
      va + 0x1000n,
    ]);
  });
});

describe("physical memory", () => {
  it("accesses devices, and faults where no device answers", () => {
    h.devices.set(0x1000_0000n, 0xfedcba98n);
    expect(load(0x1000_0000n, "lw")).toBe(BigInt.asUintN(64, BigInt.asIntN(32, 0xfedcba98n)));
    expect(load(0x1000_0000n, "lwu")).toBe(0xfedcba98n);
    expect(store(0x1000_0000n, 0x1234n, "sw")).toBeUndefined();
    expect(h.devices.get(0x1000_0000n)).toBe(0x1234n);
    lastMpp = 3n << BigInt(MSTATUS.MPP);
    expect(load(0x2000_0000n)).toBe(`${CAUSE.LOAD_ACCESS} 20000000`);
    expect(store(0x2000_0000n, 1n)).toBe(`${CAUSE.STORE_ACCESS} 20000000`);
    expect(load(0x1000_0001n, "lw")).toBe(`${CAUSE.LOAD_MISALIGNED} 10000001`);
  });

  it("polls kick before the next instruction after a device access", () => {
    h = new HartHarness({
      imports: {
        mmioWrite: () => {
          h.kick = 1;
          return 1;
        },
      },
    });
    h.setX(5, 0x1000_0000n);
    h.load([asm("sw", { rs1: 5 }), asm("addi", { rd: 6, imm: 1 })]);
    expect(h.run(100)).toBe(1);
    expect([h.hart.get("pc"), h.x(6)]).toEqual([RAM_BASE + 4n, 0n]);
  });

  it("forwards writes to read-only memory to the host", () => {
    h.write64(ROM_BASE, 0x55n);
    h.devices.set(ROM_BASE, 0n);
    expect(load(ROM_BASE)).toBe(0x55n);
    expect(store(ROM_BASE, 0x66n)).toBeUndefined();
    expect([h.read64(ROM_BASE), h.devices.get(ROM_BASE)]).toEqual([0x55n, 0x66n]);
  });

  it("marks pages dirty at the first write, not when they are read", () => {
    h.clearDirty();
    load(PAGE);
    expect(h.dirty(PAGE)).toBe(false);
    store(PAGE, 1n);
    expect([h.dirty(PAGE), h.dirty(PAGE2)]).toEqual([true, false]);
    h.clearDirty();
    store(PAGE + 8n, 1n);
    expect(h.dirty(PAGE)).toBe(true);
    h.clearDirty();
    store(PAGE + 0xffcn, 1n);
    expect([h.dirty(PAGE), h.dirty(PAGE2)]).toEqual([true, true]);
  });
});

describe("code pages", () => {
  // The tests mark pages themselves; translated code would mark more pages.
  beforeEach(() => {
    h = new HartHarness({ engine: "interpreter" });
    h.hart.set("mtvec", HANDLER);
  });

  it("become stale at the first store to them, once, even if the page was written before", () => {
    store(PAGE, 1n);
    store(PAGE2, 1n);
    h.markCode(PAGE);
    expect(h.codeState(PAGE)).toBe("code 0");
    load(PAGE);
    store(PAGE2, 2n);
    expect(h.codeState(PAGE)).toBe("code 0");
    store(PAGE + 8n, 1n);
    expect([h.codeState(PAGE), h.codeState(PAGE2)]).toEqual(["stale 1", " 1"]);
    store(PAGE + 16n, 1n);
    expect(h.codeState(PAGE)).toBe("stale 1");
  });

  it("become stale by accesses that span two pages, by atomics, and by the walk's A and D bits", () => {
    h.markCode(PAGE);
    h.markCode(PAGE2);
    store(PAGE + 0xffcn, 1n);
    expect([h.codeState(PAGE), h.codeState(PAGE2)]).toEqual(["stale 2", "stale 2"]);
    h.markCode(PAGE);
    h.setX(5, PAGE);
    h.execute([asm("amoadd.d", { rd: 6, rs1: 5, rs2: 5 })], CODE);
    expect(h.codeState(PAGE)).toBe("stale 3");
    const pte = map(3, 0x4000_0000n, PAGE, V | R | W);
    h.markCode(pte & -4096n);
    accessAs(3, PRIV.S);
    lastMpp = 1n << BigInt(MSTATUS.MPP);
    load(0x4000_0000n);
    expect(h.codeState(pte & -4096n)).toBe("stale 4");
  });
});

describe("PMP", () => {
  const R_ONLY = 1n;
  const TOR = 1n << 3n;
  const NA4 = 2n << 3n;
  const NAPOT = 3n << 3n;
  const LOCK = 0x80n;
  const napot = (base: bigint, size: bigint): bigint => (base >> 2n) | ((size >> 3n) - 1n);

  function asS(): void {
    h.hart.set("mstatus", bit(MSTATUS.MPRV) | (1n << BigInt(MSTATUS.MPP)));
    lastMpp = 1n << BigInt(MSTATUS.MPP);
    h.engine.flushTlb(hartBase(0));
  }
  function entry(i: number, cfg: bigint, address: bigint): void {
    h.hart.set("pmpcfg", cfg, i);
    h.hart.set("pmpaddr", address, i);
  }

  it("allows S all access without an entry, denies S what no entry allows, never restricts M", () => {
    asS();
    expect(load(PAGE)).toBe(0n);
    entry(0, NAPOT | 7n, napot(PAGE2, 0x1000n));
    asS();
    expect(load(PAGE2)).toBe(0n);
    expect(load(PAGE)).toBe(`${CAUSE.LOAD_ACCESS} ${PAGE.toString(16)}`);
    h.hart.set("mstatus", 0n);
    expect(load(PAGE)).toBe(0n);
  });

  it("matches TOR, NA4 and NAPOT to the byte, the lowest entry first", () => {
    entry(0, NA4 | R_ONLY, (PAGE + 8n) >> 2n);
    entry(1, 0n, (PAGE + 0x100n) >> 2n);
    entry(2, TOR | 7n, (PAGE + 0x200n) >> 2n);
    entry(3, NAPOT | R_ONLY, napot(PAGE2, 0x1000n));
    asS();
    expect(load(PAGE + 8n, "lw")).toBe(0n);
    expect(load(PAGE + 12n, "lw")).toMatch(/^5 /);
    expect(load(PAGE + 8n, "ld")).toMatch(/^5 /);
    expect(store(PAGE + 8n, 1n, "sw")).toMatch(/^7 /);
    expect(store(PAGE + 0xf8n, 1n)).toMatch(/^7 /);
    expect(store(PAGE + 0x100n, 1n)).toBeUndefined();
    expect(store(PAGE + 0x1f8n, 1n)).toBeUndefined();
    expect(store(PAGE + 0x200n, 1n)).toMatch(/^7 /);
    expect(load(PAGE2 + 0xff8n)).toBe(0n);
    expect(store(PAGE2, 1n)).toMatch(/^7 /);
  });

  it("excludes S from a part of RAM whatever was accessed around it before, for pages and for tables", () => {
    entry(0, NAPOT, napot(PAGE, 0x1000n));
    entry(1, NAPOT | 7n, (1n << 54n) - 1n);
    asS();
    for (const _ of [1, 2]) {
      for (const page of [PAGE2, PAGE - 0x1000n]) {
        expect(load(page)).toBe(0n);
        expect(store(page + 8n, 1n)).toBeUndefined();
        expect(load(PAGE)).toBe(`${CAUSE.LOAD_ACCESS} ${PAGE.toString(16)}`);
        expect(store(PAGE + 0xff8n, 1n)).toBe(`${CAUSE.STORE_ACCESS} ${(PAGE + 0xff8n).toString(16)}`);
      }
    }
    const va = 0x4000_0000n;
    map(3, va, PAGE2, V | R | W | A | D);
    accessAs(3, PRIV.S);
    expect(load(va)).toBe(0n);
    h.write64(TABLES + ((va >> 30n) & 511n) * 8n, ((PAGE >> 12n) << 10n) | V);
    accessAs(3, PRIV.S);
    expect(load(va)).toBe(`${CAUSE.LOAD_ACCESS} ${va.toString(16)}`);
  });

  it("applies locked entries to M, also for fetches", () => {
    entry(0, NAPOT | LOCK | R_ONLY, napot(PAGE, 0x1000n));
    h.engine.flushTlb(hartBase(0));
    lastMpp = 3n << BigInt(MSTATUS.MPP);
    expect(load(PAGE)).toBe(0n);
    expect(store(PAGE, 1n)).toMatch(/^7 /);
    h.hart.set("pc", PAGE);
    h.hart.set("mstatus", 0n);
    h.run(1);
    expect([h.hart.get("mcause"), h.hart.get("mtval")]).toEqual([BigInt(CAUSE.INSTRUCTION_ACCESS), PAGE]);
  });
});
