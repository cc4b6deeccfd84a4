// Control and status registers (privileged specification, chapters 2–4; unprivileged 6 and 7): one row each, with
// what may be read, what a write keeps, and what it sets off. Counters that count nothing read as 0, as do
// the trigger registers. Absent: mseccfg, debug, hypervisor (but two) and state-enable registers.
import { F64, I32, I64 } from "../../wasm/expr.ts";
import { fn, type Func, imported } from "../../wasm/function.ts";
import { CTL_KICK, CTL_LINES, VM_CLOCK_DELTA } from "../shared/memory-map.ts";
import { CONFIG_EXACT_TIMER, SCRATCH } from "../shared/hart-scratch.ts";
import { type HartField, hartLayout } from "../hart/hart-schema.ts";
import { PMP_ENTRIES } from "../hart/pmp.ts";
import { flushSpace, flushTlb, switchSpace } from "../hart/hart-tlb.ts";
import {
  EVENT,
  get,
  get32,
  INTERRUPT,
  MSTATUS,
  pendingBits,
  raiseIllegal,
  set,
  setEvent,
} from "../hart/hart-traps.ts";
import { ALL_SPACES } from "../hart/engine-interface.ts";

const hostTicks = imported("host", "hostTicks", [], F64);

/** A write: the new value, and the bits that this instruction sets and clears (for bits that others write too). */
interface Write {
  readonly value: I64;
  readonly set: I64;
  readonly clear: I64;
}

export interface CsrRow {
  readonly name: string;
  readonly number: number;
  read(f: Func, hart: I32): I64;
  /** Without it writes are ignored (or illegal, by the number). */
  write?(f: Func, hart: I32, write: Write): void;
  /** Beyond the privilege that the number says: non-zero if the access is legal now. */
  legal?(hart: I32): I32;
}

const bit = (n: number): bigint => 1n << BigInt(n);
const bits = (...ns: readonly number[]): bigint => ns.reduce((sum, n) => sum | bit(n), 0n);

const SSTATUS_MASK =
  bits(MSTATUS.SIE, MSTATUS.SPIE, MSTATUS.SPP, MSTATUS.SUM, MSTATUS.MXR) | (3n << BigInt(MSTATUS.FS));
const MSTATUS_MASK =
  SSTATUS_MASK | bits(MSTATUS.MIE, MSTATUS.MPIE, MSTATUS.MPRV, MSTATUS.TVM, MSTATUS.TW, MSTATUS.TSR);
const MPP_MASK = 3n << BigInt(MSTATUS.MPP);
const UXL_64 = 2n << 32n;
const SXL_64 = 2n << 34n;

const SUPERVISOR_INTERRUPTS = bits(INTERRUPT.SSI, INTERRUPT.STI, INTERRUPT.SEI);
const INTERRUPTS = SUPERVISOR_INTERRUPTS | bits(INTERRUPT.MSI, INTERRUPT.MTI, INTERRUPT.MEI);
/** Every exception that has a number here, but environment call from M. */
const DELEGABLE = 0xb3ffn;

const MENVCFG_STCE = bit(63);
/** FIOM, CBIE, CBCFE, CBZE. */
const SENVCFG_MASK = 0xf1n;
const MENVCFG_MASK = SENVCFG_MASK | MENVCFG_STCE;

const letters = (text: string): bigint => [...text].reduce((sum, c) => sum | bit(c.charCodeAt(0) - 65), 0n);
const MISA = (2n << 62n) | letters("ACDFIMSU");

/** A field as it is; `mask` says which bits a write may change. */
function plain(name: string, number: number, field: HartField, mask = -1n): CsrRow {
  return {
    name,
    number,
    read: (_f, hart) => get(hart, field),
    write: (f, hart, { value }) => set(f, hart, field, mask === -1n ? value : value.and(mask)),
  };
}

const constant = (name: string, number: number, value: bigint): CsrRow => ({
  name,
  number,
  read: () => I64.of(value),
});

const resync = (f: Func, hart: I32): void => setEvent(f, hart, EVENT.RESYNC);

/** Adds SD, which says that FS is dirty. */
const withDirtySummary = (status: I64): I64 =>
  status.or(
    status
      .and(3n << BigInt(MSTATUS.FS))
      .eq(3n << BigInt(MSTATUS.FS))
      .extendU()
      .shl(63),
  );

