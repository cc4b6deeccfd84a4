// Side effects of accesses to control and status registers (privileged specification, chapters 2–4;
// unprivileged 6 and 7), as WebAssembly functions. Numbers, fields and masks are rows of
// src/riscv/registers.ts; this file has what an access does beyond them, by the row's name. Absent: mseccfg,
// debug, hypervisor (except two) and state-enable registers.
import { ALL_ONES } from "../../base/uint64.ts";
import { bit } from "../../riscv/bits.ts";
import { INTERRUPT, MIP } from "../../riscv/causes.ts";
import { COUNTER, ENVCFG, MENVCFG_ADUE } from "../../riscv/envcfg.ts";
import { isHartField } from "../../riscv/hart-state.ts";
import {
  PMP,
  PMP_ENTRIES,
  PMP_MODE,
  PMPADDR_WRITABLE,
  PMPCFG_WRITABLE,
  SATP,
  SATP_MODE,
} from "../../riscv/paging.ts";
import { PRIV } from "../../riscv/privilege.ts";
import type { Register } from "../../riscv/register-row.ts";
import { type Csr, CSRS, REGISTERS, type RegisterName } from "../../riscv/registers.ts";
import {
  MSTATUS,
  MSTATUS_FIXED,
  MSTATUS_FS,
  MSTATUS_MPP,
  MSTATUS_WRITABLE,
  SSTATUS_FIXED,
  SSTATUS_WRITABLE,
} from "../../riscv/status.ts";
import { F64, I32, I64 } from "../../wasm/expr.ts";
import { fn, type Func, imported } from "../../wasm/function.ts";
import { ALL_SPACES } from "../hart/engine-interface.ts";
import { hartLayout } from "../hart/hart-layout.ts";
import { flushSpace, flushTlb, switchSpace } from "../hart/hart-tlb.ts";
import { EVENT, get, get32, pendingBits, raiseIllegal, set, setEvent } from "../hart/hart-traps.ts";
import { CONFIG_EXACT_TIMER, SCRATCH } from "../shared/hart-scratch.ts";
import { CTL_KICK, CTL_LINES, VM_CLOCK_DELTA } from "../shared/memory-map.ts";

const hostTicks = imported("env", "hostTicks", [], F64);

/**
 * A write: the new value, and the bits that this instruction sets and clears (for bits that have other
 * writers too).
 */
interface Write {
  readonly value: I64;
  readonly set: I64;
  readonly clear: I64;
}

interface Behaviour {
  /** Default: the field, or the constant, of the row. */
  read?(f: Func, hart: I32, csr: Csr): I64;
  /**
   * Default: the writable bits are written to the field. A register without any ignores writes (or they are
   * illegal, by its number).
   */
  write?(f: Func, hart: I32, write: Write, csr: Csr): void;
  /** After the default write. */
  written?(f: Func, hart: I32): void;
  /** In addition to the privilege that the number encodes: non-zero if the access is legal now. */
  legal?(hart: I32, csr: Csr): I32;
}

const resync = (f: Func, hart: I32): void => setEvent(f, hart, EVENT.RESYNC);

/** Adds SD, which summarises that FS is dirty. */
const withDirtySummary = (status: I64): I64 =>
  status.or(status.and(MSTATUS_FS).eq(MSTATUS_FS).extendU().shl(MSTATUS.SD));

/** Write mstatus fields under a mask; a change of MXR changes the permissions of cached translations. */
const writeStatus = fn("writeStatus", [I32, I64, I64], undefined, (f, hart, value, mask) => {
  const old = f.let(get(hart, "mstatus"));
  // MPP keeps its value if the mode does not exist (WARL).
  f.if(value.and(MSTATUS_MPP).eq(2n << BigInt(MSTATUS.MPP)), () => mask.set(mask.and(~MSTATUS_MPP)));
  const next = f.let(old.and(mask.not()).or(value.and(mask)));
  set(f, hart, "mstatus", next);
  f.if(old.xor(next).and(bit(MSTATUS.MXR)).ne(0), () => f.call(flushSpace, hart, ALL_SPACES));
  resync(f, hart);
});

/** Guest time in ticks (mtime). */
export const readTime = fn("readTime", [], I64, () =>
  hostTicks.call().toI64S().add(I32.of(VM_CLOCK_DELTA).atomicLoad64()),
);

/** menvcfg.STCE is its top bit. */
const hasSstc = (hart: I32): I32 => get(hart, "menvcfg").ltS(0);

