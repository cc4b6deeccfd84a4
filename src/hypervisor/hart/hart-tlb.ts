// A hart's cached translations: contexts of direct-mapped tables for reads, writes, fetches and jumps,
// selected by privilege and permissions and, in U-mode, by address space (privileged specification, 3.1.6.3,
// 4.1.1, 4.1.11: privilege, MPRV, SUM, satp). The page walk (mmu.ts) fills the TLBs, the lookup of translated
// code the jump caches; this file flushes them as sfence.vma (4.2.1) requires. S-mode's contexts hold global
// entries of any address space, and other entries of the current one only.
import { SATP } from "../../riscv/paging.ts";
import { PRIV } from "../../riscv/privilege.ts";
import { I32, I64 } from "../../wasm/expr.ts";
import { type Fn, fn, type Func, type Local } from "../../wasm/function.ts";
import {
  CONTEXT,
  CONTEXT_COUNT,
  CONTEXT_SIZE,
  CTX_HAS_FETCH,
  CTX_HAS_GLOBAL,
  CTX_HAS_HUGE,
  CTX_HAS_READ,
  CTX_HAS_WRITE,
  CTX_FETCH,
  CTX_JUMP_PAGES,
  CTX_JUMPS,
  CTX_LOCAL_COUNT,
  CTX_LOCAL_ENTRIES,
  CTX_LOCAL_FETCHED,
  CTX_READ,
  CTX_SATP,
  CTX_STALE_JUMPS,
  CTX_STALE_WRITES,
  CTX_STAMP,
  CTX_SUPERPAGES,
  CTX_USED,
  CTX_WRITE,
  JUMP_ENTRIES,
  JUMP_PAGES_SIZE,
  LEAF_GLOBAL,
  LEAF_SHIFT,
  MAX_LOCAL_ENTRIES,
  SPACE_FREE,
  TLB_ENTRIES,
  TLB_TABLE_SIZE,
  USER_CONTEXTS,
} from "./tlb-context.ts";
import { CONTEXTS_OFFSET } from "../shared/memory-map.ts";
import { SCRATCH } from "../shared/hart-scratch.ts";
import { get, get32, set, statusBit } from "./hart-traps.ts";
import { MSTATUS } from "../../riscv/status.ts";
import { ALL_SPACES } from "./engine-interface.ts";

const JUMPS_SIZE = JUMP_ENTRIES * 16;
/** The smallest superpage: 2 MiB. */
const SUPERPAGE_SHIFT = 21;
const PIECES_SIZE = 2 ** (SUPERPAGE_SHIFT - 12) * 16;

const contextAt = (hart: I32, index: number): I32 => hart.add(CONTEXTS_OFFSET + index * CONTEXT_SIZE);

const asidOf = (satp: I64): I32 => satp.shrU(44).wrap().and(0xffff);

// ---- selecting contexts ----

/** Privilege of loads and stores: MPP in M-mode with MPRV (3.1.6.3). */
export const dataPrivilege = fn("dataPrivilege", [I32], I32, (f, hart) => {
  const priv = f.let(get32(hart, "priv"));
  f.if(priv.eq(PRIV.M).and(statusBit(hart, MSTATUS.MPRV)), () =>
    f.return(get32(hart, "mstatus").shrU(MSTATUS.MPP).and(3)),
  );
  return priv;
});

const contextOf = fn("contextOf", [I32, I32], I32, (f, hart, priv) => {
  f.if(priv.eqz(), () => f.return(hart.load32(SCRATCH.userContext)));
  f.if(priv.eq(PRIV.M), () => f.return(contextAt(hart, CONTEXT.MACHINE)));
  return statusBit(hart, MSTATUS.SUM).select(
    contextAt(hart, CONTEXT.SUM),
    contextAt(hart, CONTEXT.SUPERVISOR),
  );
});

/**
 * Select the contexts for the hart's privilege, MPRV, SUM and address space, after anything that may have
 * changed them (traps and returns, EVENT.RESYNC). All other functions here and in mmu.ts use the selected
 * contexts.
 */
export const chooseContexts = fn("chooseContexts", [I32], undefined, (f, hart) => {
  const priv = get32(hart, "priv");
  const context = f.let(contextOf.call(hart, priv));
  f.store32(hart, context, SCRATCH.fetchContext);
  f.if(priv.eq(PRIV.M).and(statusBit(hart, MSTATUS.MPRV)), () =>
    context.set(contextOf.call(hart, dataPrivilege.call(hart))),
  );
  f.store32(hart, context, SCRATCH.dataContext);
});

