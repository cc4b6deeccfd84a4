// Address translation (privileged specification, 4.3–4.6): page walk of Sv39, Sv48 and Sv57 with hardware A
// and D bits (Svadu; Svade while menvcfg.ADUE is 0), PMP, memory slots, dirty log, code pages; and the TLB
// entry that results. A write entry exists only for a page whose dirty bit is set and that is not a code
// page.
import { levelsOf, PMP, PPN_MASK, PTE, PTE_HIGH, PTE_PPN, SATP, SATP_MODE } from "../../riscv/paging.ts";
import { PRIV } from "../../riscv/privilege.ts";
import { I32, I64 } from "../../wasm/expr.ts";
import { fn, type Local } from "../../wasm/function.ts";
import {
  CTL_SLOT_BANK,
  SLOT_CODE_OFFSET,
  SLOT_DIRTY_OFFSET,
  SLOT_ENTRIES,
  SLOT_ENTRY_SIZE,
  SLOT_FLAG_READONLY,
  SLOT_FLAGS,
  SLOT_GPA,
  SLOT_HOST_OFFSET,
  SLOT_SIZE,
  VM_CODE_STALE,
} from "../shared/memory-map.ts";
import { CTX_FETCH, CTX_READ, CTX_WRITE, LEAF_GLOBAL } from "./tlb-context.ts";
import { SCRATCH } from "../shared/hart-scratch.ts";
import { PMP_ALLOWED, PMP_PARTIAL, pmpCheck, pmpOpenRange } from "./pmp.ts";
import { dataContext, dataPrivilege, fetchContext, insert } from "./hart-tlb.ts";
import { CAUSE } from "../../riscv/causes.ts";
import { get, get32 } from "./hart-traps.ts";
import { MSTATUS } from "../../riscv/status.ts";

/** Kinds of access. 12 + kind is the page fault's cause. */
export const ACCESS = { FETCH: 0, LOAD: 1, STORE: 3 } as const;

/** SCRATCH.fault after a successful translation. */
export const NO_FAULT = -1;
export const PAGE_MASK = 0xfff;

const pageFault = (access: I32): I32 => access.add(CAUSE.INSTRUCTION_PAGE);
/** 1, 5, 7 for fetch, load, store. */
export const accessFault = (access: I32): I32 =>
  access.choose(access.add(4), I32.of(CAUSE.INSTRUCTION_ACCESS));

/** The memory slot that contains a guest-physical address: its entry, or 0. */
const findSlot = fn("findSlot", [I32, I64], I32, (f, hart, guestPhys) => {
  const entry = f.let(hart.load32(CTL_SLOT_BANK));
  const count = f.let(entry.load32());
  entry.set(entry.add(SLOT_ENTRIES));
  f.loop((again) => {
    f.if(count.eqz(), () => f.return(I32.of(0)));
    f.if(guestPhys.sub(entry.load64(SLOT_GPA)).ltU(entry.load64(SLOT_SIZE)), () => f.return(entry));
    entry.set(entry.add(SLOT_ENTRY_SIZE));
    count.set(count.sub(1));
    f.br(again);
  });
});

const hostAddress = (slot: I32, guestPhys: I64): I32 =>
  slot.load32(SLOT_HOST_OFFSET).add(guestPhys.sub(slot.load64(SLOT_GPA)).wrap());

/**
 * Before a page is written: set its bit in the slot's dirty log; if the page has translations, mark them
 * stale (CodePages.written, in the same order).
 */
const markWritten = fn("markWritten", [I32, I64], undefined, (f, slot, guestPhys) => {
  const page = f.let(guestPhys.sub(slot.load64(SLOT_GPA)).shrU(12).wrap());
  const bit = f.let(I32.of(1).shl(page));
  const word = f.let(page.shrU(5).shl(2));
  const dirty = f.let(slot.load32(SLOT_DIRTY_OFFSET).add(word));
  // The bit is usually set: a load is much cheaper than an atomic update.
  f.if(dirty.atomicLoad32().and(bit).eqz(), () => f.drop(dirty.rmw32("or", bit)));
  const code = f.let(slot.load32(SLOT_CODE_OFFSET));
  f.if(code.eqz(), () => f.return());
  word.set(word.add(code));
  f.if(word.atomicLoad32().and(bit).eqz(), () => f.return());
  f.if(word.rmw32("and", bit.xor(-1)).and(bit), () => {
    // codeBitmapSize(SLOT_SIZE)
    const size = slot.load64(SLOT_SIZE).shrU(12).wrap().add(7).shrU(3).add(63).and(~63);
    f.drop(word.add(size).rmw32("or", bit));
    f.drop(I32.of(VM_CODE_STALE).rmw32("add", 1));
  });
});

/** Non-zero if a guest-physical address is in the window: see SCRATCH.windowStart. */
const inWindow = (hart: I32, guestPhys: I64): I32 =>
  guestPhys.sub(hart.load64(SCRATCH.windowStart)).ltU(hart.load64(SCRATCH.windowSize));
const windowAddress = (hart: I32, guestPhys: I64): I32 =>
  hart.load32(SCRATCH.windowDelta).add(guestPhys.wrap());

