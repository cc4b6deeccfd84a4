// How the interpreter and translated code find translated code: first the jump cache of the hart's context,
// then the page's table in the code cache. Regions have one calling convention, chain by tail calls, and
// report why they return. A hart adopts a module (creates its instance) only when it first jumps to it.
import { I32, I64 } from "../../wasm/expr.ts";
import { fn, FnType, type Local } from "../../wasm/function.ts";
import { CODE_PAGE_TABLES, CODE_PAGES, PAGE_TABLE_SIZE } from "../shared/code-cache.ts";
import { JUMP_ENTRIES } from "../hart/tlb-context.ts";
import { CODE_CACHE } from "../shared/memory-map.ts";
import { SCRATCH } from "../shared/hart-scratch.ts";
import { set } from "../hart/hart-traps.ts";

/**
 * A region: (hart area, context, instructions left in the slice, virtual pc, entry number) → instructions
 * left. The state is in memory when it returns; SCRATCH.leave is the reason. pc is the address of the entry;
 * only its page is not known in advance.
 */
export const REGION = new FnType([I32, I32, I32, I64, I32] as const, I32);

/** Why translated code returned; pc is stored. */
export const LEAVE = {
  /** The jump cache has no translation for pc. */
  LOOKUP: 0,
  /** The interpreter must execute the instruction at pc. */
  STEP: 1,
  /** SCRATCH.event describes what happened. */
  EVENT: 2,
  /** The rest of the slice is too short to continue. */
  BUDGET: 3,
  /** This hart has no instance of the module yet. */
  ADOPT: 4,
} as const;

// A translation, as in the code cache and jump caches: slot of the function table (not 0), entry number.
export const ENTRY_SHIFT = 16;
export const slotOf = (translation: I32): I32 => translation.and(0xffff);
export const entryOf = (translation: I32): I32 => translation.shrU(ENTRY_SHIFT);

/** The jump-cache entry for a pc, at CTX_JUMPS from here. */
export const jumpEntry = (context: I32, pc: I64): I32 =>
  context.add(
    pc
      .wrap()
      .shl(3)
      .and((JUMP_ENTRIES - 1) << 4),
  );

/** The function in table slots whose module is not adopted. */
export const notAdopted = fn("notAdopted", REGION.params, I32, (f, hart, _context, countdown, pc) => {
  set(f, hart, "pc", pc);
  f.store32(hart, LEAVE.ADOPT, SCRATCH.leave);
  return countdown;
});

/** The translation of the code at a host address, or 0. */
export const findTranslation = (hva: Local<I32>): I32 => {
  const table = hva
    .shrU(12)
    .shl(1)
    .load16U(CODE_CACHE + CODE_PAGES);
  return table
    .mul(PAGE_TABLE_SIZE)
    .add(hva.and(0xffe).shl(1))
    .load32(CODE_CACHE + CODE_PAGE_TABLES);
};