/** The context of loads and stores. */
export const dataContext = (hart: I32): I32 => hart.load32(SCRATCH.dataContext);
/** The context of fetches and jumps. */
export const fetchContext = (hart: I32): I32 => hart.load32(SCRATCH.fetchContext);
/** Non-zero if loads and stores use another context than fetches: M-mode with MPRV. */
export const isSplit = (hart: I32): I32 => dataContext(hart).ne(fetchContext(hart));

// ---- entries ----

/**
 * The entry for the page of this address; its table is the one of `entry` at CTX_READ, CTX_WRITE or
 * CTX_FETCH.
 */
export const tlbEntry = (context: I32, guestVirt: I64): I32 =>
  context.add(
    guestVirt
      .wrap()
      .shrU(8)
      .and((TLB_ENTRIES - 1) << 4),
  );

/** The bit for a page in a context's jump-page map: its byte, and its mask. */
const jumpPage = (context: I32, page: I64): { byte: I32; mask: I32 } => {
  const number = page.shrU(12).wrap();
  return {
    byte: context.add(number.shrU(3).and(JUMP_PAGES_SIZE - 1)),
    mask: I32.of(1).shl(number.and(7)),
  };
};

/** The range of superpages, of data or fetches, in this half of the address space. */
const superpages = (context: I32, page: I64, isFetch: I32): I32 =>
  context.add(page.shrU(63).wrap().shl(4)).add(isFetch.shl(5));

/** Widen the range of pages that came from superpages by the superpage around `va`. */
const noteSuperpage = fn(
  "noteSuperpage",
  [I32, I32, I64, I32],
  undefined,
  (f, context, isFetch, va, shift) => {
    const inPage = f.let(I64.of(1).shl(shift.extendU()).sub(1));
    const first = f.let(va.and(inPage.not()));
    const last = f.let(va.or(inPage).and(~0xfffn));
    const range = f.let(superpages(context, va, isFetch));
    f.if(first.ltU(range.load64(CTX_SUPERPAGES)), () => f.store64(range, first, CTX_SUPERPAGES));
    f.if(last.gtU(range.load64(CTX_SUPERPAGES + 8)), () => f.store64(range, last, CTX_SUPERPAGES + 8));
  },
);

/**
 * Fill an entry of the table at `table` (CTX_READ, CTX_WRITE, CTX_FETCH): (context, table, guestVirt, hva,
 * leaf). `hva` is the host address of `va` itself.
 */
export const insert = fn(
  "insert",
  [I32, I32, I64, I32, I32],
  undefined,
  (f, context, table, va, hva, leaf) => {
    const entry = f.let(tlbEntry(context.add(table), va));
    const page = f.let(va.and(~0xfffn));
    f.store64(entry, page);
    f.store32(entry, hva.sub(va.wrap()), 8);
    f.store32(entry, leaf, 12);
    const used = f.let(context.load32(CTX_USED).or(I32.of(1).shl(table.divU(TLB_TABLE_SIZE))));
    const isFetch = f.let(table.eq(CTX_FETCH));
    f.if(isFetch, () => {
      const { byte, mask } = jumpPage(context, page);
      const at = f.let(byte);
      f.store8(at, at.load8U(CTX_JUMP_PAGES).or(mask), CTX_JUMP_PAGES);
    });
    const shift = f.let(leaf.and(LEAF_SHIFT));
    f.if(shift.ne(12), () => {
      f.call(noteSuperpage, context, isFetch, va, shift);
      f.if(shift.ne(SUPERPAGE_SHIFT), () => used.set(used.or(CTX_HAS_HUGE)));
    });
    f.if(
      leaf.and(LEAF_GLOBAL),
      () => used.set(used.or(CTX_HAS_GLOBAL)),
      () => {
        const count = f.let(context.load32(CTX_LOCAL_COUNT));
        f.store32(context, context.load32(CTX_LOCAL_FETCHED).or(isFetch), CTX_LOCAL_FETCHED);
        f.if(count.ltU(MAX_LOCAL_ENTRIES), () =>
          f.store32(context.add(count.shl(2)), entry, CTX_LOCAL_ENTRIES),
        );
        f.if(count.leU(MAX_LOCAL_ENTRIES), () => f.store32(context, count.add(1), CTX_LOCAL_COUNT));
      },
    );
    f.store32(context, used, CTX_USED);
  },
);

// ---- flushing ----

/** Invalidate an entry: all ones is neither a page address nor a pc. */
const drop = (f: Func, entry: I32, offset = 0): void => f.store64(entry, -1, offset);

