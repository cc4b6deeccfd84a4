// The cost of address translation: loads all over a guest's memory, switches between address spaces, fences.
// One hart, Sv39, 4 KiB pages that are all mapped. Prints ns of CPU time and TLB refills for each.
// npm run bench:tlb [-- --engine interpreter] [-- --only loads]
import { SATP_MODE } from "../src/riscv/paging.ts";
import { satpOf } from "../test/support/satp.ts";
import { parseArgs } from "node:util";
import { asm, HartHarness, RAM_BASE } from "../test/support/hart-harness.ts";
import type { EngineKind } from "../src/hypervisor/shared/engine-kind.ts";
import { hartBase } from "../src/hypervisor/shared/memory-map.ts";
import { PRIV } from "../src/riscv/privilege.ts";
import { SCRATCH } from "../src/hypervisor/shared/hart-scratch.ts";
import { randomBelow } from "../test/support/random.ts";

const { values } = parseArgs({
  options: { engine: { type: "string", default: "translator" }, only: { type: "string", default: "" } },
});
const engine = values.engine as EngineKind;

const KIB = 1024;
const MIB = 1024 * KIB;
const PAGE = 4096;
const DATA_SIZE = 64 * MIB;
const LEAF = 1n | 2n | 4n | 8n | 64n | 128n;
const USER = 16n;
const GLOBAL = 32n;
const SAMPLES = 5;
/** Long, because CPU time is counted in steps of some ms. */
const SAMPLE_MS = 150;
const SPACES = 12;

// Guest-physical layout from the start of RAM: code, then each space's tables, then data.
const CODE = RAM_BASE;
const TABLES = RAM_BASE + BigInt(MIB);
const TABLES_SIZE = BigInt(MIB);
const DATA = TABLES + TABLES_SIZE * BigInt(SPACES);
/** Guest-virtual: code for U and S (two views of the same page), data. */
const USER_CODE = 0x1000_0000n;
const SUPERVISOR_CODE = 0x2000_0000n;
const VIRTUAL = 0x4000_0000n;

const i = (name: string, rd: number, rs1: number, imm: number): number => asm(name, { rd, rs1, imm });
const csr = (name: string, number: number, rd: number, rs1: number): number =>
  asm(name, { csr: number, rd, rs1 });
const STVEC_CODE = 0x800n;

class Machine {
  readonly h = new HartHarness({ ramSize: Number(DATA - RAM_BASE) + DATA_SIZE, engine, exact: false });
  readonly #next = new Array<bigint>(SPACES).fill(0n);

  constructor() {
    for (let space = 0; space < SPACES; space++) {
      this.#next[space] = this.#root(space) + BigInt(PAGE);
      this.#map(space, USER_CODE, CODE, LEAF | USER);
      this.#map(space, SUPERVISOR_CODE, CODE, LEAF | GLOBAL);
      // The first space maps all of the data, the others only what the switches touch.
      const pages = space === 0 ? DATA_SIZE / PAGE : 512;
      for (let page = 0; page < pages; page++) {
        const offset = BigInt(page * PAGE);
        this.#map(space, VIRTUAL + offset, DATA + offset, LEAF | USER);
      }
    }
    const { h } = this;
    h.hart.set("medeleg", 1n << 8n);
    h.hart.set("stvec", SUPERVISOR_CODE + STVEC_CODE);
    // An ecall from U-mode: satp becomes x20, which becomes x21, and so on; then an optional sfence.vma.
    this.#handler([]);
    this.enter(0, PRIV.U);
  }

