// How interpreter and translated code find translated code: the jump cache of the hart's context, then the
// page's table in the code cache. All regions have one calling convention, continue by tail calls, and return
// a reason. A hart adopts a module (makes an instance of it) only when it first jumps into it.
import { I32, I64 } from "../../wasm/expr.ts";
import { fn, FnType, type Local } from "../../wasm/function.ts";
import { CODE_PAGE_TABLES, CODE_PAGES, PAGE_TABLE_SIZE } from "../shared/code-cache.ts";
import { JUMP_ENTRIES } from "../hart/tlb-context.ts";
import { SCRATCH } from "../shared/hart-scratch.ts";
import { set } from "../hart/hart-traps.ts";

/**
 * A region: (hart area, context, instructions left of the slice, virtual pc, entry number) → instructions
 * left. State is in memory when it returns; SCRATCH.leave says why. pc is where the entry lies; only its page
 * is not known beforehand.
 */
export const REGION = new FnType([I32, I32, I32, I64, I32] as const, I32);

/** Why translated code came back; pc is stored. */
export const LEAVE = {
  /** No translation of pc is in the jump cache. */
  LOOKUP: 0,
  /** The interpreter must do the instruction at pc. */
  STEP: 1,
  /** SCRATCH.event says what happened. */
  EVENT: 2,
  /** What is left of the slice is not enough to go on. */
  BUDGET: 3,
  /** This hart has no instance of the module yet. */
  ADOPT: 4,
} as const;

// A translation, as the code cache and jump caches hold it: slot of the function table (not 0), entry number.
export const ENTRY_SHIFT = 16;
export const slotOf = (translation: I32): I32 => translation.and(0xffff);
export const entryOf = (translation: I32): I32 => translation.shrU(ENTRY_SHIFT);

/** The jump-cache entry that a pc would have, at CTX_JUMPS from here. */
export const jumpEntry = (context: I32, pc: I64): I32 =>
  context.add(
    pc
      .wrap()
      .shl(3)
      .and((JUMP_ENTRIES - 1) << 4),
  );

/** What a function table holds where nothing is adopted. */
export const notAdopted = fn("notAdopted", REGION.params, I32, (f, hart, _context, countdown, pc) => {
  set(f, hart, "pc", pc);
  f.store32(hart, LEAVE.ADOPT, SCRATCH.leave);
  return countdown;
});

/** The translation of the code at a host address, or 0. `cache` is where the code cache lies. */
export const findTranslation = (cache: number, host: Local<I32>): I32 => {
  const table = host
    .shrU(12)
    .shl(1)
    .load16U(cache + CODE_PAGES);
  return table
    .mul(PAGE_TABLE_SIZE)
    .add(host.and(0xffe).shl(1))
    .load32(cache + CODE_PAGE_TABLES);
};