/** Set the Sstc timer line according to stimecmp (Sstc, 2.1). */
const updateTimerLine = fn("updateTimerLine", [I32], undefined, (f, hart) => {
  f.if(hart.load32(SCRATCH.config).and(CONFIG_EXACT_TIMER), () => f.atomicStore32(hart, 1, CTL_KICK));
  const line = 1 << INTERRUPT.STI;
  f.if(hasSstc(hart), () =>
    f.if(
      readTime.call().geU(get(hart, "stimecmp")),
      () => f.drop(hart.rmw32("or", line, CTL_LINES)),
      () => f.drop(hart.rmw32("and", ~line, CTL_LINES)),
    ),
  );
  resync(f, hart);
});

/** mip and sip change bit by bit: other harts and devices set bits of the same word. */
function writePending(f: Func, hart: I32, write: Write, mask: I64): void {
  const at = hartLayout.offsetOf("mip");
  f.drop(hart.rmw32("or", write.set.and(mask).wrap(), at));
  f.drop(hart.rmw32("and", write.clear.and(mask).wrap().xor(-1), at));
  resync(f, hart);
}

/** stvec and mtvec. Modes above 1 are reserved: the write is ignored. */
const vector = (name: "stvec" | "mtvec"): Behaviour => ({
  write: (f, hart, { value }) => f.if(value.wrap().and(2).eqz(), () => set(f, hart, name, value)),
});

const usesFloat = (hart: I32): I32 => get32(hart, "mstatus").and(Number(MSTATUS_FS));
function dirtyFloat(f: Func, hart: I32): void {
  set(f, hart, "mstatus", get(hart, "mstatus").or(MSTATUS_FS));
}

/** mcounteren enables reads in S-mode, mcounteren and scounteren together in U-mode (3.1.11, 4.1.5). */
const counterEnabled = fn("counterEnabled", [I32, I32], I32, (f, hart, index) => {
  const priv = f.let(get32(hart, "priv"));
  f.if(priv.eq(PRIV.M), () => f.return(I32.of(1)));
  const enabled = get32(hart, "mcounteren").and(priv.choose(I32.of(-1), get32(hart, "scounteren")));
  return enabled.shrU(index).and(1);
});
const counter = (read?: (hart: I32) => I64): Behaviour => ({
  ...(read === undefined ? {} : { read: (_f: Func, hart: I32) => read(hart) }),
  legal: (hart, { number }) => counterEnabled.call(hart, number & 31),
});

/** A counter does not count the instruction that writes it (3.1.10), but the engine will: write one less. */
const counting = (name: "mcycle" | "minstret", inhibitBit: number): Behaviour => ({
  write: (f, hart, { value }) =>
    set(f, hart, name, value.sub(get(hart, "mcountinhibit").shrU(inhibitBit).and(1).xor(1))),
});

/** TVM makes satp (and sfence.vma) illegal in S-mode. */
const notTrappedByTvm = (hart: I32): I32 =>
  get32(hart, "priv").eq(PRIV.S).and(get32(hart, "mstatus").shrU(MSTATUS.TVM)).eqz();

const writeSatp = fn("writeSatp", [I32, I64], undefined, (f, hart, value) => {
  const mode = f.let(value.shrU(SATP.MODE));
  const translates = mode.sub(SATP_MODE.SV39).ltU(SATP_MODE.SV57 - SATP_MODE.SV39 + 1);
  f.if(mode.eqz().or(translates).eqz(), () => f.return());
  f.call(switchSpace, hart, value);
  resync(f, hart);
});

/** One pmpcfg register has eight entries; locked ones keep their value, W without R is reserved (3.7.1). */
const writePmpcfg = fn("writePmpcfg", [I32, I32, I64], undefined, (f, hart, first, value) => {
  const i = f.let(I32.of(0));
  f.loop((again) => {
    const entry = f.let(hart.add(first).add(i));
    const at = hartLayout.offsetOf("pmpcfg");
    const cfg = f.let(value.shrU(i.shl(3).extendU()).wrap().and(PMPCFG_WRITABLE));
    const reserved = cfg.and(PMP.R | PMP.W).eq(PMP.W);
    f.if(entry.load8U(at).and(PMP.LOCKED).or(reserved).eqz(), () => f.store8(entry, cfg, at));
    i.set(i.add(1));
    f.brIf(again, i.ltU(8));
  });
  f.call(flushTlb, hart);
  resync(f, hart);
});

