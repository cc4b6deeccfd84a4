// Environment calls, CSR instructions, fences, privileged instructions and cache-block operations
// (unprivileged specification: 2.7, 2.8, Zifencei, Zicsr, Zicbom, Zicboz; privileged: 3.3, 4.2). Caches are
// not modelled: Zicbom only checks permissions.
import { ENVCFG_CBCFE, ENVCFG_CBIE, ENVCFG_CBZE } from "../../riscv/envcfg.ts";
import { CACHE_BLOCK_SIZE } from "../../riscv/extensions.ts";
import { PRIV } from "../../riscv/privilege.ts";
import { REGISTERS } from "../../riscv/registers.ts";
import { I32, type I64 } from "../../wasm/expr.ts";
import { csrAccess } from "./csr.ts";
import { CONFIG_BUILTIN_FIRMWARE, SCRATCH, SPINS } from "../shared/hart-scratch.ts";
import { cacheBlockAddress } from "../hart/mmu.ts";
import { accessFflags } from "./isa-fp.ts";
import { type Row, row, type Semantics } from "./instruction-semantics.ts";
import { flushSpace, flushTlbPage } from "../hart/hart-tlb.ts";
import { CAUSE } from "../../riscv/causes.ts";
import { EVENT, get32, machineReturn, pendingBits, setEvent, supervisorReturn } from "../hart/hart-traps.ts";
import { MSTATUS } from "../../riscv/status.ts";
import { ACCESS } from "../hart/page-walk.ts";
import { EXIT, ALL_SPACES } from "../hart/engine-interface.ts";

const CBIE = Number(ENVCFG_CBIE);
const CBCFE = Number(ENVCFG_CBCFE);
const CBZE = Number(ENVCFG_CBZE);

/** In S-mode, if the mstatus bit traps it. */
const trappedInS = (s: Semantics, bit: number): I32 =>
  get32(s.hart, "priv").eq(PRIV.S).and(get32(s.hart, "mstatus").shrU(bit));

function csr(kind: "rw" | "rs" | "rc", funct3: string): readonly Row[] {
  const access = (s: Semantics, operand: I64): void => {
    // The CSR number is known.
    if (s.field(20, 12).constant === REGISTERS.fflags.csr)
      return accessFflags(s, kind, operand, s.field(15, 5));
    s.syncCounters();
    s.setRd(s.guard(csrAccess.call(s.hart, s.word, operand)));
  };
  return [
    row(`csr${kind}`, "Zicsr", `csr rs1 0${funct3} rd 1110011`, (s) => access(s, s.rs1)),
    row(`csr${kind}i`, "Zicsr", `csr uimm5 1${funct3} rd 1110011`, (s) => {
      access(s, s.field(15, 5).extendU());
    }),
  ];
}

/** Illegal unless menvcfg (below M-mode) and senvcfg (in U-mode) have one of the bits set. */
function requireEnvcfg(s: Semantics, bits: number): void {
  const { f, hart } = s;
  const priv = f.let(get32(hart, "priv"));
  const fromM = get32(hart, "menvcfg").and(bits).ne(0);
  const fromS = get32(hart, "senvcfg").and(bits).ne(0);
  f.if(
    priv
      .eq(PRIV.M)
      .or(fromM.and(priv.or(fromS)))
      .eqz(),
    () => s.illegal(),
  );
}

const cacheBlock = (name: string, selector: string, bits: number): Row =>
  row(name, "Zicbom", `${selector} rs1 010 00000 0001111`, (s) => {
    requireEnvcfg(s, bits);
    s.guard(cacheBlockAddress.call(s.hart, s.rs1, ACCESS.LOAD).extendU());
  });

const INPUT = 8;
const OUTPUT = 4;
const READ = 2;
const WRITE = 1;
/** fm, predecessors and successors of fence.tso. With any other fm it is a normal fence (2.7). */
const FENCE_TSO = 0x833;

/**
 * On a host with total store order, only a fence between earlier stores and later loads needs code, and a
 * locked operation costs a quarter of WebAssembly's single kind of fence
 * (docs/decisions/0013-fences-and-posted-interrupts.md).
 */
function fence(s: Semantics): void {
  if (!s.hasTotalStoreOrder) return s.f.fence();
  const storesBefore = s.field(24, 4).and(OUTPUT | WRITE);
  const loadsAfter = s.field(20, 4).and(INPUT | READ);
  const isFull = s.field(20, 12).ne(FENCE_TSO).and(storesBefore.ne(0)).and(loadsAfter.ne(0));
  s.f.if(isFull, () => s.f.drop(s.hart.rmw32("add", 0, SCRATCH.barrier)));
}

