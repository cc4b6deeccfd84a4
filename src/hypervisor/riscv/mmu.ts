// Address translation and guest memory access beyond the inline TLB hit (privileged specification, 4.3–4.6):
// page walk of Sv39, Sv48 and Sv57 with hardware A and D bits (Svadu), PMP, memory slots, dirty log, MMIO.
// A write TLB entry exists only for a page whose dirty bit is set and that is no code page.
import { I32, I64 } from "../../wasm/expr.ts";
import { fn, type Func, imported } from "../../wasm/function.ts";
import {
  CTL_DIRTY_COUNT,
  CTL_MMIO_DATA,
  CTL_SLOT_BANK,
  SLOT_CODE_OFFSET,
  SLOT_DIRTY_OFFSET,
  SLOT_ENTRIES,
  SLOT_ENTRY_SIZE,
  SLOT_FLAG_LOG_DIRTY,
  SLOT_FLAG_READONLY,
  SLOT_FLAGS,
  SLOT_GPA,
  SLOT_HOST_OFFSET,
  SLOT_SIZE,
  VM_CODE_STALE,
} from "../layout.ts";
import { CTX_FETCH, CTX_READ, CTX_WRITE, LEAF_GLOBAL, SCRATCH } from "./hart.ts";
import { PMP_ALLOWED, PMP_EXECUTE, PMP_PARTIAL, PMP_READ, PMP_WRITE, pmpCheck } from "./pmp.ts";
import { dataContext, dataPrivilege, fetchContext, insert, tlbEntry } from "./tlb.ts";
import { CAUSE, EVENT, get, get32, MSTATUS, raise, setEvent } from "./trap.ts";

const mmioRead = imported("host", "mmioRead", [I64, I32], I32);
const mmioWrite = imported("host", "mmioWrite", [I64, I32, I64], I32);

/** Kinds of access. 12 + kind is the page fault's cause. */
export const ACCESS = { FETCH: 0, LOAD: 1, STORE: 3 } as const;

/** SCRATCH.fault when a translation succeeded. */
const NO_FAULT = -1;
const PAGE_MASK = 0xfff;

const PTE = { V: 1, R: 2, W: 4, X: 8, U: 16, G: 32, A: 64, D: 128 } as const;
const PPN_MASK = (1n << 44n) - 1n;

const pageFault = (access: I32): I32 => access.add(CAUSE.INSTRUCTION_PAGE);
/** 1, 5, 7 for fetch, load, store. */
const accessFault = (access: I32): I32 => access.choose(access.add(4), I32.of(CAUSE.INSTRUCTION_ACCESS));

/** The memory slot that holds a guest-physical address: its entry, or 0. */
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
 * Before a page is written: set its bit in the slot's dirty log, if it has one, and count it if it is new; if code was
 * made from the page, that is stale now (CodePages.written, in the same order).
 */