/** An address is locked by its entry, or by the next one if that is a locked TOR. */
const writePmpaddr = fn("writePmpaddr", [I32, I32, I64], undefined, (f, hart, index, value) => {
  const cfgAt = hartLayout.offsetOf("pmpcfg");
  const cfg = hart.add(index);
  const mode = PMP_MODE.NAPOT << PMP.MODE;
  const nextLocked = index.eq(PMP_ENTRIES - 1).choose(
    I32.of(0),
    cfg
      .load8U(cfgAt + 1)
      .and(PMP.LOCKED | mode)
      .eq(PMP.LOCKED | (PMP_MODE.TOR << PMP.MODE)),
  );
  f.if(cfg.load8U(cfgAt).and(PMP.LOCKED).or(nextLocked), () => f.return());
  f.store64(hart.add(index.shl(3)), value.and(PMPADDR_WRITABLE), hartLayout.offsetOf("pmpaddr"));
  f.call(flushTlb, hart);
  resync(f, hart);
});

/** CSRs whose value is neither a field nor a constant. */
type View = {
  [K in RegisterName]: (typeof REGISTERS)[K] extends { readonly csr: number }
    ? (typeof REGISTERS)[K] extends { readonly field: unknown } | { readonly constant: bigint }
      ? never
      : K
    : never;
}[RegisterName];
type Behaviours = { readonly [K in View]: Behaviour & Required<Pick<Behaviour, "read">> } & {
  readonly [K in RegisterName]?: Behaviour;
};

const BEHAVIOUR: Behaviours = {
  fflags: { written: dirtyFloat, legal: usesFloat },
  frm: { written: dirtyFloat, legal: usesFloat },
  fcsr: {
    read: (_f, hart) => get(hart, "frm").shl(5).or(get(hart, "fflags")),
    write: (f, hart, { value }) => {
      set(f, hart, "fflags", value.and(REGISTERS.fflags.writable));
      set(f, hart, "frm", value.shrU(5).and(REGISTERS.frm.writable));
      dirtyFloat(f, hart);
    },
    legal: usesFloat,
  },

  cycle: { ...counter(), read: (_f, hart) => get(hart, "mcycle") },
  time: { ...counter(), read: () => readTime.call() },
  instret: { ...counter(), read: (_f, hart) => get(hart, "minstret") },
  hpmcounter: counter(),
  mcycle: counting("mcycle", COUNTER.CY),
  minstret: counting("minstret", COUNTER.IR),

  sstatus: {
    read: (_f, hart) => withDirtySummary(get(hart, "mstatus").and(SSTATUS_WRITABLE).or(SSTATUS_FIXED)),
    write: (f, hart, { value }) => f.call(writeStatus, hart, value, SSTATUS_WRITABLE),
  },
  sie: {
    read: (_f, hart) => get(hart, "mie").and(get(hart, "mideleg")),
    write: (f, hart, { value }) => {
      const mask = f.let(get(hart, "mideleg"));
      set(f, hart, "mie", get(hart, "mie").and(mask.not()).or(value.and(mask)));
      resync(f, hart);
    },
  },
  sip: {
    read: (_f, hart) => pendingBits(hart).extendU().and(get(hart, "mideleg")),
    write: (f, hart, write) => writePending(f, hart, write, get(hart, "mideleg").and(REGISTERS.sip.writable)),
  },
  stvec: vector("stvec"),
  // S-mode needs STCE and mcounteren.TM (Sstc, 2.2).
  stimecmp: {
    written: (f, hart) => f.call(updateTimerLine, hart),
    legal: (hart) =>
      get32(hart, "priv")
        .eq(PRIV.M)
        .or(hasSstc(hart).and(get32(hart, "mcounteren").shrU(COUNTER.TM).and(1))),
  },
  satp: { write: (f, hart, { value }) => f.call(writeSatp, hart, value), legal: notTrappedByTvm },

  mstatus: {
    read: (_f, hart) => withDirtySummary(get(hart, "mstatus").and(MSTATUS_WRITABLE).or(MSTATUS_FIXED)),
    write: (f, hart, { value }) => f.call(writeStatus, hart, value, MSTATUS_WRITABLE),
  },
  mideleg: { written: resync },
  mie: { written: resync },
  mtvec: vector("mtvec"),
  menvcfg: {
    read: (_f, hart) => get(hart, "menvcfg").or(get32(hart, "svade").eqz().extendU().shl(ENVCFG.ADUE)),
    write: (f, hart, { value }) => {
      set(f, hart, "menvcfg", value.and(REGISTERS.menvcfg.writable));
      set(f, hart, "svade", value.and(MENVCFG_ADUE).eq(0).extendU());
      f.call(updateTimerLine, hart);
    },
  },
  mip: {
    read: (_f, hart) => pendingBits(hart).extendU(),
    write: (f, hart, write) => {
      // STIP is controlled by the timer while Sstc is on.
      const { writable } = REGISTERS.mip;
      writePending(f, hart, write, hasSstc(hart).select(I64.of(writable & ~MIP.STIP), I64.of(writable)));
    },
  },
  pmpcfg: {
    read: (_f, hart, { index }) => hart.load64(hartLayout.offsetOf("pmpcfg") + index * 8),
    write: (f, hart, { value }, { index }) => f.call(writePmpcfg, hart, index * 8, value),
  },
  pmpaddr: {
    read: (_f, hart, { index }) => hart.load64(hartLayout.offsetOf("pmpaddr") + index * 8),
    write: (f, hart, { value }, { index }) => f.call(writePmpaddr, hart, index, value),
  },
};

