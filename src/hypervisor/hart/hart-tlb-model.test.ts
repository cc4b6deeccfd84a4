// Which translations may be used, tested with random page-table edits, address-space switches, fences and
// accesses: each outcome must be that of a walk now, or of a walk at some time since the last fence that
// covers it (privileged specification, 4.2.1, 4.3.2), in the address space's ASID or global. A fault must be
// that of a walk now. Jumps are treated as fetches.
import { expect, it } from "vitest";
import { asm, HartHarness, RAM_BASE } from "../../../test/support/hart-harness.ts";
import { hartBase } from "../shared/memory-map.ts";
import { CTX_JUMPS, JUMP_ENTRIES, TLB_ENTRIES } from "./tlb-context.ts";
import { PRIV } from "../../riscv/privilege.ts";
import { SCRATCH } from "../shared/hart-scratch.ts";
import { MSTATUS } from "../../riscv/status.ts";
import { ALL_SPACES } from "./engine-interface.ts";
import { seed } from "../../../test/support/seed.ts";
import { randomBelow } from "../../../test/support/random.ts";

const STEPS = Number(process.env["WHERRY_RUNS"] ?? 20_000);

const random = randomBelow(seed);
const pick = <T>(from: readonly T[]): T => from[random(from.length)] as T;
const chance = (percent: number): boolean => random(100) < percent;

const V = 1n;
const R = 2n;
const W = 4n;
const X = 8n;
const USER = 16n;
const GLOBAL = 32n;
const A = 64n;
const D = 128n;
const KEPT = R | W | X | USER;

const PAGE = 0x1000n;
const SUPERPAGE = 0x20_0000n;
const CODE = RAM_BASE + 0x1000n;
const HANDLER = RAM_BASE + 0x2000n;
const TABLES = RAM_BASE + 0x1_0000n;
const ROOTS = 4;
/** Pages of a root: itself, a table for each half, two tables below each. */
const TABLES_OF_ROOT = 7;
/** More than there are contexts. */
const ASIDS = 12;

/** Two 2 MiB regions in each half, whose pages share TLB entries, and these pages of each region. */
const APART = BigInt(TLB_ENTRIES) * PAGE;
const REGIONS = [0x4000_0000n, 0xffff_ffc0_0000_0000n].flatMap((half) => [half, half + APART]);
const PAGES = [0n, 1n, 2n, 256n];
const ADDRESSES = REGIONS.flatMap((region) => PAGES.map((page) => region + page * PAGE));
const BASES = [RAM_BASE + SUPERPAGE, RAM_BASE + 2n * SUPERPAGE];
const FRAMES = BASES.flatMap((base) => PAGES.map((page) => base + page * PAGE));
/** Where code is fetched from in a page: a different offset in each, so that jumps do not share an entry. */
const codeAt = (va: bigint): bigint => va + 0x100n + BigInt(4 * ADDRESSES.indexOf(va));
const idOf = (frame: bigint): bigint => BigInt(FRAMES.indexOf(frame) + 1);

interface Leaf {
  readonly key: string;
  readonly base: bigint;
  readonly size: bigint;
  readonly target: bigint;
  readonly flags: bigint;
  readonly isGlobal: boolean;
  readonly asid: number;
}

class Model {
  readonly h = new HartHarness({ ramSize: 0x60_0000, engine: "interpreter" });
  /** The results of walks since the last fences. */
  readonly #seen = new Map<string, Leaf>();
  #satp = 0n;
  readonly #satpOfAsid = new Map<number, bigint>();
  readonly #superpages: boolean;

  /** The region that most edits, fences and accesses use. */
  #hot = REGIONS[0]!;

  constructor(superpages: boolean) {
    const { h } = this;
    this.#superpages = superpages;
    h.hart.set("mtvec", HANDLER);
    for (const frame of FRAMES) {
      const code = new Array<number>(ADDRESSES.length).fill(asm("addi", { rd: 6, imm: Number(idOf(frame)) }));
      h.load(code, frame + 0x100n);
      h.write64(frame + 8n, idOf(frame));
    }
    for (let root = 0; root < ROOTS; root++) {
      for (const region of REGIONS) {
        h.write64(
          this.#slot(root, 2, region),
          this.#pointer(this.#table(root, region >> 63n === 0n ? 1 : 2)),
        );
        this.#setPointer(root, region, 0n);
      }
    }
  }

