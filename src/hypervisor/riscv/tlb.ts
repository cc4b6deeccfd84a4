// What translations a hart keeps: contexts of direct-mapped tables for reads, writes, fetches and jumps, chosen by
// what an access may do (privileged specification, 3.1.6.3, 4.1.1: privilege, MPRV, SUM). Filled by the walk (mmu.ts) and,
// jumps, by who finds translated code; dropped here. ASIDs are not kept: a changed satp flushes.
import { I32, I64 } from "../../wasm/expr.ts";
import { fn } from "../../wasm/function.ts";
import {
  CONTEXT,
  CONTEXT_COUNT,
  CONTEXT_SIZE,
  CONTEXTS_OFFSET,
  CTX_FETCH,
  CTX_JUMP_PAGES,
  CTX_JUMPS,
  CTX_READ,
  CTX_USED,
  CTX_WRITE,
  JUMP_ENTRIES,
  JUMP_PAGES_SIZE,
  SCRATCH,
  TLB_ENTRIES,
  TLB_TABLE_SIZE,
} from "./hart.ts";
import { get32, MSTATUS, statusBit } from "./trap.ts";

const JUMPS_SIZE = JUMP_ENTRIES * 16;

const contextAt = (hart: I32, index: I32 | number): I32 =>
  typeof index === "number"
    ? hart.add(CONTEXTS_OFFSET + index * CONTEXT_SIZE)
    : hart.add(CONTEXTS_OFFSET).add(index.mul(CONTEXT_SIZE));

/** Privilege of loads and stores: MPP's in M-mode with MPRV (3.1.6.3). */
export const dataPrivilege = fn("dataPrivilege", [I32], I32, (f, hart) => {
  const priv = f.let(get32(hart, "priv"));
  f.if(priv.eq(3).and(statusBit(hart, MSTATUS.MPRV)), () =>
    f.return(get32(hart, "mstatus").shrU(MSTATUS.MPP).and(3)),
  );
  return priv;
});

const contextOf = fn("contextOf", [I32, I32], I32, (f, hart, priv) => {
  f.if(priv.eqz(), () => f.return(contextAt(hart, CONTEXT.USER)));
  f.if(priv.eq(3), () => f.return(contextAt(hart, CONTEXT.MACHINE)));
  return contextAt(hart, statusBit(hart, MSTATUS.SUM).add(CONTEXT.SUPERVISOR));
});

/**
 * Choose the contexts for the hart's privilege, MPRV and SUM, after anything that may have changed them (traps and
 * returns, EVENT.RESYNC); all else here and in mmu.ts works on what was chosen.
 */
export const chooseContexts = fn("chooseContexts", [I32], undefined, (f, hart) => {
  const priv = get32(hart, "priv");
  const context = f.let(contextOf.call(hart, priv));
  f.store32(hart, context, SCRATCH.fetchContext);
  f.if(priv.eq(3).and(statusBit(hart, MSTATUS.MPRV)), () =>
    context.set(contextOf.call(hart, dataPrivilege.call(hart))),
  );
  f.store32(hart, context, SCRATCH.dataContext);
});

/** The context that loads and stores use. */
export const dataContext = (hart: I32): I32 => hart.load32(SCRATCH.dataContext);
/** The context that fetches and jumps use. */
export const fetchContext = (hart: I32): I32 => hart.load32(SCRATCH.fetchContext);
/** Non-zero where loads and stores use another context than fetches do: M-mode with MPRV. */
export const isSplit = (hart: I32): I32 => dataContext(hart).ne(fetchContext(hart));

/** The entry that a page of this address would have; its table is `entry`'s at CTX_READ, CTX_WRITE or CTX_FETCH. */
export const tlbEntry = (context: I32, guestVirt: I64): I32 =>
  context.add(
    guestVirt
      .wrap()
      .shrU(8)
      .and((TLB_ENTRIES - 1) << 4),
  );

/** The bit of a context's jump-page map that stands for a page: its byte, and its mask. */
const jumpPage = (context: I32, page: I64): { byte: I32; mask: I32 } => {
  const number = page.shrU(12).wrap();
  return {
    byte: context.add(number.shrU(3).and(JUMP_PAGES_SIZE - 1)),
    mask: I32.of(1).shl(number.and(7)),
  };
};

/** Make an entry in the table at `table` (CTX_READ, CTX_WRITE, CTX_FETCH). `host` is where `va` itself is. */
export const insert = fn("insert", [I32, I32, I64, I32], undefined, (f, context, table, va, host) => {
  const entry = f.let(tlbEntry(context.add(table), va));
  const page = f.let(va.and(~0xfffn));
  f.store64(entry, page);
  f.store32(entry, host.sub(va.wrap()), 8);
  const bit = f.let(I32.of(1).shl(table.divU(TLB_TABLE_SIZE)));
  f.store32(context, context.load32(CTX_USED).or(bit), CTX_USED);
  f.if(table.eq(CTX_FETCH), () => {
    const { byte, mask } = jumpPage(context, page);
    const at = f.let(byte);
    f.store8(at, at.load8U(CTX_JUMP_PAGES).or(mask), CTX_JUMP_PAGES);
  });
});

