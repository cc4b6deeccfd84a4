// Traps, trap returns and interrupts (privileged specification, 3.1.6–3.1.9, 3.3, 4.1), as WebAssembly
// functions. They work on the hart's state in memory: pc must be stored before `raise` is called.
import { bit } from "../../riscv/bits.ts";
import { CAUSE, CAUSE_INTERRUPT, INTERRUPT } from "../../riscv/causes.ts";
import { PRIV } from "../../riscv/privilege.ts";
import { MSTATUS, MSTATUS_MPP } from "../../riscv/status.ts";
import { I32, I64 } from "../../wasm/expr.ts";
import { fn, type Func } from "../../wasm/function.ts";
import { CTL_LINES } from "../shared/memory-map.ts";
import type { HartField } from "../../riscv/hart-state.ts";
import { hartLayout } from "./hart-layout.ts";
import { SCRATCH } from "../shared/hart-scratch.ts";

/** SCRATCH.event: what the interpreter must do after a slow path. */
export const EVENT = {
  NONE: 0,
  /** The trap has been taken, pc is the handler's: do not complete the instruction. */
  TRAPPED: 1,
  /** Complete the instruction, then check kick, interrupts and address translation again. */
  RESYNC: 2,
  /** Nothing has been done: the address is a device's, and the interpreter must execute the instruction. */
  DEVICE: 3,
} as const;

// Access to the hart's state from generated code.
export const get = (hart: I32, field: HartField): I64 => hart.load64(hartLayout.offsetOf(field));
export const get32 = (hart: I32, field: HartField): I32 => hart.load32(hartLayout.offsetOf(field));
export function set(f: Func, hart: I32, field: HartField, value: I64 | number | bigint): void {
  f.store64(hart, value, hartLayout.offsetOf(field));
}
export function set32(f: Func, hart: I32, field: HartField, value: I32 | number): void {
  f.store32(hart, value, hartLayout.offsetOf(field));
}
export function setEvent(f: Func, hart: I32, event: number): void {
  f.store32(hart, event, SCRATCH.event);
}
/** One bit of mstatus, 0 or 1. */
export const statusBit = (hart: I32, bit: number): I32 => get32(hart, "mstatus").shrU(bit).and(1);

/** Field `from` (`width` bits) moved to `to`, all other bits 0. */
const moved = (status: I64, from: number, to: number, width: bigint): I64 =>
  status.shrU(from).and(width).shl(to);

/** Handler address: the base, or for interrupts in vectored mode base + 4 × cause (3.1.7). */
const vector = (tvec: I64, cause: I64): I64 =>
  tvec.and(~3n).add(tvec.and(1).and(cause.shrU(63)).mul(cause.shl(2)));

/** Take a trap: `cause` has bit 63 set for an interrupt; pc is the address of the trapped instruction. */
export const raise = fn("raise", [I32, I64, I64], undefined, (f, hart, cause, tval) => {
  const priv = f.let(get32(hart, "priv"));
  const status = f.let(get(hart, "mstatus"));
  const delegated = f.let(cause.ltS(0).select(get(hart, "mideleg"), get(hart, "medeleg")).shrU(cause).and(1));
  f.store64(hart, 0, SCRATCH.reservation);
  setEvent(f, hart, EVENT.TRAPPED);
  f.if(
    priv.leU(PRIV.S).and(delegated.wrap()),
    () => {
      set(f, hart, "sepc", get(hart, "pc"));
      set(f, hart, "scause", cause);
      set(f, hart, "stval", tval);
      const kept = status.and(~(bit(MSTATUS.SIE) | bit(MSTATUS.SPIE) | bit(MSTATUS.SPP)));
      const saved = moved(status, MSTATUS.SIE, MSTATUS.SPIE, 1n).or(priv.extendU().shl(MSTATUS.SPP));
      set(f, hart, "mstatus", kept.or(saved));
      set32(f, hart, "priv", PRIV.S);
      set(f, hart, "pc", vector(get(hart, "stvec"), cause));
    },
    () => {
      set(f, hart, "mepc", get(hart, "pc"));
      set(f, hart, "mcause", cause);
      set(f, hart, "mtval", tval);
      const kept = status.and(~(bit(MSTATUS.MIE) | bit(MSTATUS.MPIE) | MSTATUS_MPP));
      const saved = moved(status, MSTATUS.MIE, MSTATUS.MPIE, 1n).or(priv.extendU().shl(MSTATUS.MPP));
      set(f, hart, "mstatus", kept.or(saved));
      set32(f, hart, "priv", PRIV.M);
      set(f, hart, "pc", vector(get(hart, "mtvec"), cause));
    },
  );
});