  #handler(more: readonly number[]): void {
    this.h.load(
      [
        csr("csrrs", 0x141, 7, 0),
        i("addi", 7, 7, 4),
        csr("csrrw", 0x141, 0, 7),
        csr("csrrw", 0x180, 0, 20),
        i("addi", 22, 20, 0),
        i("addi", 20, 21, 0),
        i("addi", 21, 22, 0),
        ...more,
        asm("sret"),
      ],
      CODE + STVEC_CODE,
    );
  }
  #root(space: number): bigint {
    return TABLES + TABLES_SIZE * BigInt(space);
  }
  satp(space: number, asid = space + 1): bigint {
    return satpOf(SATP_MODE.SV39, this.#root(space), asid);
  }
  #map(space: number, va: bigint, pa: bigint, flags: bigint): void {
    const { h } = this;
    let table = this.#root(space);
    for (const level of [2, 1]) {
      const at = table + ((va >> BigInt(12 + 9 * level)) & 511n) * 8n;
      if (h.read64(at) === 0n) {
        h.write64(at, ((this.#next[space]! >> 12n) << 10n) | 1n);
        this.#next[space]! += BigInt(PAGE);
      }
      table = (h.read64(at) >> 10n) << 12n;
    }
    h.write64(table + ((va >> 12n) & 511n) * 8n, ((pa >> 12n) << 10n) | flags);
  }

  /** Runs from the start of the code page. */
  enter(space: number, priv: number): void {
    const { hart, engine: wasm } = this.h;
    hart.set("satp", this.satp(space));
    hart.set("priv", BigInt(priv));
    // As the built-in firmware sets it.
    hart.set("pmpcfg", 0x1fn);
    hart.set("pmpaddr", (1n << 54n) - 1n);
    hart.set("pc", priv === PRIV.U ? USER_CODE : SUPERVISOR_CODE);
    wasm.flushTlb(hartBase(0));
  }
  program(words: readonly number[], handler: readonly number[] = []): void {
    this.h.load(words, CODE);
    this.#handler(handler);
  }

  /** Prints the median ns and the refills of a `unit`th of a loop of `instructions` instructions. */
  measure(name: string, instructions: number, unit: number): void {
    const refillsAt = (hartBase(0) + SCRATCH.refills) >>> 3;
    const counters = new BigUint64Array(this.h.buffer);
    const cpuMs = (loops: number): number => {
      const start = process.threadCpuUsage();
      this.h.run(instructions * loops);
      const { user, system } = process.threadCpuUsage(start);
      return (user + system) / 1000;
    };
    let loops = Math.ceil(1e6 / instructions);
    while (cpuMs(loops) < SAMPLE_MS / 2) loops *= 2;
    const before = counters[refillsAt]!;
    const samples = Array.from({ length: SAMPLES }, () => cpuMs(loops)).sort((a, b) => a - b);
    const refills = Number(counters[refillsAt]! - before) / (SAMPLES * loops * unit);
    const ns = (samples[SAMPLES >> 1]! * 1e6) / (loops * unit);
    console.log(
      `${name.padEnd(44)} ${ns.toFixed(2).padStart(9)} ns ${refills.toFixed(3).padStart(9)} refills`,
    );
  }
}

const random = randomBelow(1);

/** A cycle through `size` bytes in this order of strides: each word holds the address of the next one. */
function chain(h: HartHarness, offsets: readonly number[]): void {
  const at = h.offset(DATA);
  offsets.forEach((offset, n) => {
    h.view.setBigUint64(at + offset, VIRTUAL + BigInt(offsets[(n + 1) % offsets.length]!), true);
  });
}

function loads(): void {
  for (const size of [256 * KIB, MIB, 2 * MIB, 4 * MIB, 8 * MIB, 16 * MIB, 64 * MIB]) {
    for (const order of ["random", "sequential"] as const) {
      const m = new Machine();
      const step = order === "random" ? PAGE : 64;
      const offsets = Array.from({ length: size / step }, (_, n) => n * step);
      if (order === "random") {
        for (let n = offsets.length - 1; n > 0; n--) {
          const other = random(n);
          [offsets[n], offsets[other]] = [offsets[other]!, offsets[n]!];
        }
        // At different offsets in their pages: equal offsets would measure the host's cache.
        for (let n = 0; n < offsets.length; n++) offsets[n]! += random(PAGE / 64) * 64;
      }
      chain(m.h, offsets);
      m.h.setX(5, VIRTUAL + BigInt(offsets[0]!));
      m.program([i("ld", 5, 5, 0), i("ld", 5, 5, 0), i("ld", 5, 5, 0), asm("jal", { imm: -12 })]);
      const name = `${order} loads in ${size >= MIB ? `${size / MIB} MiB` : `${size / KIB} KiB`}`;
      m.measure(name, 4, 3);
    }
  }
}

/** Touches some pages, then makes an ecall with this handler; prints ns for each round. */
function rounds(
  name: string,
  pages: number,
  satps: readonly [bigint, bigint] | undefined,
  handler: number[],
): void {
  const m = new Machine();
  m.h.setX(20, satps?.[0] ?? m.satp(0));
  m.h.setX(21, satps?.[1] ?? m.satp(0));
  const loop = [
    asm("lui", { rd: 5, imm: Number(VIRTUAL) }),
    asm("lui", { rd: 9, imm: PAGE }),
    i("addi", 6, 0, pages),
    i("ld", 8, 5, 0),
    asm("add", { rd: 5, rs1: 5, rs2: 9 }),
    i("addi", 6, 6, -1),
    asm("bne", { rs1: 6, rs2: 0, imm: -12 }),
    asm("ecall"),
    asm("jal", { imm: -32 }),
  ];
  m.program(loop, handler);
  m.measure(`${name}, ${pages} pages touched`, 5 + 4 * pages + 8 + handler.length, 1);
}

function switches(): void {
  const m = new Machine();
  for (const pages of [1, 256]) {
    rounds("system call", pages, undefined, []);
    rounds("switch to another ASID", pages, [m.satp(0), m.satp(1)], []);
    rounds("switch, all with ASID 0", pages, [m.satp(0, 0), m.satp(1, 0)], []);
    rounds("sfence.vma", pages, undefined, [asm("sfence.vma")]);
    rounds("sfence.vma of a page", pages, undefined, [asm("sfence.vma", { rs1: 9 })]);
  }
}

if (values.only !== "switches") loads();
if (values.only !== "loads") switches();