/** Write mstatus fields under a mask; a changed MXR changes what cached translations allow. */
const writeStatus = fn("writeStatus", [I32, I64, I64], undefined, (f, hart, value, mask) => {
  const old = f.let(get(hart, "mstatus"));
  // MPP keeps its value if the level does not exist (WARL).
  f.if(value.and(MPP_MASK).eq(2n << BigInt(MSTATUS.MPP)), () => mask.set(mask.and(~MPP_MASK)));
  const next = f.let(old.and(mask.not()).or(value.and(mask)));
  set(f, hart, "mstatus", next);
  f.if(old.xor(next).and(bit(MSTATUS.MXR)).ne(0), () => f.call(flushSpace, hart, ALL_SPACES));
  resync(f, hart);
});

/** Guest time in ticks (mtime). */
export const readTime = fn("readTime", [], I64, () =>
  hostTicks.call().toI64S().add(I32.of(VM_CLOCK_DELTA).atomicLoad64()),
);

/** Make the Sstc timer line agree with stimecmp (Sstc, 2.1). */
const updateTimerLine = fn("updateTimerLine", [I32], undefined, (f, hart) => {
  f.if(hart.load32(SCRATCH.config).and(CONFIG_EXACT_TIMER), () => f.atomicStore32(hart, 1, CTL_KICK));
  const line = 1 << INTERRUPT.STI;
  f.if(get(hart, "menvcfg").ltS(0), () =>
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

function tvec(name: string, number: number, field: HartField): CsrRow {
  return {
    ...plain(name, number, field),
    // Modes above 1 are reserved: the write is ignored.
    write: (f, hart, { value }) => f.if(value.wrap().and(2).eqz(), () => set(f, hart, field, value)),
  };
}

const usesFloat = (hart: I32): I32 => get32(hart, "mstatus").and(3 << MSTATUS.FS);
function dirtyFloat(f: Func, hart: I32): void {
  set(f, hart, "mstatus", get(hart, "mstatus").or(3n << BigInt(MSTATUS.FS)));
}

/** mcounteren lets S read, mcounteren and scounteren together U (3.1.11, 4.1.5). */
const counterEnabled = fn("counterEnabled", [I32, I32], I32, (f, hart, index) => {
  const priv = f.let(get32(hart, "priv"));
  f.if(priv.eq(3), () => f.return(I32.of(1)));
  const enabled = get32(hart, "mcounteren").and(priv.choose(I32.of(-1), get32(hart, "scounteren")));
  return enabled.shrU(index).and(1);
});
function counter(name: string, number: number, read: CsrRow["read"]): CsrRow {
  return { name, number, read, legal: (hart) => counterEnabled.call(hart, number & 31) };
}

/** The instruction that writes a counter is not counted by it (3.1.10), but will be: write one less. */
function countingRow(name: string, number: number, field: HartField, inhibitBit: number): CsrRow {
  return {
    ...plain(name, number, field),
    write: (f, hart, { value }) =>
      set(f, hart, field, value.sub(get(hart, "mcountinhibit").shrU(inhibitBit).and(1).xor(1))),
  };
}

/** TVM makes satp (and sfence.vma) illegal in S-mode. */
const notTrappedByTvm = (hart: I32): I32 =>
  get32(hart, "priv").eq(1).and(get32(hart, "mstatus").shrU(MSTATUS.TVM)).eqz();

const writeSatp = fn("writeSatp", [I32, I64], undefined, (f, hart, value) => {
  const mode = f.let(value.shrU(60));
  f.if(mode.eqz().or(mode.sub(8).ltU(3)).eqz(), () => f.return());
  f.call(switchSpace, hart, value);
  resync(f, hart);
});

/** One pmpcfg register is eight entries; locked ones keep their value, W without R is reserved (3.7.1). */
const writePmpcfg = fn("writePmpcfg", [I32, I32, I64], undefined, (f, hart, first, value) => {
  const i = f.let(I32.of(0));
  f.loop((again) => {
    const entry = f.let(hart.add(first).add(i));
    const at = hartLayout.offsetOf("pmpcfg");
    const cfg = f.let(value.shrU(i.shl(3).extendU()).wrap().and(0x9f));
    f.if(entry.load8U(at).and(0x80).or(cfg.and(3).eq(2)).eqz(), () => f.store8(entry, cfg, at));
    i.set(i.add(1));
    f.brIf(again, i.ltU(8));
  });
  f.call(flushTlb, hart);
  resync(f, hart);
});

/** An address is locked with its entry, or with the next one if that is a locked TOR. */
const writePmpaddr = fn("writePmpaddr", [I32, I32, I64], undefined, (f, hart, index, value) => {
  const cfgAt = hartLayout.offsetOf("pmpcfg");
  const cfg = hart.add(index);
  const nextLocked = index.eq(PMP_ENTRIES - 1).choose(
    I32.of(0),
    cfg
      .load8U(cfgAt + 1)
      .and(0x98)
      .eq(0x88),
  );
  f.if(cfg.load8U(cfgAt).and(0x80).or(nextLocked), () => f.return());
  f.store64(hart.add(index.shl(3)), value.and((1n << 54n) - 1n), hartLayout.offsetOf("pmpaddr"));
  f.call(flushTlb, hart);
  resync(f, hart);
});

const range = <T>(n: number, row: (i: number) => T): T[] => Array.from({ length: n }, (_, i) => row(i));

const floatRows: readonly CsrRow[] = [
  {
    name: "fflags",
    number: 0x001,
    read: (_f, hart) => get(hart, "fflags"),
    write: (f, hart, { value }) => {
      set(f, hart, "fflags", value.and(31));
      dirtyFloat(f, hart);
    },
    legal: usesFloat,
  },
  {
    name: "frm",
    number: 0x002,
    read: (_f, hart) => get(hart, "frm"),
    write: (f, hart, { value }) => {
      set(f, hart, "frm", value.and(7));
      dirtyFloat(f, hart);
    },
    legal: usesFloat,
  },
  {
    name: "fcsr",
    number: 0x003,
    read: (_f, hart) => get(hart, "frm").shl(5).or(get(hart, "fflags")),
    write: (f, hart, { value }) => {
      set(f, hart, "fflags", value.and(31));
      set(f, hart, "frm", value.shrU(5).and(7));
      dirtyFloat(f, hart);
    },
    legal: usesFloat,
  },
];

const counterRows: readonly CsrRow[] = [
  counter("cycle", 0xc00, (_f, hart) => get(hart, "mcycle")),
  counter("time", 0xc01, () => readTime.call()),
  counter("instret", 0xc02, (_f, hart) => get(hart, "minstret")),
  ...range(29, (i) => counter(`hpmcounter${i + 3}`, 0xc03 + i, () => I64.of(0))),
  countingRow("mcycle", 0xb00, "mcycle", 0),
  countingRow("minstret", 0xb02, "minstret", 2),
  ...range(29, (i) => constant(`mhpmcounter${i + 3}`, 0xb03 + i, 0n)),
  ...range(29, (i) => constant(`mhpmevent${i + 3}`, 0x323 + i, 0n)),
  // Only cycle and instret can be held; time has no bit.
  plain("mcountinhibit", 0x320, "mcountinhibit", 0b101n),
  plain("mcounteren", 0x306, "mcounteren", 0xffffffffn),
  plain("scounteren", 0x106, "scounteren", 0xffffffffn),
];

const supervisorRows: readonly CsrRow[] = [
  {
    name: "sstatus",
    number: 0x100,
    read: (_f, hart) => withDirtySummary(get(hart, "mstatus").and(SSTATUS_MASK).or(UXL_64)),
    write: (f, hart, { value }) => f.call(writeStatus, hart, value, SSTATUS_MASK),
  },
  {
    name: "sie",
    number: 0x104,
    read: (_f, hart) => get(hart, "mie").and(get(hart, "mideleg")),
    write: (f, hart, { value }) => {
      const mask = f.let(get(hart, "mideleg"));
      set(f, hart, "mie", get(hart, "mie").and(mask.not()).or(value.and(mask)));
      resync(f, hart);
    },
  },
  tvec("stvec", 0x105, "stvec"),
  plain("senvcfg", 0x10a, "senvcfg", SENVCFG_MASK),
  plain("sscratch", 0x140, "sscratch"),
  plain("sepc", 0x141, "sepc", ~1n),
  plain("scause", 0x142, "scause"),
  plain("stval", 0x143, "stval"),
  {
    name: "sip",
    number: 0x144,
    read: (_f, hart) => pendingBits(hart).extendU().and(get(hart, "mideleg")),
    write: (f, hart, write) => writePending(f, hart, write, get(hart, "mideleg").and(bit(INTERRUPT.SSI))),
  },
  {
    name: "stimecmp",
    number: 0x14d,
    read: (_f, hart) => get(hart, "stimecmp"),
    write: (f, hart, { value }) => {
      set(f, hart, "stimecmp", value);
      f.call(updateTimerLine, hart);
    },
    // S needs STCE and mcounteren.TM (Sstc, 2.2).
    legal: (hart) =>
      get32(hart, "priv")
        .eq(3)
        .or(get(hart, "menvcfg").ltS(0).and(get32(hart, "mcounteren").shrU(1).and(1))),
  },
  {
    name: "satp",
    number: 0x180,
    read: (_f, hart) => get(hart, "satp"),
    write: (f, hart, { value }) => f.call(writeSatp, hart, value),
    legal: notTrappedByTvm,
  },
];

const machineRows: readonly CsrRow[] = [
  constant("mvendorid", 0xf11, 0n),
  constant("marchid", 0xf12, 0n),
  constant("mimpid", 0xf13, 0n),
  { name: "mhartid", number: 0xf14, read: (_f, hart) => get(hart, "mhartid") },
  constant("mconfigptr", 0xf15, 0n),
  {
    name: "mstatus",
    number: 0x300,
    read: (_f, hart) =>
      withDirtySummary(
        get(hart, "mstatus")
          .and(MSTATUS_MASK | MPP_MASK)
          .or(UXL_64 | SXL_64),
      ),
    write: (f, hart, { value }) => f.call(writeStatus, hart, value, MSTATUS_MASK | MPP_MASK),
  },
  constant("misa", 0x301, MISA),
  plain("medeleg", 0x302, "medeleg", DELEGABLE),
  {
    ...plain("mideleg", 0x303, "mideleg"),
    write: (f, hart, { value }) => {
      set(f, hart, "mideleg", value.and(SUPERVISOR_INTERRUPTS));
      resync(f, hart);
    },
  },
  {
    name: "mie",
    number: 0x304,
    read: (_f, hart) => get(hart, "mie"),
    write: (f, hart, { value }) => {
      set(f, hart, "mie", value.and(INTERRUPTS));
      resync(f, hart);
    },
  },
  tvec("mtvec", 0x305, "mtvec"),
  {
    name: "menvcfg",
    number: 0x30a,
    read: (_f, hart) => get(hart, "menvcfg"),
    write: (f, hart, { value }) => {
      set(f, hart, "menvcfg", value.and(MENVCFG_MASK));
      f.call(updateTimerLine, hart);
    },
  },
  plain("mscratch", 0x340, "mscratch"),
  plain("mepc", 0x341, "mepc", ~1n),
  plain("mcause", 0x342, "mcause"),
  plain("mtval", 0x343, "mtval"),
  {
    name: "mip",
    number: 0x344,
    read: (_f, hart) => pendingBits(hart).extendU(),
    write: (f, hart, write) => {
      // STIP is the timer's while Sstc is on.
      const sstc = get(hart, "menvcfg").ltS(0);
      const mask = sstc.select(I64.of(bits(INTERRUPT.SSI, INTERRUPT.SEI)), I64.of(SUPERVISOR_INTERRUPTS));
      writePending(f, hart, write, mask);
    },
  },
  ...range(2, (i): CsrRow => {
    const at = hartLayout.offsetOf("pmpcfg") + i * 8;
    return {
      name: `pmpcfg${i * 2}`,
      number: 0x3a0 + i * 2,
      read: (_f, hart) => hart.load64(at),
      write: (f, hart, { value }) => f.call(writePmpcfg, hart, i * 8, value),
    };
  }),
  ...range(PMP_ENTRIES, (i): CsrRow => {
    const at = hartLayout.offsetOf("pmpaddr") + i * 8;
    return {
      name: `pmpaddr${i}`,
      number: 0x3b0 + i,
      read: (_f, hart) => hart.load64(at),
      write: (f, hart, { value }) => f.call(writePmpaddr, hart, i, value),
    };
  }),
  // H's, without H: firmware that has started on QEMU's harts reads them at each trap, wherever it is by then.
  constant("mtinst", 0x34a, 0n),
  constant("mtval2", 0x34b, 0n),
  ...["tselect", "tdata1", "tdata2", "tdata3", "tinfo"].map((name, i) => constant(name, 0x7a0 + i, 0n)),
];

export const csrRows: readonly CsrRow[] = [...floatRows, ...counterRows, ...supervisorRows, ...machineRows];

export const csrName = (number: number): string =>
  csrRows.find((row) => row.number === number)?.name ?? `0x${number.toString(16)}`;

/** A br_table over the 4096 numbers. */
function byNumber(f: Func, number: I32, body: (row: CsrRow) => void, absent: () => void): void {
  const targets = new Array<number>(4096).fill(csrRows.length);
  csrRows.forEach((row, i) => {
    targets[row.number] = i;
  });
  f.switch(
    number,
    csrRows.map((row) => () => body(row)),
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
    (row) => {
      const legal = row.legal?.(hart);
      if (legal !== undefined) f.if(legal.eqz(), illegal);
      f.return(row.read(f, hart));
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
      (row) => row.write?.(f, hart, { value, set: setBits, clear }),
      () => {},
    );
  },
);

/**
 * csrrw, csrrs, csrrc and their immediate forms: (hart, instruction word, operand) → the old value.
 * Illegal accesses raise; counters must be up to date.
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