/** The hart waits for another one: the slice ends, and after many waits run() does (EXIT.SPIN). */
export function spin(s: Semantics): void {
  const { f, hart } = s;
  const spins = f.let(hart.load32(SCRATCH.spins).add(1));
  f.store32(hart, spins, SCRATCH.spins);
  f.if(spins.eq(SPINS), () => s.exit(EXIT.SPIN, "next"));
  setEvent(f, hart, EVENT.RESYNC);
  s.checkEvent();
}

export const systemRows: readonly Row[] = [
  row("ecall", "I", "00000000000000000000000001110011", (s) => {
    const { f, hart } = s;
    const priv = f.let(get32(hart, "priv"));
    f.if(priv.eq(PRIV.S).and(hart.load32(SCRATCH.config).and(CONFIG_BUILTIN_FIRMWARE)), () =>
      s.exit(EXIT.ECALL, "here"),
    );
    s.trapDynamic(priv.add(CAUSE.ECALL).extendU());
  }),
  row("ebreak", "I", "00000000000100000000000001110011", (s) => s.trap(CAUSE.BREAKPOINT, 0)),
  // A fence without successors: before the row of all fences.
  row("pause", "Zihintpause", "00000001000000000000000000001111", spin),
  row("fence", "I", "fm pred succ rs1 000 rd 0001111", fence),
  // The slice ends: stale translations are dropped before the next one.
  row("fence.i", "Zifencei", "imm12 rs1 001 rd 0001111", (s) => {
    s.f.fence();
    setEvent(s.f, s.hart, EVENT.RESYNC);
    s.checkEvent();
  }),
  ...csr("rw", "01"),
  ...csr("rs", "10"),
  ...csr("rc", "11"),

  row("mret", "S", "00110000001000000000000001110011", (s) => {
    s.f.if(get32(s.hart, "priv").ne(PRIV.M), () => s.illegal());
    s.f.call(machineReturn, s.hart);
    s.resume();
  }),
  row("sret", "S", "00010000001000000000000001110011", (s) => {
    const user = get32(s.hart, "priv").eqz();
    s.f.if(user.or(trappedInS(s, MSTATUS.TSR).and(1)), () => s.illegal());
    s.f.call(supervisorReturn, s.hart);
    s.resume();
  }),
  row("wfi", "S", "00010000010100000000000001110011", (s) => {
    const user = get32(s.hart, "priv").eqz();
    s.f.if(user.or(trappedInS(s, MSTATUS.TW).and(1)), () => s.illegal());
    // A pending interrupt ends the wait even if it is globally disabled (3.3.3).
    s.f.if(pendingBits(s.hart).and(get32(s.hart, "mie")).eqz(), () => s.exit(EXIT.WFI, "next"));
    setEvent(s.f, s.hart, EVENT.RESYNC);
    s.checkEvent();
  }),
  row("sfence.vma", "S", "0001001 rs2 rs1 000 00000 1110011", (s) => {
    const { f, hart } = s;
    const user = get32(hart, "priv").eqz();
    f.if(user.or(trappedInS(s, MSTATUS.TVM).and(1)), () => s.illegal());
    const asid = f.let(s.field(20, 5).choose(s.rs2.wrap().and(0xffff), I32.of(ALL_SPACES)));
    f.if(
      s.field(15, 5),
      () => f.call(flushTlbPage, hart, s.rs1, asid),
      () => f.call(flushSpace, hart, asid),
    );
    setEvent(f, hart, EVENT.RESYNC);
    s.checkEvent();
  }),

  cacheBlock("cbo.inval", "000000000000", CBIE),
  cacheBlock("cbo.clean", "000000000001", CBCFE),
  cacheBlock("cbo.flush", "000000000010", CBCFE),
  row("cbo.zero", "Zicboz", "000000000100 rs1 010 00000 0001111", (s) => {
    requireEnvcfg(s, CBZE);
    const hva = s.guard(cacheBlockAddress.call(s.hart, s.rs1, ACCESS.STORE).extendU());
    s.f.fill(hva.wrap().and(-CACHE_BLOCK_SIZE), 0, CACHE_BLOCK_SIZE);
  }),
];