function eachOf(f: Func, start: I32, size: number, body: (entry: I32) => void): void {
  const entry = f.let(start);
  const end = f.let(entry.add(size));
  f.loop((again) => {
    body(entry);
    entry.set(entry.add(16));
    f.brIf(again, entry.ne(end));
  });
}
/** Visit each of the `count` entries of a context that came from pages that are not global. */
function eachLocal(f: Func, context: I32, count: Local<I32>, body: (entry: I32) => void): void {
  f.loop((again) =>
    f.if(count, () => {
      count.set(count.sub(1));
      body(f.let(context.add(count.shl(2)).load32(CTX_LOCAL_ENTRIES)));
      f.br(again);
    }),
  );
}

const dropJumps = fn("dropJumps", [I32], undefined, (f, context) => {
  f.fill(context.add(CTX_JUMPS), 0xff, JUMPS_SIZE);
  f.fill(context.add(CTX_JUMP_PAGES), 0, JUMP_PAGES_SIZE);
});
const dropFetches = fn("dropFetches", [I32], undefined, (f, context) => {
  f.fill(context.add(CTX_FETCH), 0xff, TLB_TABLE_SIZE);
  f.call(dropJumps, context);
});

const dropWrites = (f: Func, context: I32): void => f.fill(context.add(CTX_WRITE), 0xff, TLB_TABLE_SIZE);
const dropAllJumps = (f: Func, context: I32): void => f.fill(context.add(CTX_JUMPS), 0xff, JUMPS_SIZE);

/** Flush a context: the entries that it lists, or all tables that were used. */
const flushContext = fn("flushContext", [I32], undefined, (f, context) => {
  const used = f.let(context.load32(CTX_USED));
  f.if(used.eqz(), () => f.return());
  const count = f.let(context.load32(CTX_LOCAL_COUNT));
  f.if(
    used.and(CTX_HAS_GLOBAL).eqz().and(count.leU(MAX_LOCAL_ENTRIES)),
    () => {
      eachLocal(f, context, count, (entry) => drop(f, entry));
      f.if(used.and(CTX_HAS_FETCH), () => f.call(dropJumps, context));
    },
    () => {
      f.if(used.and(CTX_HAS_READ), () => f.fill(context.add(CTX_READ), 0xff, TLB_TABLE_SIZE));
      f.if(used.and(CTX_HAS_WRITE), () => f.fill(context.add(CTX_WRITE), 0xff, TLB_TABLE_SIZE));
      f.if(used.and(CTX_HAS_FETCH), () => f.call(dropFetches, context));
    },
  );
  f.store32(context, 0, CTX_USED);
  f.store32(context, 0, CTX_LOCAL_COUNT);
  f.store32(context, 0, CTX_LOCAL_FETCHED);
  for (const range of [0, 16, 32, 48]) {
    f.store64(context, -1, CTX_SUPERPAGES + range);
    f.store64(context, 0, CTX_SUPERPAGES + range + 8);
  }
});

/** Flush the entries of a context that are not global. */
const flushLocal = fn("flushLocal", [I32], undefined, (f, context) => {
  const count = f.let(context.load32(CTX_LOCAL_COUNT));
  f.if(count.eqz(), () => f.return());
  const dropLocal = (entry: I32): void => f.if(entry.load32(12).and(LEAF_GLOBAL).eqz(), () => drop(f, entry));
  f.if(
    count.leU(MAX_LOCAL_ENTRIES),
    () => eachLocal(f, context, count, dropLocal),
    () => eachOf(f, context.add(CTX_READ), 2 * TLB_TABLE_SIZE, dropLocal),
  );
  f.if(context.load32(CTX_LOCAL_FETCHED), () => f.call(dropFetches, context));
  f.store32(context, 0, CTX_LOCAL_COUNT);
  f.store32(context, 0, CTX_LOCAL_FETCHED);
});

/** Flush the jumps to a page, if it may have any. */
const flushJumps = fn("flushJumps", [I32, I64], undefined, (f, context, page) => {
  const { byte, mask } = jumpPage(context, page);
  f.if(byte.load8U(CTX_JUMP_PAGES).and(mask).eqz(), () => f.return());
  eachOf(f, context.add(CTX_JUMPS), JUMPS_SIZE, (entry) =>
    f.if(entry.load64().xor(page).ltU(0x1000), () => drop(f, entry)),
  );
});

