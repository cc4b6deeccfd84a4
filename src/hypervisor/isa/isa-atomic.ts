// The A extension (unprivileged specification, chapter 14). AMOs are the host's atomics. LR records address
// and value, SC compares and swaps: a store of the same value in between goes unnoticed, which no conforming
// LR/SC sequence can detect. aq and rl are implied: the host's atomics are sequentially consistent. Zawrs
// (same specification): a hart is not notified of stores to its reservation set, so a wait is a `spin`: it
// ends the slice, with its poll of kick and interrupts; the program loops and waits again.
import { PRIV } from "../../riscv/privilege.ts";
import { I32, I64, type RmwOp } from "../../wasm/expr.ts";
import { fn, type Func } from "../../wasm/function.ts";
import { SCRATCH } from "../shared/hart-scratch.ts";
import { atomicAddress } from "../hart/mmu.ts";
import { type Row, row } from "./instruction-semantics.ts";
import { spin } from "./isa-system.ts";
import { get32, pendingBits, statusBit } from "../hart/hart-traps.ts";
import { MSTATUS } from "../../riscv/status.ts";
import { ACCESS } from "../hart/page-walk.ts";

type Width = 4 | 8;

const letter = (width: Width): string => (width === 4 ? "w" : "d");
const funct3 = (width: Width): string => (width === 4 ? "010" : "011");
const read = (hva: I32, width: Width): I64 =>
  width === 4 ? hva.atomicLoad32().extendS() : hva.atomicLoad64();

/**
 * The reservation: the address, with the width in its low bits, which are 0, so that SC.D fails after LR.W.
 */
const reservation = (va: I64, width: Width): I64 => va.or(width === 4 ? 1 : 2);

function loadReserved(width: Width): Row {
  const body = fn(`lr.${letter(width)}`, [I32, I64], I64, (f, hart, va) => {
    const hva = f.let(atomicAddress.call(hart, va, ACCESS.LOAD, width));
    f.if(hva.eqz(), () => f.return(I64.of(0)));
    const value = f.let(read(hva, width));
    f.store64(hart, reservation(va, width), SCRATCH.reservation);
    f.store64(hart, value, SCRATCH.reservedValue);
    f.store32(hart, hva, SCRATCH.reservedHost);
    return value;
  });
  return row(`lr.${letter(width)}`, "A", `00010 aq rl 00000 rs1 ${funct3(width)} rd 0101111`, (s) =>
    s.setRd(s.guard(body.call(s.hart, s.rs1))),
  );
}

function storeConditional(width: Width): Row {
  const body = fn(`sc.${letter(width)}`, [I32, I64, I64], I64, (f, hart, va, value) => {
    const held = f.let(hart.load64(SCRATCH.reservation).eq(reservation(va, width)));
    f.store64(hart, 0, SCRATCH.reservation);
    // Without a reservation SC fails before it can fault, as in QEMU; a misaligned address still traps.
    f.if(held.or(va.wrap().and(width - 1)).eqz(), () => f.return(I64.of(1)));
    const hva = f.let(atomicAddress.call(hart, va, ACCESS.STORE, width));
    f.if(hva.eqz(), () => f.return(I64.of(0)));
    const expected = hart.load64(SCRATCH.reservedValue);
    if (width === 8) f.return(hva.cmpxchg64(expected, value).ne(expected).extendU());
    else f.return(hva.cmpxchg32(expected.wrap(), value.wrap()).ne(expected.wrap()).extendU());
  });
  return row(`sc.${letter(width)}`, "A", `00011 aq rl rs2 rs1 ${funct3(width)} rd 0101111`, (s) =>
    s.setRd(s.guard(body.call(s.hart, s.rs1, s.rs2))),
  );
}