/** Illegal-instruction exception; tval is the instruction, as in QEMU. */
export const raiseIllegal = fn("raiseIllegal", [I32, I32], undefined, (f, hart, instruction) => {
  const compressed = instruction.and(3).ne(3);
  const bits = compressed.select(instruction.and(0xffff), instruction);
  f.call(raise, hart, CAUSE.ILLEGAL_INSTRUCTION, bits.extendU());
});

/** mip as software reads it: the stored bits and the lines that hardware drives. */
export const pendingBits = (hart: I32): I32 =>
  hart.atomicLoad32(hartLayout.offsetOf("mip")).or(hart.atomicLoad32(CTL_LINES));

/** Take the enabled interrupt of highest priority, if there is one. */
export const takeInterrupt = fn("takeInterrupt", [I32], undefined, (f, hart) => {
  const pending = f.let(pendingBits(hart).and(get32(hart, "mie")));
  f.if(pending.eqz(), () => f.return());
  const priv = f.let(get32(hart, "priv"));
  const delegated = f.let(get32(hart, "mideleg"));
  const forMachine = f.let(pending.and(delegated.xor(-1)));
  const machineOn = priv.ltU(PRIV.M).or(statusBit(hart, MSTATUS.MIE));
  const supervisorOn = priv.eqz().or(priv.eq(PRIV.S).and(statusBit(hart, MSTATUS.SIE)));
  const candidates = f.let(
    forMachine
      .and(I32.of(0).sub(machineOn))
      .select<I32>(forMachine, pending.and(delegated).and(I32.of(0).sub(supervisorOn))),
  );
  for (const n of [
    INTERRUPT.MEI,
    INTERRUPT.MSI,
    INTERRUPT.MTI,
    INTERRUPT.SEI,
    INTERRUPT.SSI,
    INTERRUPT.STI,
  ]) {
    f.if(candidates.and(1 << n), () => {
      f.call(raise, hart, CAUSE_INTERRUPT | BigInt(n), 0);
      f.return();
    });
  }
});

/** mret (3.3.2): the caller has checked the privilege. */
export const machineReturn = fn("mret", [I32], undefined, (f, hart) => {
  const status = f.let(get(hart, "mstatus"));
  const previous = f.let(status.wrap().shrU(MSTATUS.MPP).and(3));
  const cleared = f.let(status.and(~(bit(MSTATUS.MIE) | MSTATUS_MPP)));
  f.if(previous.ne(PRIV.M), () => cleared.set(cleared.and(~bit(MSTATUS.MPRV))));
  const restored = moved(status, MSTATUS.MPIE, MSTATUS.MIE, 1n).or(bit(MSTATUS.MPIE));
  set(f, hart, "mstatus", cleared.or(restored));
  set32(f, hart, "priv", previous);
  set(f, hart, "pc", get(hart, "mepc"));
});

/** sret. */
export const supervisorReturn = fn("sret", [I32], undefined, (f, hart) => {
  const status = f.let(get(hart, "mstatus"));
  const cleared = status.and(~(bit(MSTATUS.SIE) | bit(MSTATUS.SPP) | bit(MSTATUS.MPRV)));
  const restored = moved(status, MSTATUS.SPIE, MSTATUS.SIE, 1n).or(bit(MSTATUS.SPIE));
  set(f, hart, "mstatus", cleared.or(restored));
  set32(f, hart, "priv", status.wrap().shrU(MSTATUS.SPP).and(1));
  set(f, hart, "pc", get(hart, "sepc"));
});