/** Flush a context's translations of a page, and those that came from a superpage that contains it. */
const flushContextPage = fn("flushContextPage", [I32, I64], undefined, (f, context, page) => {
  const used = f.let(context.load32(CTX_USED));
  f.if(used.eqz(), () => f.return());
  const entry = f.let(tlbEntry(context, page));
  for (const table of [CTX_READ, CTX_WRITE, CTX_FETCH]) {
    f.if(entry.load64(table).eq(page), () => drop(f, entry, table));
  }
  const isInSuperpage = (isFetch: 0 | 1): I32 => {
    const range = f.let(superpages(context, page, I32.of(isFetch)));
    return page.geU(range.load64(CTX_SUPERPAGES)).and(page.leU(range.load64(CTX_SUPERPAGES + 8)));
  };
  const dropPieces = (start: I32, size: number): void =>
    eachOf(f, start, size, (piece) => {
      const shift = piece.load32(12).and(LEAF_SHIFT).extendU();
      f.if(piece.load64().xor(page).shrU(shift).eqz(), () => drop(f, piece));
    });
  f.if(isInSuperpage(0), () =>
    f.if(
      used.and(CTX_HAS_HUGE),
      () => dropPieces(context.add(CTX_READ), 2 * TLB_TABLE_SIZE),
      () => {
        // The parts of 2 MiB have successive entries.
        const first = f.let(tlbEntry(context, page.and(-1n << BigInt(SUPERPAGE_SHIFT))));
        dropPieces(first.add(CTX_READ), PIECES_SIZE);
        dropPieces(first.add(CTX_WRITE), PIECES_SIZE);
      },
    ),
  );
  f.if(
    isInSuperpage(1),
    () => f.call(dropFetches, context),
    () => f.call(flushJumps, context, page),
  );
});

// ---- address spaces ----

/** Select U-mode's context for the address space of satp; it may still have translations from earlier. */
const chooseSpace = fn("chooseSpace", [I32], undefined, (f, hart) => {
  const satp = f.let(get(hart, "satp"));
  const context = f.let(contextAt(hart, CONTEXT.USER));
  const end = f.let(contextAt(hart, USER_CONTEXTS));
  const found = f.let(I32.of(0));
  const oldest = f.let<I32>(context);
  f.loop((again) => {
    const its = f.let(context.load64(CTX_SATP));
    f.if(its.ne(SPACE_FREE).and(asidOf(its).eq(asidOf(satp))), () => found.set(context));
    f.if(context.load32(CTX_STAMP).ltU(oldest.load32(CTX_STAMP)), () => oldest.set(context));
    context.set(context.add(CONTEXT_SIZE));
    f.brIf(again, context.ne(end));
  });
  context.set(found.choose<I32>(found, oldest));
  // The specification requires no flush if the same ASID comes with another table, but QEMU flushes, and
  // software relies on it.
  f.if(context.load64(CTX_SATP).ne(satp), () => f.call(flushContext, context));
  const used = f.let(context.load32(CTX_USED));
  f.if(used.and(CTX_STALE_WRITES), () => dropWrites(f, context));
  f.if(used.and(CTX_STALE_JUMPS), () => dropAllJumps(f, context));
  f.store32(context, used.and(~(CTX_STALE_WRITES | CTX_STALE_JUMPS)), CTX_USED);
  f.store64(context, satp, CTX_SATP);
  const now = f.let(hart.load32(SCRATCH.spaceClock).add(1));
  f.store32(hart, now, SCRATCH.spaceClock);
  f.store32(context, now, CTX_STAMP);
  f.store32(hart, context, SCRATCH.userContext);
});

const freeSpace = (f: Func, context: I32): void => {
  f.store64(context, SPACE_FREE, CTX_SATP);
  f.store32(context, 0, CTX_STAMP);
};

/** Set satp to a legal value. */
export const switchSpace = fn("switchSpace", [I32, I64], undefined, (f, hart, value) => {
  const old = f.let(get(hart, "satp"));
  f.if(old.eq(value), () => f.return());
  set(f, hart, "satp", value);
  // A new mode takes effect at once, also for global pages (4.1.11).
  const flushSupervisor = (flush: Fn<readonly [typeof I32], undefined>): void => {
    f.call(flush, contextAt(hart, CONTEXT.SUPERVISOR));
    f.call(flush, contextAt(hart, CONTEXT.SUM));
  };
  f.if(
    old.xor(value).shrU(SATP.MODE).eqz(),
    () => flushSupervisor(flushLocal),
    () => flushSupervisor(flushContext),
  );
  f.call(chooseSpace, hart);
});

/**
 * Flush the translations of an address space that are not global, or everything for ALL_SPACES: (hart, ASID).
 */
