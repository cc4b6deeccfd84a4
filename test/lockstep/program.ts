// A random lock-step program: its image of RAM and initial hart state. It never ends: a main part with loops
// calls functions on other pages and jumps back to its start through the landing, a short piece of code on a
// page that stays executable. Deterministic in its seed.
import { SUPERVISOR_INTERRUPTS } from "../../src/riscv/causes.ts";
import { MSTATUS_FIXED } from "../../src/riscv/status.ts";
import type { HartField } from "../../src/riscv/hart-state.ts";
import { PRIV } from "../../src/riscv/privilege.ts";
import { RAM_BASE } from "../support/hart-harness.ts";
import {
  access,
  atomic,
  branch,
  computation,
  floatComputation,
  type Item,
  jump,
  type Mode,
  movePointer,
  nearlyRow,
  op,
  POINTERS,
  rawWord,
  reservation,
  SAFE_POINTER,
  type Unit,
  WRONG_POINTER,
} from "../support/programs/items.ts";
import { compressed } from "../support/programs/items-compressed.ts";
import { burst, interrupt, lowerMode, selfModify } from "../support/programs/items-system.ts";
import { float, integer } from "../support/programs/program.ts";
import { Random } from "../support/random.ts";
import {
  anyCsr,
  anySystem,
  COUNTERS,
  DEPTH,
  floatCsr,
  isCostly,
  isHarmless,
  jumpTable,
  LINK,
  literal,
  type LockstepContext,
  loopEnd,
  modifyPrivilege,
  movePage,
  nearby,
  protect,
  recursion,
  refresh,
  ret,
  rewrite,
  SAVED_LINK,
  STACK_POINTER,
  statusBits,
  switchSpace,
  transfer,
  walk,
} from "./items.ts";
import { kernelPlace, writeKernel } from "./kernel.ts";
import {
  CODE,
  CODE_SIZE,
  KERNEL_ALIAS,
  PROGRAM_ALIAS,
  COPY,
  RAM_SIZE,
  RAM_TOTAL,
  SCRATCH,
  SCRATCH_SIZE,
  STACK,
} from "./layout.ts";
import { buildSpaces, goodFlags, type Space } from "./spaces.ts";

/** An item with its target, if that is not given by `reach`. */
export interface Entry {
  readonly item: Item;
  /** Index of the entry to which it branches, jumps or calls. */
  readonly target?: number;
  /** Place of the item. Default: after the previous one. */
  readonly place?: number;
  /** The item of the same size that the copy of the code has at this place. */
  readonly other?: Item;
  /** It ends a part and cannot be dropped: without it, execution would leave the part. */
  readonly fixed?: boolean;
}

export interface LockstepProgram {
  readonly seed: number;
  readonly entries: readonly Entry[];
  /** Field, value and element; all others are 0. */
  readonly state: readonly (readonly [HartField, bigint, number])[];
  readonly builtinFirmware: boolean;
  /** RAM without the program's code. */
  readonly ram: Uint8Array<ArrayBuffer>;
  readonly summary: string;
}

type Generator = (context: LockstepContext) => Item;
const COMMON: readonly (readonly [number, Generator])[] = [
  [16, computation],
  [10, floatComputation],
  [14, access],
  [4, atomic],
  [3, reservation],
  [3, movePointer],
  [3, movePage],
  [7, branch],
  [3, jump],
  [16, compressed],
  [3, anyCsr],
  [3, floatCsr],
  [1, anySystem],
  [1, burst],
  [3, nearby],
  [3, walk],
  [1, selfModify],
  [1, rewrite],
  [2, literal],
  [1, rawWord],
  [1, nearlyRow],
  [2, refresh],
  [2, jumpTable],
];
/** Only some programs have these: they are slow. */
const RARE: readonly (readonly [number, Generator])[] = [
  [1, statusBits],
  [1, interrupt],
  [1, lowerMode],
  [1, switchSpace],
  [1, modifyPrivilege],
  [1, protect],
  [4, anySystem],
  [3, anyCsr],
  [2, rewrite],
];

class Builder {
  readonly entries: Entry[] = [];
  readonly #context: LockstepContext;
  readonly #choices: readonly (readonly [number, Generator])[];
  readonly #thrift: number;
  /** Accepts one in `thrift` of the items that trap. */
  constructor(context: LockstepContext, choices: readonly (readonly [number, Generator])[], thrift: number) {
    this.#context = context;
    this.#choices = choices;
    this.#thrift = thrift;
  }