/** Set the window to the range around an address of this slot, if every access is allowed there. */
const openWindow = fn("openWindow", [I32, I64, I32], undefined, (f, hart, guestPhys, slot) => {
  f.if(slot.load32(SLOT_FLAGS).and(SLOT_FLAG_READONLY), () => f.return());
  f.if(pmpOpenRange.call(hart, guestPhys).eqz(), () => f.return());
  const clamp = (limit: Local<I64>, to: I64): void => {
    f.if(limit.gtU(to), () => limit.set(to));
  };
  const slotStart = slot.load64(SLOT_GPA);
  const end = f.let(hart.load64(SCRATCH.openEnd).and(~0xfffn));
  clamp(end, slotStart.add(slot.load64(SLOT_SIZE)));
  const start = f.let(hart.load64(SCRATCH.openStart).add(0xfffn).and(~0xfffn));
  f.if(start.ltU(slotStart), () => start.set(slotStart));
  f.if(start.geU(end), () => f.return());
  f.store64(hart, start, SCRATCH.windowStart);
  f.store64(hart, end.sub(start), SCRATCH.windowSize);
  f.store32(hart, slot, SCRATCH.windowSlot);
  f.store32(hart, hostAddress(slot, I64.of(0)), SCRATCH.windowDelta);
});

/** Host address of a page-table entry outside the window; 0 if it may not be read. */
const entryOutside = fn("entryOutside", [I32, I64], I32, (f, hart, pteAt) => {
  f.if(pmpCheck.call(hart, pteAt, 8, PMP.R, 1).ne(PMP_ALLOWED), () => f.return(I32.of(0)));
  const slot = f.let(findSlot.call(hart, pteAt));
  f.if(slot.eqz(), () => f.return(I32.of(0)));
  f.call(openWindow, hart, pteAt, slot);
  return hostAddress(slot, pteAt);
});

/** Before a page-table entry changes: mark its page written; 1 if it may be written. */
const entryWritable = fn("entryWritable", [I32, I64], I32, (f, hart, pteAt) => {
  const slot = f.let(hart.load32(SCRATCH.windowSlot));
  f.if(inWindow(hart, pteAt).eqz(), () => {
    f.if(pmpCheck.call(hart, pteAt, 8, PMP.W, 1).ne(PMP_ALLOWED), () => f.return(I32.of(0)));
    slot.set(findSlot.call(hart, pteAt));
    f.if(slot.load32(SLOT_FLAGS).and(SLOT_FLAG_READONLY), () => f.return(I32.of(0)));
  });
  f.call(markWritten, slot, pteAt);
  return I32.of(1);
});

/**
 * Walk the page table: (hart, guestVirt, ACCESS, privilege) → guest-physical address, SCRATCH.leaf; on
 * failure SCRATCH.fault. Updates A and D by compare-and-swap, and restarts if the entry has changed meanwhile
 * (4.3.2, steps 1–9).
 */