export const flushSpace = fn("flushSpace", [I32, I32], undefined, (f, hart, asid) => {
  const current = f.let(hart.load32(SCRATCH.userContext));
  for (let i = 0; i < USER_CONTEXTS; i++) {
    const context = f.let(contextAt(hart, CONTEXT.USER + i));
    f.if(asid.eq(ALL_SPACES).or(asidOf(context.load64(CTX_SATP)).eq(asid)), () =>
      f.if(
        context.eq(current),
        () => f.call(flushContext, context),
        // Flushed when it is next used.
        () => freeSpace(f, context),
      ),
    );
  }
  const flushSupervisor = (flush: Fn<readonly [typeof I32], undefined>): void => {
    f.call(flush, contextAt(hart, CONTEXT.SUPERVISOR));
    f.call(flush, contextAt(hart, CONTEXT.SUM));
  };
  f.if(
    asid.eq(ALL_SPACES),
    () => flushSupervisor(flushContext),
    () => f.if(asid.eq(asidOf(get(hart, "satp"))), () => flushSupervisor(flushLocal)),
  );
});

/**
 * Flush the translations of an address's page, or of the superpage that contains it: (hart, guestVirt, ASID).
 */
export const flushTlbPage = fn("flushTlbPage", [I32, I64, I32], undefined, (f, hart, va, asid) => {
  const page = f.let(va.and(~0xfffn));
  for (let i = 0; i < USER_CONTEXTS; i++) {
    const context = f.let(contextAt(hart, CONTEXT.USER + i));
    const satp = f.let(context.load64(CTX_SATP));
    f.if(satp.ne(SPACE_FREE).and(asid.eq(ALL_SPACES).or(asidOf(satp).eq(asid))), () =>
      f.call(flushContextPage, context, page),
    );
  }
  f.if(asid.eq(ALL_SPACES).or(asid.eq(asidOf(get(hart, "satp")))), () => {
    f.call(flushContextPage, contextAt(hart, CONTEXT.SUPERVISOR), page);
    f.call(flushContextPage, contextAt(hart, CONTEXT.SUM), page);
  });
});

/** Flush everything of this hart: its state or the memory slots may have changed in any way. */
export const flushTlb = fn("flushTlb", [I32], undefined, (f, hart) => {
  f.if(hart.load32(SCRATCH.ready).eqz(), () => f.return());
  f.call(flushSpace, hart, ALL_SPACES);
  f.call(flushContext, contextAt(hart, CONTEXT.MACHINE));
  f.store64(hart, 0, SCRATCH.windowSize);
  f.store64(hart.load32(SCRATCH.userContext), get(hart, "satp"), CTX_SATP);
});

/**
 * Flush a part of all contexts that have it; a U-mode context that is not in use is flushed when it is next
 * used.
 */
function dropPart(
  f: Func,
  hart: I32,
  part: number,
  stale: number,
  dropNow: (f: Func, context: I32) => void,
): void {
  const context = f.let(contextAt(hart, 0));
  const users = f.let(contextAt(hart, USER_CONTEXTS));
  const end = f.let(contextAt(hart, CONTEXT_COUNT));
  const current = f.let(hart.load32(SCRATCH.userContext));
  f.loop((again) => {
    const used = f.let(context.load32(CTX_USED));
    f.if(used.and(part), () =>
      f.if(
        context.ltU(users).and(context.ne(current)),
        () => f.store32(context, used.or(stale), CTX_USED),
        () => dropNow(f, context),
      ),
    );
    context.set(context.add(CONTEXT_SIZE));
    f.brIf(again, context.ne(end));
  });
}

/** Flush write translations, so that the next store to each page checks whether it is a code page. */
export const protectCode = fn("protectCode", [I32], undefined, (f, hart) => {
  dropPart(f, hart, CTX_HAS_WRITE, CTX_STALE_WRITES, dropWrites);
});

/** Flush all jumps of this hart: their code may have changed. */
export const flushAllJumps = fn("flushAllJumps", [I32], undefined, (f, hart) => {
  dropPart(f, hart, CTX_HAS_FETCH, CTX_STALE_JUMPS, dropAllJumps);
});

/** Initialise an area that was never run in: zeroes would be entries for page 0. */
export const prepareTlb = fn("prepareTlb", [I32], undefined, (f, hart) => {
  f.if(hart.load32(SCRATCH.ready), () => f.return());
  // All tables; with a global page there is no list.
  const all = CTX_HAS_READ | CTX_HAS_WRITE | CTX_HAS_FETCH | CTX_HAS_GLOBAL;
  for (let i = 0; i < CONTEXT_COUNT; i++) f.store32(contextAt(hart, i), all, CTX_USED);
  f.store32(hart, contextAt(hart, CONTEXT.USER), SCRATCH.userContext);
  f.store32(hart, 1, SCRATCH.ready);
  f.call(flushTlb, hart);
});