const markWritten = fn("markWritten", [I32, I32, I64], undefined, (f, hart, slot, guestPhys) => {
  const page = f.let(guestPhys.sub(slot.load64(SLOT_GPA)).shrU(12).wrap());
  const bit = f.let(I32.of(1).shl(page));
  const word = f.let(page.shrU(5).shl(2));
  f.if(slot.load32(SLOT_FLAGS).and(SLOT_FLAG_LOG_DIRTY), () => {
    f.if(slot.load32(SLOT_DIRTY_OFFSET).add(word).rmw32("or", bit).and(bit).eqz(), () => {
      f.store32(hart, hart.load32(CTL_DIRTY_COUNT).add(1), CTL_DIRTY_COUNT);
    });
  });
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

/**
 * Walk the page table: (hart, guestVirt, ACCESS, privilege) → guest-physical address, SCRATCH.leaf; on failure
 * SCRATCH.fault.
 * Updates A and D by compare-and-swap and starts over if the entry changed meanwhile (4.3.2, steps 1–9).
 */
const translate = fn("translate", [I32, I64, I32, I32], I64, (f, hart, va, access, priv) => {
  const fail = (cause: I32): void => {
    f.store32(hart, cause, SCRATCH.fault);
    f.return(I64.of(0));
  };
  const satp = f.let(get(hart, "satp"));
  const mode = f.let(satp.shrU(60).wrap());
  f.store32(hart, 12, SCRATCH.leaf);
  f.if(priv.eq(3).or(mode.eqz()), () => f.return(va));

  // Sv39 is mode 8 and has 3 levels; the address must be sign-extended from its top bit.
  const top = f.let(mode.sub(6));
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
      f.if(pmpCheck.call(hart, pteAt, 8, PMP_READ, 1).ne(PMP_ALLOWED), () => fail(accessFault(access)));
      const slot = f.let(findSlot.call(hart, pteAt));
      f.if(slot.eqz(), () => fail(accessFault(access)));
      const host = f.let(hostAddress(slot, pteAt));
      const pte = f.let(host.atomicLoad64());
      const bits = f.let(pte.wrap());
      // Not valid, writable but not readable, or reserved bits (no Svnapot, no Svpbmt).
      const invalid = bits
        .and(PTE.V)
        .eqz()
        .or(bits.and(PTE.R | PTE.W).eq(PTE.W))
        .or(pte.shrU(54).ne(0));
      f.if(invalid, () => fail(pageFault(access)));

      // Global in a pointer: all below it is.
      global.set(global.or(bits.and(PTE.G)));
      f.if(bits.and(PTE.R | PTE.W | PTE.X).eqz(), () => {
        const mustBeZero = bits.and(PTE.D | PTE.A | PTE.U);
        f.if(mustBeZero.or(shift.eq(12)), () => fail(pageFault(access)));
        table.set(pte.shrU(10).and(PPN_MASK).shl(12));
        shift.set(shift.sub(9));
        f.br(descend);
      });

      f.if(
        bits.and(PTE.U),
        () => {
          // S-mode reaches user pages only with SUM, and never fetches from them.
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
      const leaf = f.let(pte.shrU(10).and(PPN_MASK).shl(12));
      f.if(leaf.and(inPage).ne(0), () => fail(pageFault(access)));

      const wanted = f.let(bits.or(access.eq(ACCESS.STORE).select(I32.of(PTE.A | PTE.D), I32.of(PTE.A))));
      f.if(wanted.ne(bits), () => {
        const writable = pmpCheck.call(hart, pteAt, 8, PMP_WRITE, 1).eq(PMP_ALLOWED);
        f.if(writable.eqz().or(slot.load32(SLOT_FLAGS).and(SLOT_FLAG_READONLY)), () =>
          fail(accessFault(access)),
        );
        f.call(markWritten, hart, slot, pteAt);
        f.brIf(restart, host.cmpxchg64(pte, pte.or(wanted.extendU())).ne(pte));
      });
      f.store32(hart, shift.wrap().or(global.mul(LEAF_GLOBAL / PTE.G)), SCRATCH.leaf);
      f.return(leaf.or(va.and(inPage)));
    });
  });
});

/**
 * Translate, check and cache: (hart, guestVirt, ACCESS, size) → host address of the byte. 0 if it is not memory:
 * then SCRATCH.fault is an exception's cause, or NO_FAULT and SCRATCH.guestPhys is a device's address.
 * `size` bytes lie in one page.
 */
const fill = fn("fill", [I32, I64, I32, I32], I32, (f, hart, va, access, size) => {
  f.store32(hart, NO_FAULT, SCRATCH.fault);
  const priv = f.let(access.eqz().choose(get32(hart, "priv"), dataPrivilege.call(hart)));
  const pa = f.let(translate.call(hart, va, access, priv));
  f.if(hart.load32(SCRATCH.fault).ne(NO_FAULT), () => f.return(I32.of(0)));
  f.store64(hart, pa, SCRATCH.guestPhys);

  const kind = access
    .eqz()
    .select(I32.of(PMP_EXECUTE), access.eq(ACCESS.LOAD).select(I32.of(PMP_READ), I32.of(PMP_WRITE)));
  const wanted = f.let(kind);
  const page = f.let(pmpCheck.call(hart, pa.and(~0xfffn), PAGE_MASK + 1, wanted, priv));
  const decision = f.let<I32>(page);
  f.if(page.eq(PMP_PARTIAL), () => decision.set(pmpCheck.call(hart, pa, size, wanted, priv)));
  f.if(decision.ne(PMP_ALLOWED), () => {
    f.store32(hart, accessFault(access), SCRATCH.fault);
    f.return(I32.of(0));
  });

  const slot = f.let(findSlot.call(hart, pa));
  const isStore = f.let(access.eq(ACCESS.STORE));
  f.if(slot.eqz(), () => f.return(I32.of(0)));
  f.if(isStore, () => {
    f.if(slot.load32(SLOT_FLAGS).and(SLOT_FLAG_READONLY), () => f.return(I32.of(0)));
    f.call(markWritten, hart, slot, pa);
  });
  const host = f.let(hostAddress(slot, pa));
  f.if(page.eq(PMP_ALLOWED), () => {
    const context = f.let(access.choose(dataContext(hart), fetchContext(hart)));
    const table = isStore.select(I32.of(CTX_WRITE), access.select(I32.of(CTX_READ), I32.of(CTX_FETCH)));
    f.call(insert, context, table, va, host, hart.load32(SCRATCH.leaf));
    f.store64(hart, hart.load64(SCRATCH.refills).add(1), SCRATCH.refills);
  });
  return host;
});