function read(f: Func, hart: I32, csr: Csr): I64 {
  const { register } = csr;
  const special = BEHAVIOUR[register]?.read;
  if (special !== undefined) return special(f, hart, csr);
  const { constant = 0n }: Register = REGISTERS[register];
  return isHartField(register) ? get(hart, register) : I64.of(constant);
}

function write(f: Func, hart: I32, value: Write, csr: Csr): void {
  const { register } = csr;
  const behaviour = BEHAVIOUR[register];
  if (behaviour?.write !== undefined) return behaviour.write(f, hart, value, csr);
  const { writable }: Register = REGISTERS[register];
  if (writable === undefined || !isHartField(register)) return;
  set(f, hart, register, writable === ALL_ONES ? value.value : value.value.and(writable));
  behaviour?.written?.(f, hart);
}

/** A br_table over the 4096 numbers. */
function byNumber(f: Func, number: I32, body: (csr: Csr) => void, absent: () => void): void {
  const targets = new Array<number>(4096).fill(CSRS.length);
  CSRS.forEach((csr, i) => {
    targets[csr.number] = i;
  });
  f.switch(
    number,
    CSRS.map((csr) => () => body(csr)),
    absent,
    targets,
  );
}

const legalAndRead = fn("readCsr", [I32, I32, I32], I64, (f, hart, number, word) => {
  const illegal = (): void => {
    f.call(raiseIllegal, hart, word);
    f.return(I64.of(0));
  };
  byNumber(
    f,
    number,
    (csr) => {
      const legal = BEHAVIOUR[csr.register]?.legal?.(hart, csr);
      if (legal !== undefined) f.if(legal.eqz(), illegal);
      f.return(read(f, hart, csr));
    },
    illegal,
  );
});

const writeCsr = fn(
  "writeCsr",
  [I32, I32, I64, I64, I64],
  undefined,
  (f, hart, number, value, setBits, clear) => {
    byNumber(
      f,
      number,
      (csr) => write(f, hart, { value, set: setBits, clear }, csr),
      () => {},
    );
  },
);

/**
 * csrrw, csrrs, csrrc and their immediate forms: (hart, instruction word, operand) → the old value. Illegal
 * accesses raise an exception; counters must be up to date.
 */
export const csrAccess = fn("csrAccess", [I32, I32, I64], I64, (f, hart, word, operand) => {
  const number = f.let(word.shrU(20));
  const op = f.let(word.shrU(12).and(3));
  // Set and clear with rs1 = x0 (or a zero immediate) do not write.
  const writes = f.let(op.eq(1).or(word.and(0xf8000).ne(0)));
  const readOnly = number.shrU(10).eq(3);
  f.if(number.shrU(8).and(3).gtU(get32(hart, "priv")).or(writes.and(readOnly)), () => {
    f.call(raiseIllegal, hart, word);
    f.return(I64.of(0));
  });
  const old = f.let(legalAndRead.call(hart, number, word));
  f.if(writes.and(hart.load32(SCRATCH.event).ne(EVENT.TRAPPED)), () => {
    const isClear = f.let(op.eq(3));
    const setBits = f.let(isClear.select(I64.of(0), operand));
    const clear = f.let(isClear.select<I64>(operand, op.eq(1).select(operand.not(), I64.of(0))));
    f.call(writeCsr, hart, number, old.and(clear.not()).or(setBits), setBits, clear);
  });
  return old;
});