  get next(): number {
    return this.entries.length;
  }
  add(item: Item, more: Omit<Entry, "item"> = {}): void {
    this.entries.push({ item, ...more });
  }
  random(count: number): void {
    for (let i = 0; i < count; i++) {
      let item: Item;
      do {
        // The shared items depend on the mode in which a program starts; here the mode changes.
        const mode = this.#context.r.pick<Mode>(["M", "S", "U"]);
        item = this.#context.r.weighted(this.#choices)({ ...this.#context, mode });
      } while (!isHarmless(item) || (isCostly(item) && !this.#context.r.oneIn(this.#thrift)));
      this.add(item, item.size === 4 && this.#context.r.oneIn(3) ? { other: this.#other() } : {});
    }
  }
  #other(): Item {
    for (;;) {
      const item = computation(this.#context);
      if (isHarmless(item) && !isCostly(item)) return item;
    }
  }
  /** A loop around `body`. */
  loop(counter: number, body: () => void): void {
    const { r } = this.#context;
    this.add(op("addi", { rd: counter, imm: 1 + r.int(12) }));
    const head = this.next;
    body();
    // Mostly to its head, otherwise into its middle.
    const target = r.oneIn(4) ? head + r.int(this.next - head) : head;
    this.add(loopEnd(r, counter), { target });
  }
}

const PARTS = 8;
const PART_SIZE = CODE_SIZE / PARTS;

/** The place of part n: mostly near the end of a page, so that the part crosses into the next. */
function placeOfPart(r: Random, n: number): number {
  const start = CODE + n * PART_SIZE;
  return r.oneIn(3) ? start + 2 * r.int(0x600) : start + 0x1000 - 2 * r.int(0x100);
}

/** `isCompact`: without gaps, so that calls stay in the page. */
function functions(r: Random, build: Builder, count: number, isCompact: boolean): number[] {
  const starts: number[] = [];
  for (let n = 0; n < count; n++) {
    const isLeaf = n === 0 || r.oneIn(2);
    starts.push(build.next);
    const place = isCompact && n > 0 ? {} : { place: placeOfPart(r, n + 1) };
    build.add(op("addi", { rd: 0, rs1: 0, imm: n }), place);
    if (!isLeaf) build.add(op("addi", { rd: SAVED_LINK, rs1: LINK, imm: 0 }));
    const own = starts.at(-1) as number;
    const self = build.next;
    build.random(3 + r.int(14));
    if (r.oneIn(2)) build.loop(COUNTERS[1], () => build.random(2 + r.int(10)));
    if (isLeaf && r.oneIn(3)) build.add(recursion(), { target: self });
    if (!isLeaf) {
      const leaf = starts[0] === own ? own : (starts[0] as number);
      build.add(transfer(r, LINK), { target: leaf });
      build.random(r.int(5));
      build.add(op("addi", { rd: LINK, rs1: SAVED_LINK, imm: 0 }), { fixed: true });
    }
    build.add(ret(r), { fixed: true });
  }
  return starts;
}

/** Addresses that are wrong in some modes or in all. */
function wrongPointer(r: Random, spaces: readonly Space[]): bigint {
  const window = r.pick(spaces).window;
  return BigInt.asUintN(
    64,
    r.pick([
      0x50n,
      0x1010n,
      DEVICE,
      PROGRAM_ALIAS + BigInt(SCRATCH) + 0x8000n,
      ...[0, 1, 2, 3].map((n) => window + BigInt(n * RAM_SIZE + SCRATCH) + 0x8000n),
      PROGRAM_ALIAS + BigInt(RAM_TOTAL),
      KERNEL_ALIAS + BigInt(SCRATCH) + 0x8000n,
      window + 0x1f_fff8n,
      window - 4n,
      1n << 38n,
      1n << 47n,
      1n << 56n,
      1n << 63n,
      (1n << 64n) - 8n,
      RAM_BASE + BigInt(RAM_TOTAL),
    ]),
  );
}
/** Address of a device. */
export const DEVICE = 0x2000_0000n;

const PMP_ALL = { cfg: 0x1fn, address: (1n << 54n) - 1n };

/**
 * Entries for scratch memory and for whole code pages other than the landing's; the last one allows the rest.
 */
function pmpEntries(r: Random): { cfg: bigint; address: bigint }[] {
  const entries = Array.from({ length: r.oneIn(3) ? 1 + r.int(3) : 0 }, () => {
    const cfg = r.pick([0x18n, 0x19n, 0x1bn, 0x1cn, 0x1fn]) | (r.oneIn(5) ? 0x80n : 0n);
    if (r.oneIn(3)) {
      const page = (RAM_BASE + BigInt(CODE + r.int(24) * 4096)) >> 2n;
      return { cfg, address: page | 0x1ffn };
    }
    const at = (RAM_BASE + BigInt(SCRATCH + r.int(SCRATCH_SIZE / 8) * 8)) >> 2n;
    const ones = (1n << BigInt(r.pick([0, 1, 3, 5, 9, 10]))) - 1n;
    return { cfg, address: (at & ~(ones * 2n + 1n)) | ones };
  });
  const off = { cfg: 0n, address: 0n };
  return [...entries, ...Array.from({ length: 15 - entries.length }, () => off), PMP_ALL];
}

/** Generates the program of this seed. */
export function lockstepProgram(seed: number): LockstepProgram {
  const r = new Random(seed);
  const ram = new Uint8Array(RAM_TOTAL);
  const view = new DataView(ram.buffer);
  const good = goodFlags(r);
  const landing = CODE + (PARTS - 1) * PART_SIZE + 0x1000 * r.int(PART_SIZE / 0x1000) + 2 * r.int(0x700);
  const spaces = buildSpaces(r, view, good, landing);
  const [tvm, tw, tsr] = [r.oneIn(8), r.oneIn(8), r.oneIn(8)];
  const context: LockstepContext = {
    r,
    mode: "M",
    bare: false,
    paged: true,
    everyRow: true,
    interrupt: r.pick([0x2, 0x20, 0x200]),
    tvm,
    tw,
    usesPmp: false,
    spaces,
  };
  const calm = r.oneIn(2);
  const build = new Builder(context, calm ? COMMON : [...COMMON, ...RARE], r.pick([6, 60, 60, 1000]));
  const count = 1 + r.int(PARTS - 2);
  const isCompact = r.oneIn(2);
  const starts = functions(r, build, count, isCompact);
  const main = build.next;
  // When compact, main follows the functions, which begin in part 1; the parts after it are empty.
  build.add(op("addi", { rd: DEPTH, imm: r.int(8) }), isCompact ? {} : { place: placeOfPart(r, 0) });
  const pieces = r.oneIn(8) ? 16 : 2 + r.int(5);
  for (let n = 0; n < pieces; n++) {
    build.random(2 + r.int(20));
    const call = (): void => build.add(transfer(r, LINK), { target: r.pick(starts) });
    const loop = (inner: () => void): void =>
      build.loop(COUNTERS[0], () => {
        build.random(1 + r.int(8));
        inner();
        build.random(r.int(8));
      });
    r.weighted<() => void>([
      [3, call],
      [3, () => loop(call)],
      [2, () => loop(() => {})],
      [1, () => loop(() => build.loop(COUNTERS[1], () => build.random(1 + r.int(6))))],
      [1, () => {}],
    ])();
  }
  build.add(transfer(r, 0), { target: build.next + 1, fixed: true });
  build.add(op("ecall", {}), { place: landing });
  build.add(transfer(r, 0), { target: main, fixed: true });

  for (let i = SCRATCH; i < RAM_SIZE; i += 8) view.setBigUint64(i, r.oneIn(2) ? integer(r) : float(r), true);
  const delegates = !tvm && !tsr && r.oneIn(2);
  const medeleg = delegates ? r.u64() & 0xb3f7n : 0n;
  const mideleg = delegates ? r.u64() & SUPERVISOR_INTERRUPTS : 0n;
  writeKernel(view, { coin: r.u64() | 1n, landing, good, medeleg, mideleg, spaces });

  const mode = r.pick([PRIV.M, PRIV.S, PRIV.U]);
  const space = r.oneIn(4) ? undefined : r.pick(spaces);
  const base =
    mode === PRIV.M || space === undefined ? RAM_BASE : space.window + (mode === PRIV.U ? 0x100000n : 0n);
  const flag = (bit: number, oneIn: number): bigint => (r.oneIn(oneIn) ? 1n << BigInt(bit) : 0n);
  const status =
    (BigInt(mode) << 11n) |
    (BigInt(r.pick([0, 1, 2, 3, 3, 3])) << 13n) |
    flag(18, 2) |
    flag(19, 3) |
    (tvm ? 1n << 20n : 0n) |
    (tw ? 1n << 21n : 0n) |
    (tsr ? 1n << 22n : 0n) |
    flag(7, 3) |
    flag(5, 3);
  const x = Array.from({ length: 32 }, () => integer(r));
  for (const p of POINTERS) x[p] = base + BigInt(SCRATCH + 0x10000 + 8 * r.int(0x100));
  x[SAFE_POINTER] = base + BigInt(SCRATCH + 0x3800 + 8 * r.int(0x80));
  x[WRONG_POINTER] = wrongPointer(r, spaces);
  x[STACK_POINTER] = base + BigInt(STACK + 0x800);
  x[DEPTH] = BigInt(r.int(8));
  x[0] = 0n;
  const starting = layOut(build.entries)[main] as number;
  const scalar = (field: HartField, value: bigint): [HartField, bigint, number] => [field, value, 0];
  const state: [HartField, bigint, number][] = [
    scalar("pc", RAM_BASE),
    scalar("priv", BigInt(PRIV.M)),
    scalar("mepc", base + BigInt(starting)),
    scalar("mstatus", MSTATUS_FIXED | status),
    scalar("satp", space?.satp ?? 0n),
    scalar("mtvec", RAM_BASE + BigInt(kernelPlace("m_vector") + r.int(2))),
    scalar("stvec", KERNEL_ALIAS + BigInt(kernelPlace("s_vector") + r.int(2))),
    scalar("medeleg", space === undefined ? 0n : medeleg),
    scalar("mideleg", space === undefined ? 0n : mideleg),
    scalar("mcounteren", r.u64() & 7n),
    scalar("scounteren", r.u64() & 7n),
    scalar("menvcfg", r.oneIn(2) ? 0xf1n : r.oneIn(2) ? (1n << 63n) | 0xf0n : 0n),
    scalar("svade", r.oneIn(4) ? 1n : 0n),
    scalar("senvcfg", r.oneIn(2) ? 0xf1n : 0n),
    scalar("stimecmp", r.oneIn(2) ? (1n << 64n) - 1n : BigInt(r.int(1000))),
    scalar("mcycle", r.u64()),
    scalar("minstret", r.u64()),
    scalar("fflags", BigInt(r.int(32))),
    scalar("frm", BigInt(r.oneIn(3) ? r.int(5) : 0)),
    ...x.map((value, i): [HartField, bigint, number] => ["x", BigInt.asUintN(64, value), i]),
    ...x.map((_, i): [HartField, bigint, number] => ["f", float(r), i]),
    ...pmpEntries(r).flatMap(({ cfg, address }, i): [HartField, bigint, number][] => [
      ["pmpcfg", cfg, i],
      ["pmpaddr", address, i],
    ]),
  ];
  const builtinFirmware = r.oneIn(5);
  const summary = [
    `mode ${mode}, satp ${(space?.satp ?? 0n).toString(16)}, base ${BigInt.asUintN(64, base).toString(16)}`,
    `medeleg ${medeleg.toString(16)}${builtinFirmware ? ", built-in firmware" : ""}`,
  ].join(", ");
  return { seed, entries: build.entries, state, builtinFirmware, ram, summary };
}

/** The place of each entry; dropped ones take no space. */
function layOut(entries: readonly Entry[], isKept: (index: number) => boolean = () => true): number[] {
  let at = 0;
  return entries.map((entry, i) => {
    at = entry.place ?? at;
    const start = at;
    if (isKept(i)) at += entry.item.size;
    return start;
  });
}

/** Maximum distance of a branch in bytes, by its size: a compressed branch's range, or half a page. */
const REACH = { 2: 240, 4: 2000 } as const;

function write(view: DataView, start: number, units: readonly Unit[]): void {
  let at = start;
  for (const { size, word } of units) {
    if (size === 2) view.setUint16(at, word, true);
    else view.setUint32(at, word, true);
    at += size;
  }
}

/** RAM with the program's code, and its listing. */
export function programImage(
  program: LockstepProgram,
  isKept: (index: number) => boolean = () => true,
): { ram: Uint8Array<ArrayBuffer>; listing: string[] } {
  const ram = program.ram.slice();
  const view = new DataView(ram.buffer);
  const { entries } = program;
  const places = layOut(entries, isKept);
  const listing: string[] = [];
  const address = (place: number): bigint => RAM_BASE + BigInt(place);
  for (const [i, entry] of entries.entries()) {
    if (!isKept(i)) continue;
    const start = places[i] as number;
    const { item } = entry;
    let to = places[entry.target ?? i + item.reach] ?? start;
    if (entry.target === undefined) {
      // Not beyond the end of its part.
      let last = i;
      while (last < i + item.reach && entries[last + 1]?.place === undefined && last + 1 < entries.length)
        last++;
      to = Math.min(places[last] as number, start + REACH[item.size === 2 ? 2 : 4]);
      if (!places.includes(to) || to <= start) to = start + item.size;
    }
    const units = item.encode(address(start), address(to));
    const words = units.map((u) => u.word.toString(16)).join(" ");
    listing.push(
      `${i}: ${address(start).toString(16)} ${words}  ${item.text} → ${address(to).toString(16)}${entry.other === undefined ? "" : `; in the copy ${entry.other.text}`}`,
    );
    write(view, start, units);
    write(view, start + COPY, entry.other?.encode(address(start), address(to)) ?? units);
  }
  return { ram, listing };
}