/** As `fill`, but looks into the TLB first; misaligned addresses are fine. */
const locate = fn("locate", [I32, I64, I32, I32], I32, (f, hart, va, access, size) => {
  const table = access.eq(ACCESS.STORE).select(I32.of(CTX_WRITE), I32.of(CTX_READ));
  const entry = f.let(tlbEntry(dataContext(hart).add(table), va));
  f.if(entry.load64().eq(va.and(~0xfffn)), () => f.return(va.wrap().add(entry.load32(8))));
  return fill.call(hart, va, access, size);
});

/** Host address of the page to fetch from, or 0 and the trap is taken. pc is stored; `va` may be beyond it. */
export const fetchPage = fn("fetchPage", [I32, I64], I32, (f, hart, va) => {
  const host = f.let(fill.call(hart, va, ACCESS.FETCH, 2));
  f.if(host, () => f.return(host.and(~PAGE_MASK)));
  const fault = f.let(hart.load32(SCRATCH.fault));
  f.if(fault.eq(NO_FAULT), () => fault.set(CAUSE.INSTRUCTION_ACCESS));
  f.call(raise, hart, fault.extendU(), va);
  return I32.of(0);
});

const splitsPage = (va: I64, size: I32): I32 =>
  va
    .wrap()
    .and(PAGE_MASK)
    .add(size)
    .gtU(PAGE_MASK + 1);

/** Raise what SCRATCH.fault says, or `ifDevice` if the address was a device's. */
function raiseFault(f: Func, hart: I32, va: I64, ifDevice: number): void {
  const fault = f.let(hart.load32(SCRATCH.fault));
  f.if(fault.eq(NO_FAULT), () => fault.set(ifDevice));
  f.call(raise, hart, fault.extendU(), va);
}

/** Load 1, 2, 4 or 8 bytes, zero-extended, when the TLB did not hit. On a trap SCRATCH.event says so. */
export const loadSlow = fn("loadSlow", [I32, I64, I32], I64, (f, hart, va, size) => {
  f.if(splitsPage(va, size), () => {
    const second = f.let(va.or(PAGE_MASK).add(1));
    const rest = f.let(second.sub(va));
    const tail = f.let(size.sub(rest.wrap()));
    const host = f.let(locate.call(hart, va, ACCESS.LOAD, rest.wrap()));
    f.if(host.eqz(), () => {
      raiseFault(f, hart, va, CAUSE.LOAD_MISALIGNED);
      f.return(I64.of(0));
    });
    const value = f.let(loadBytes.call(host, rest.wrap()));
    host.set(locate.call(hart, second, ACCESS.LOAD, tail));
    f.if(host.eqz(), () => {
      raiseFault(f, hart, second, CAUSE.LOAD_MISALIGNED);
      f.return(I64.of(0));
    });
    f.return(value.or(loadBytes.call(host, tail).shl(rest.shl(3))));
  });
  const host = f.let(locate.call(hart, va, ACCESS.LOAD, size));
  f.if(host, () => {
    f.if(size.eq(8), () => f.return(host.load64()));
    f.if(size.eq(4), () => f.return(host.load64From32U()));
    f.if(size.eq(2), () => f.return(host.load64From16U()));
    f.return(host.load64From8U());
  });
  const misaligned = va.wrap().and(size.sub(1)).ne(0);
  f.if(hart.load32(SCRATCH.fault).ne(NO_FAULT).or(misaligned), () => {
    raiseFault(f, hart, va, CAUSE.LOAD_MISALIGNED);
    f.return(I64.of(0));
  });
  setEvent(f, hart, EVENT.RESYNC);
  f.if(mmioRead.call(hart.load64(SCRATCH.guestPhys), size).eqz(), () => {
    f.call(raise, hart, CAUSE.LOAD_ACCESS, va);
    f.return(I64.of(0));
  });
  return hart.load64(CTL_MMIO_DATA);
});