/** Forget a context's translations; only tables that were used. All ones is no page address and no pc. */
const flushContext = fn("flushContext", [I32], undefined, (f, context) => {
  const used = f.let(context.load32(CTX_USED));
  f.if(used.and(1), () => f.fill(context.add(CTX_READ), 0xff, TLB_TABLE_SIZE));
  f.if(used.and(2), () => f.fill(context.add(CTX_WRITE), 0xff, TLB_TABLE_SIZE));
  f.if(used.and(4), () => {
    f.fill(context.add(CTX_FETCH), 0xff, TLB_TABLE_SIZE + JUMPS_SIZE);
    f.fill(context.add(CTX_JUMP_PAGES), 0, JUMP_PAGES_SIZE);
  });
  f.store32(context, 0, CTX_USED);
});

/** Forget all translations of this hart. */
export const flushTlb = fn("flushTlb", [I32], undefined, (f, hart) => {
  for (let i = 0; i < CONTEXT_COUNT; i++) f.call(flushContext, contextAt(hart, i));
  for (const half of [0, 16]) {
    f.store64(hart, -1, SCRATCH.superpages + half);
    f.store64(hart, 0, SCRATCH.superpages + half + 8);
  }
});

/** Forget translations for writing, so that the next store to each page asks whether it is a code page. */
export const protectCode = fn("protectCode", [I32], undefined, (f, hart) => {
  for (let i = 0; i < CONTEXT_COUNT; i++) {
    const context = f.let(contextAt(hart, i));
    f.if(context.load32(CTX_USED).and(2), () => {
      f.fill(context.add(CTX_WRITE), 0xff, TLB_TABLE_SIZE);
      f.store32(context, context.load32(CTX_USED).and(~2), CTX_USED);
    });
  }
});

/** Drop the jumps to a page that may have some. */
const flushJumps = fn("flushJumps", [I32, I64], undefined, (f, context, page) => {
  const { byte, mask } = jumpPage(context, page);
  f.if(byte.load8U(CTX_JUMP_PAGES).and(mask).eqz(), () => f.return());
  const entry = f.let(context.add(CTX_JUMPS));
  const end = f.let(context.add(CTX_JUMPS + JUMPS_SIZE));
  f.loop((again) => {
    f.if(entry.load64().xor(page).ltU(0x1000), () => f.store64(entry, -1));
    entry.set(entry.add(16));
    f.brIf(again, entry.ne(end));
  });
});

/** Forget the translations of the page of an address. Superpages are cached in pieces, so there all goes. */
export const flushTlbPage = fn("flushTlbPage", [I32, I64], undefined, (f, hart, va) => {
  const page = f.let(va.and(~0xfffn));
  const range = f.let(hart.add(page.shrU(63).wrap().shl(4)));
  const first = range.load64(SCRATCH.superpages);
  const last = range.load64(SCRATCH.superpages + 8);
  f.if(page.geU(first).and(page.leU(last)), () => {
    f.call(flushTlb, hart);
    f.return();
  });
  for (let i = 0; i < CONTEXT_COUNT; i++) {
    const context = f.let(contextAt(hart, i));
    f.if(context.load32(CTX_USED), () => {
      const entry = f.let(tlbEntry(context, page));
      for (const table of [CTX_READ, CTX_WRITE, CTX_FETCH]) {
        f.if(entry.load64(table).eq(page), () => f.store64(entry, -1, table));
      }
      f.call(flushJumps, context, page);
    });
  }
});

/** Widen the range of pages that came from superpages. */
export const noteSuperpage = fn("noteSuperpage", [I32, I64], undefined, (f, hart, page) => {
  const range = f.let(hart.add(page.shrU(63).wrap().shl(4)));
  f.if(page.ltU(range.load64(SCRATCH.superpages)), () => f.store64(range, page, SCRATCH.superpages));
  f.if(page.gtU(range.load64(SCRATCH.superpages + 8)), () => f.store64(range, page, SCRATCH.superpages + 8));
});

/** Make an area that was never run in valid: zeroes would be entries for page 0. */
export const prepareTlb = fn("prepareTlb", [I32], undefined, (f, hart) => {
  f.if(hart.load32(SCRATCH.ready), () => f.return());
  for (let i = 0; i < CONTEXT_COUNT; i++) f.store32(contextAt(hart, i), 7, CTX_USED);
  f.call(flushTlb, hart);
  f.store32(hart, 1, SCRATCH.ready);
});