const translate = fn("translate", [I32, I64, I32, I32], I64, (f, hart, va, access, priv) => {
  const fail = (cause: I32): void => {
    f.store32(hart, cause, SCRATCH.fault);
    f.return(I64.of(0));
  };
  const satp = f.let(get(hart, "satp"));
  const mode = f.let(satp.shrU(SATP.MODE).wrap());
  f.store32(hart, 12, SCRATCH.leaf);
  f.if(priv.eq(PRIV.M).or(mode.eqz()), () => f.return(va));

  // Sv39 has 3 levels; the address must be sign-extended from its top bit.
  const top = f.let(mode.sub(SATP_MODE.SV39 - (levelsOf(SATP_MODE.SV39) - 1)));
  const unused = f.let(
    I32.of(64 - 12 - 9)
      .sub(top.mul(9))
      .extendU(),
  );
  f.if(va.shl(unused).shrS(unused).ne(va), () => fail(pageFault(access)));
  const status = f.let(get32(hart, "mstatus"));

  f.loop((restart) => {
    const table = f.let(satp.and(PPN_MASK).shl(12));
    const shift = f.let(top.mul(9).add(12).extendU());
    const global = f.let(I32.of(0));
    f.loop((descend) => {
      const pteAt = f.let(table.add(va.shrU(shift).and(511).shl(3)));
      const hva = f.let(windowAddress(hart, pteAt));
      f.if(inWindow(hart, pteAt).eqz(), () => {
        hva.set(entryOutside.call(hart, pteAt));
        f.if(hva.eqz(), () => fail(accessFault(access)));
      });
      const pte = f.let(hva.atomicLoad64());
      const bits = f.let(pte.wrap());
      // Global in a non-leaf entry: all its mappings are global.
      global.set(global.or(bits.and(PTE.G)));
      const high = f.let(pte.shrU(PTE_HIGH));
      const kind = bits.and(PTE.V | PTE.R | PTE.W | PTE.X | PTE.U | PTE.A | PTE.D);
      f.if(kind.eq(PTE.V).and(high.eqz()).and(shift.ne(12)), () => {
        table.set(pte.shrU(PTE_PPN).and(PPN_MASK).shl(12));
        shift.set(shift.sub(9));
        f.br(descend);
      });
      // Not valid, not a leaf, writable but not readable, or reserved bits (no Svnapot, no Svpbmt).
      const invalid = bits
        .and(PTE.V)
        .eqz()
        .or(bits.and(PTE.R | PTE.W | PTE.X).eqz())
        .or(bits.and(PTE.R | PTE.W).eq(PTE.W))
        .or(high.ne(0));
      f.if(invalid, () => fail(pageFault(access)));

      f.if(
        bits.and(PTE.U),
        () => {
          // S-mode accesses user pages only with SUM, and never fetches from them.
          const refused = priv.ne(0).and(access.eqz().or(status.and(1 << MSTATUS.SUM).eqz()));
          f.if(refused, () => fail(pageFault(access)));
        },
        () => f.if(priv.eqz(), () => fail(pageFault(access))),
      );
      const readable = status
        .shrU(MSTATUS.MXR)
        .and(1)
        .choose(bits.and(PTE.R | PTE.X), bits.and(PTE.R));
      const allowed = access
        .eq(ACCESS.LOAD)
        .choose(readable, access.eqz().select(bits.and(PTE.X), bits.and(PTE.W)));
      f.if(allowed.eqz(), () => fail(pageFault(access)));

      const inPage = f.let(I64.of(1).shl(shift).sub(1));
      const leaf = f.let(pte.shrU(PTE_PPN).and(PPN_MASK).shl(12));
      f.if(leaf.and(inPage).ne(0), () => fail(pageFault(access)));

      const wanted = f.let(bits.or(access.eq(ACCESS.STORE).select(I32.of(PTE.A | PTE.D), I32.of(PTE.A))));
      f.if(wanted.ne(bits), () => {
        f.if(get32(hart, "svade"), () => fail(pageFault(access)));
        f.if(entryWritable.call(hart, pteAt).eqz(), () => fail(accessFault(access)));
        f.brIf(restart, hva.cmpxchg64(pte, pte.or(wanted.extendU())).ne(pte));
      });
      f.store32(hart, shift.wrap().or(global.mul(LEAF_GLOBAL / PTE.G)), SCRATCH.leaf);
      f.return(leaf.or(va.and(inPage)));
    });
  });
});

/**
 * Translate, check and cache: (hart, guestVirt, ACCESS, size) → host address of the byte. 0 if it is not
 * memory: SCRATCH.fault is then an exception's cause, or NO_FAULT, and SCRATCH.guestPhys is a device's
 * address. The `size` bytes are in one page.
 */
export const fill = fn("fill", [I32, I64, I32, I32], I32, (f, hart, va, access, size) => {
  f.store32(hart, NO_FAULT, SCRATCH.fault);
  const priv = f.let(get32(hart, "priv"));
  // Only in M-mode can the privilege of data accesses differ.
  f.if(priv.eq(PRIV.M).and(access), () => priv.set(dataPrivilege.call(hart)));
  const pa = f.let(translate.call(hart, va, access, priv));
  f.if(hart.load32(SCRATCH.fault).ne(NO_FAULT), () => f.return(I32.of(0)));
  f.store64(hart, pa, SCRATCH.guestPhys);

  const isStore = f.let(access.eq(ACCESS.STORE));
  const slot = f.let(hart.load32(SCRATCH.windowSlot));
  const mayKeep = f.let(I32.of(PMP_ALLOWED));
  f.if(inWindow(hart, pa).eqz(), () => {
    const wanted = f.let(
      access.eqz().select(I32.of(PMP.X), access.eq(ACCESS.LOAD).select(I32.of(PMP.R), I32.of(PMP.W))),
    );
    mayKeep.set(pmpCheck.call(hart, pa.and(~0xfffn), PAGE_MASK + 1, wanted, priv));
    const decision = f.let<I32>(mayKeep);
    f.if(mayKeep.eq(PMP_PARTIAL), () => decision.set(pmpCheck.call(hart, pa, size, wanted, priv)));
    f.if(decision.ne(PMP_ALLOWED), () => {
      f.store32(hart, accessFault(access), SCRATCH.fault);
      f.return(I32.of(0));
    });
    slot.set(findSlot.call(hart, pa));
    f.if(slot.eqz(), () => f.return(I32.of(0)));
    f.if(isStore.and(slot.load32(SLOT_FLAGS)).and(SLOT_FLAG_READONLY), () => f.return(I32.of(0)));
    f.call(openWindow, hart, pa, slot);
  });
  f.if(isStore, () => f.call(markWritten, slot, pa));
  const hva = f.let(hostAddress(slot, pa));
  f.if(mayKeep.eq(PMP_ALLOWED), () => {
    const context = f.let(access.choose(dataContext(hart), fetchContext(hart)));
    const table = isStore.select(I32.of(CTX_WRITE), access.select(I32.of(CTX_READ), I32.of(CTX_FETCH)));
    f.call(insert, context, table, va, hva, hart.load32(SCRATCH.leaf));
    f.store64(hart, hart.load64(SCRATCH.refills).add(1), SCRATCH.refills);
  });
  return hva;
});