  #table(root: number, index: number): bigint {
    return TABLES + BigInt(root * TABLES_OF_ROOT + index) * PAGE;
  }
  #pointer(table: bigint, flags = 0n): bigint {
    return ((table >> 12n) << 10n) | V | flags;
  }
  /** Address of the entry for `va` in its region's table of a level. */
  #slot(root: number, level: number, va: bigint): bigint {
    const region = REGIONS.findIndex((r) => va >= r && va < r + SUPERPAGE);
    const table = this.#table(root, [3 + region, va >> 63n === 0n ? 1 : 2, 0][level] as number);
    return table + ((va >> BigInt(12 + 9 * level)) & 511n) * 8n;
  }
  #setPointer(root: number, region: bigint, flags: bigint): void {
    this.h.write64(
      this.#slot(root, 1, region),
      this.#pointer(this.#table(root, 3 + REGIONS.indexOf(region)), flags),
    );
  }

  get #asid(): number {
    return Number((this.#satp >> 44n) & 0xffffn);
  }

  #walk(va: bigint): Leaf | undefined {
    let table = (this.#satp & ((1n << 44n) - 1n)) << 12n;
    let isGlobal = false;
    for (let level = 2; level >= 0; level--) {
      const pte = this.h.read64(table + ((va >> BigInt(12 + 9 * level)) & 511n) * 8n);
      if ((pte & V) === 0n || (pte & (R | W)) === W) return undefined;
      if ((pte & GLOBAL) !== 0n) isGlobal = true;
      const target = (pte >> 10n) << 12n;
      if ((pte & (R | W | X)) === 0n) {
        table = target;
        continue;
      }
      const size = PAGE << BigInt(9 * level);
      const base = BigInt.asUintN(64, va & -size);
      const flags = pte & KEPT;
      const key = `${base.toString(16)} ${size} ${target.toString(16)} ${flags} ${isGlobal} ${this.#asid}`;
      return { key, base, size, target, flags, isGlobal, asid: this.#asid };
    }
    return undefined;
  }

  /** Any result that a walk has now may be cached. */
  note(): void {
    if (this.#satp >> 60n === 0n) return;
    for (const va of ADDRESSES) {
      const leaf = this.#walk(va);
      if (leaf !== undefined) this.#seen.set(leaf.key, leaf);
    }
  }
  #drop(goes: (leaf: Leaf) => boolean): void {
    for (const [key, leaf] of this.#seen) if (goes(leaf)) this.#seen.delete(key);
  }

  focus(): void {
    this.#hot = pick(REGIONS);
  }
  #region(): bigint {
    return chance(80) ? this.#hot : pick(REGIONS);
  }

  edit(): void {
    const root = chance(80) ? this.#asid % ROOTS : random(ROOTS);
    const region = this.#region();
    const bits = pick([R, R | W | X, R | W | X, R | W | X, R | W | X, R | X, W]);
    const flags =
      (chance(90) ? V : 0n) |
      bits |
      (chance(50) ? USER : 0n) |
      (chance(25) ? GLOBAL : 0n) |
      (chance(50) ? A | D : 0n);
    if (this.#superpages && chance(15)) {
      this.h.write64(this.#slot(root, 1, region), ((pick(BASES) >> 12n) << 10n) | flags);
    } else if (chance(30)) this.#setPointer(root, region, chance(30) ? GLOBAL : 0n);
    else {
      const at = this.#slot(root, 0, region + pick(PAGES) * PAGE);
      this.h.write64(at, ((pick(FRAMES) >> 12n) << 10n) | flags);
    }
  }

  #machine(word: number, x5 = 0n, x7 = 0n): void {
    this.h.hart.set("priv", BigInt(PRIV.M));
    this.h.hart.set("mstatus", 0n);
    this.h.setX(5, x5);
    this.h.setX(7, x7);
    this.h.execute([word], CODE);
    expect(this.h.hart.get("pc")).toBe(CODE + 4n);
  }

  switch(): void {
    const asid = random(ASIDS);
    const root = chance(90) ? asid % ROOTS : random(ROOTS);
    const satp = chance(10) ? 0n : (8n << 60n) | (BigInt(asid) << 44n) | (this.#table(root, 0) >> 12n);
    const old = this.#satp;
    this.#machine(asm("csrrw", { csr: 0x180, rs1: 5 }), satp);
    expect(this.h.hart.get("satp")).toBe(satp);
    this.#satp = satp;
    // Stricter than the specification, as in QEMU: another table with the same ASID is another address space.
    if (satp !== old && this.#satpOfAsid.get(this.#asid) !== satp) {
      this.#drop((leaf) => !leaf.isGlobal && leaf.asid === this.#asid);
    }
    this.#satpOfAsid.set(this.#asid, satp);
  }

  fence(): void {
    const asid = chance(60) ? this.#asid : random(ASIDS);
    const va = this.#region() + pick(PAGES) * PAGE + BigInt(random(4096));
    const { h } = this;
    const covers = (leaf: Leaf): boolean => va >= leaf.base && va < leaf.base + leaf.size;
    const isOfAsid = (leaf: Leaf): boolean => !leaf.isGlobal && leaf.asid === asid;
    const byHost = chance(30);
    switch (random(byHost ? 5 : 4)) {
      case 0:
        if (byHost) h.engine.flushSpace(hartBase(0), ALL_SPACES);
        else this.#machine(asm("sfence.vma"));
        this.#drop(() => true);
        break;
      case 1:
        if (byHost) h.engine.flushTlbPage(hartBase(0), va, ALL_SPACES);
        else this.#machine(asm("sfence.vma", { rs1: 5 }), va);
        this.#drop(covers);
        break;
      case 2:
        if (byHost) h.engine.flushSpace(hartBase(0), asid);
        else this.#machine(asm("sfence.vma", { rs2: 7 }), va, BigInt(asid) | (1n << 16n));
        this.#drop(isOfAsid);
        break;
      case 3:
        if (byHost) h.engine.flushTlbPage(hartBase(0), va, asid);
        else this.#machine(asm("sfence.vma", { rs1: 5, rs2: 7 }), va, BigInt(asid));
        this.#drop((leaf) => covers(leaf) && isOfAsid(leaf));
        break;
      case 4:
        h.engine.flushTlb(hartBase(0));
        this.#drop(() => true);
        break;
    }
  }

  access(): void {
    const { h } = this;
    const va = this.#region() + pick(PAGES) * PAGE;
    const kind = pick(["fetch", "load", "store"] as const);
    const priv = pick([PRIV.U, PRIV.S]);
    const sum = chance(50);
    const allows = ({ flags }: Leaf): boolean => {
      const isUser = (flags & USER) !== 0n;
      if (priv === PRIV.U ? !isUser : isUser && (!sum || kind === "fetch")) return false;
      return (flags & { fetch: X, load: R, store: W }[kind]) !== 0n;
    };
    const status = sum ? 1n << BigInt(MSTATUS.SUM) : 0n;
    const result = this[kind](va, priv, status);

    const isBare = this.#satp >> 60n === 0n;
    const now = isBare ? undefined : this.#walk(va);
    const may = [...this.#seen.values()].filter(
      (leaf) => va >= leaf.base && va < leaf.base + leaf.size && (leaf.isGlobal || leaf.asid === this.#asid),
    );
    const frames = may
      .filter((leaf) => !isBare && allows(leaf))
      .map((leaf) => leaf.target + (va & -PAGE) - leaf.base);
    const fault =
      { fetch: 1, load: 5, store: 7 }[kind] + (isBare ? 0 : { fetch: 11, load: 8, store: 8 }[kind]);
    const expected: string[] = frames.map((frame) => `frame ${idOf(frame)}`);
    if (now === undefined || !allows(now)) expected.push(`fault ${fault}`);
    expect(expected, `${kind} ${va.toString(16)} priv ${priv} sum ${sum} asid ${this.#asid}`).toContain(
      result,
    );

    if (kind !== "fetch") return;
    // What a dispatcher of translated code does: use the jump, or enter it in the cache.
    const context = h.view.getUint32(hartBase(0) + SCRATCH.fetchContext, true);
    const pc = codeAt(va);
    const jump = context + CTX_JUMPS + (Number((pc >> 1n) & BigInt(JUMP_ENTRIES - 1)) << 4);
    if (h.view.getBigUint64(jump, true) === pc) {
      expect(expected, `jump to ${pc.toString(16)}`).toContain(`frame ${h.view.getUint32(jump + 8, true)}`);
    }
    if (result.startsWith("frame")) {
      h.view.setBigUint64(jump, pc, true);
      h.view.setUint32(jump + 8, Number(result.slice(6)), true);
    }
  }

  #outcome(frame: () => bigint): string {
    return this.h.hart.get("pc") === HANDLER ? `fault ${this.h.hart.get("mcause")}` : `frame ${frame()}`;
  }
  #as(priv: number, status: bigint): void {
    this.h.hart.set("priv", BigInt(PRIV.M));
    this.h.hart.set("mstatus", status | (1n << BigInt(MSTATUS.MPRV)) | (BigInt(priv) << BigInt(MSTATUS.MPP)));
  }
  fetch(va: bigint, priv: number, status: bigint): string {
    this.h.hart.set("priv", BigInt(priv));
    this.h.hart.set("mstatus", status);
    this.h.hart.set("pc", codeAt(va));
    this.h.run(1);
    return this.#outcome(() => this.h.x(6));
  }
  load(va: bigint, priv: number, status: bigint): string {
    this.#as(priv, status);
    this.h.setX(5, va);
    this.h.execute([asm("ld", { rd: 6, rs1: 5, imm: 8 })], CODE);
    return this.#outcome(() => this.h.x(6));
  }
  #stored = 0n;
  store(va: bigint, priv: number, status: bigint): string {
    this.#as(priv, status);
    this.h.setX(5, va);
    this.h.setX(6, ++this.#stored);
    this.h.execute([asm("sd", { rs1: 5, rs2: 6, imm: 16 })], CODE);
    return this.#outcome(() =>
      idOf(FRAMES.find((frame) => this.h.read64(frame + 16n) === this.#stored) ?? 0n),
    );
  }
}

it.each([
  ["pages", false],
  ["pages and superpages", true],
])("uses no translation that a fence has removed: %s", (_name, superpages) => {
  const model = new Model(superpages);
  for (let step = 0; step < STEPS; step++) {
    const what = random(100);
    if (what < 25) model.edit();
    else if (what < 26) model.focus();
    else if (what < 32) model.switch();
    else if (what < 50) model.fence();
    else model.access();
    model.note();
  }
});