/** `modify` performs the operation at the aligned host address and returns the old value. */
function amo(
  name: string,
  funct5: string,
  width: Width,
  modify: (f: Func, hva: I32, value: I64) => I64,
): Row {
  const full = `${name}.${letter(width)}`;
  const body = fn(full, [I32, I64, I64], I64, (f, hart, va, value) => {
    const hva = f.let(atomicAddress.call(hart, va, ACCESS.STORE, width));
    f.if(hva.eqz(), () => f.return(I64.of(0)));
    return modify(f, hva, value);
  });
  return row(full, "A", `${funct5} aq rl rs2 rs1 ${funct3(width)} rd 0101111`, (s) =>
    s.setRd(s.guard(body.call(s.hart, s.rs1, s.rs2))),
  );
}

function rmw(op: RmwOp, name: string, funct5: string, width: Width): Row {
  return amo(name, funct5, width, (_f, hva, value) =>
    width === 4 ? hva.rmw32(op, value.wrap()).extendS() : hva.rmw64(op, value),
  );
}

/** Minimum and maximum: compare and swap until no other store intervenes. */
function pick(name: string, funct5: string, width: Width, keepsOld: (old: I64, value: I64) => I32): Row {
  return amo(name, funct5, width, (f, hva, value) => {
    // Sign extension of both operands preserves the unsigned order too.
    const operand = f.let(width === 4 ? value.extend32S() : value);
    const old = f.let(read(hva, width));
    f.loop((again) => {
      const next = f.let(keepsOld(old, operand).select<I64>(old, operand));
      const seen = f.let(
        width === 4 ? hva.cmpxchg32(old.wrap(), next.wrap()).extendS() : hva.cmpxchg64(old, next),
      );
      f.if(seen.ne(old), () => {
        old.set(seen);
        f.br(again);
      });
    });
    return old;
  });
}

/** Non-zero if a reservation exists, as far as values show. */
const isReserved = fn("isReserved", [I32], I32, (f, hart) => {
  const reserved = f.let(hart.load64(SCRATCH.reservation).wrap().and(3));
  f.if(reserved.eqz(), () => f.return(I32.of(0)));
  const hva = f.let(hart.load32(SCRATCH.reservedHost));
  const value = f.let(hart.load64(SCRATCH.reservedValue));
  f.if(reserved.eq(1), () => f.return(read(hva, 4).eq(value)));
  return read(hva, 8).eq(value);
});

/**
 * `trapsWaits`: below M-mode it is illegal to wait while mstatus.TW is set, because the time limit is 0. A
 * pending interrupt ends the wait (as for wfi), but not the spinning of a program that has disabled it.
 */
const waitOnReservation = (name: string, funct12: string, trapsWaits: boolean): Row =>
  row(name, "Zawrs", `${funct12} 00000 000 00000 1110011`, (s) => {
    const { f, hart } = s;
    f.if(isReserved.call(hart), () => {
      if (trapsWaits) {
        const isTrapped = get32(hart, "priv").ne(PRIV.M).and(statusBit(hart, MSTATUS.TW));
        const isAwake = pendingBits(hart).and(get32(hart, "mie"));
        f.if(isTrapped.and(isAwake.eqz()), () => s.illegal());
      }
      spin(s);
    });
  });

export const zawrsRows: readonly Row[] = [
  waitOnReservation("wrs.nto", "000000001101", true),
  waitOnReservation("wrs.sto", "000000011101", false),
];

export const atomicRows: readonly Row[] = ([4, 8] as const).flatMap((width) => [
  loadReserved(width),
  storeConditional(width),
  rmw("xchg", "amoswap", "00001", width),
  rmw("add", "amoadd", "00000", width),
  rmw("xor", "amoxor", "00100", width),
  rmw("and", "amoand", "01100", width),
  rmw("or", "amoor", "01000", width),
  pick("amomin", "10000", width, (old, value) => old.leS(value)),
  pick("amomax", "10100", width, (old, value) => old.geS(value)),
  pick("amominu", "11000", width, (old, value) => old.leU(value)),
  pick("amomaxu", "11100", width, (old, value) => old.geU(value)),
]);