/** `count` < 8 bytes, little-endian. */
const loadBytes = fn("loadBytes", [I32, I32], I64, (f, host, count) => {
  const value = f.let(I64.of(0));
  f.loop((again) => {
    count.set(count.sub(1));
    value.set(value.shl(8).or(host.add(count).load64From8U()));
    f.brIf(again, count);
  });
  return value;
});
const storeBytes = fn("storeBytes", [I32, I64, I32], undefined, (f, host, value, count) => {
  f.loop((again) => {
    f.store8(host, value);
    value.set(value.shrU(8));
    host.set(host.add(1));
    count.set(count.sub(1));
    f.brIf(again, count);
  });
});

/** Store the low 1, 2, 4 or 8 bytes of the value when the TLB did not hit. */
export const storeSlow = fn("storeSlow", [I32, I64, I64, I32], undefined, (f, hart, va, value, size) => {
  f.if(splitsPage(va, size), () => {
    const second = f.let(va.or(PAGE_MASK).add(1));
    const rest = f.let(second.sub(va));
    const tail = f.let(size.sub(rest.wrap()));
    // Both pages must be writable before a byte is written: traps are precise.
    const host = f.let(locate.call(hart, va, ACCESS.STORE, rest.wrap()));
    f.if(host.eqz(), () => {
      raiseFault(f, hart, va, CAUSE.STORE_MISALIGNED);
      f.return();
    });
    const host2 = f.let(locate.call(hart, second, ACCESS.STORE, tail));
    f.if(host2.eqz(), () => {
      raiseFault(f, hart, second, CAUSE.STORE_MISALIGNED);
      f.return();
    });
    f.call(storeBytes, host, value, rest.wrap());
    f.call(storeBytes, host2, value.shrU(rest.shl(3)), tail);
    f.return();
  });
  const host = f.let(locate.call(hart, va, ACCESS.STORE, size));
  f.if(host, () => {
    f.if(size.eq(8), () => {
      f.store64(host, value);
      f.return();
    });
    f.if(size.eq(4), () => {
      f.store32(host, value);
      f.return();
    });
    f.if(size.eq(2), () => {
      f.store16(host, value);
      f.return();
    });
    f.store8(host, value);
    f.return();
  });
  const misaligned = va.wrap().and(size.sub(1)).ne(0);
  f.if(hart.load32(SCRATCH.fault).ne(NO_FAULT).or(misaligned), () => {
    raiseFault(f, hart, va, CAUSE.STORE_MISALIGNED);
    f.return();
  });
  setEvent(f, hart, EVENT.RESYNC);
  f.if(mmioWrite.call(hart.load64(SCRATCH.guestPhys), size, value).eqz(), () =>
    f.call(raise, hart, CAUSE.STORE_ACCESS, va),
  );
});

/**
 * Host address of an atomic's operand: (hart, guestVirt, ACCESS, size). 0: the trap is taken. Must be aligned
 * and in memory; a device's address is an access fault.
 */
export const atomicAddress = fn("atomicAddress", [I32, I64, I32, I32], I32, (f, hart, va, access, size) => {
  f.if(va.wrap().and(size.sub(1)), () => {
    f.call(
      raise,
      hart,
      access.eq(ACCESS.LOAD).select(I64.of(CAUSE.LOAD_MISALIGNED), I64.of(CAUSE.STORE_MISALIGNED)),
      va,
    );
    f.return(I32.of(0));
  });
  const host = f.let(locate.call(hart, va, access, size));
  f.if(host.eqz(), () => {
    f.if(hart.load32(SCRATCH.fault).eq(NO_FAULT), () => f.store32(hart, accessFault(access), SCRATCH.fault));
    f.call(raise, hart, hart.load32(SCRATCH.fault).extendU(), va);
  });
  return host;
});

/** Host address for a cache-block operation (Zicbom: any right to the page will do; faults are those of a store). */
export const cacheBlockAddress = fn("cacheBlockAddress", [I32, I64, I32], I32, (f, hart, va, access) => {
  const host = f.let(locate.call(hart, va, access, 1));
  f.if(host.eqz(), () => {
    const fault = f.let(hart.load32(SCRATCH.fault));
    f.if(fault.eq(NO_FAULT), () => fault.set(CAUSE.STORE_ACCESS));
    f.if(fault.eq(CAUSE.LOAD_ACCESS).or(fault.eq(CAUSE.LOAD_PAGE)), () => fault.set(fault.add(2)));
    f.call(raise, hart, fault.extendU(), va);
  });
  return host;
});
