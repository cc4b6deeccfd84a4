// Guest memory accesses that miss the inline TLB lookup: page walks (page-walk.ts), devices, misaligned
// accesses and those that span two pages, addresses of atomics and of cache blocks. Traps are precise:
// nothing is written unless everything can be written. `va` is a guest-virtual address; `hva` is a host
// address, an offset in the shared memory.
import { I32, I64 } from "../../wasm/expr.ts";
import { fn, type Func, imported } from "../../wasm/function.ts";
import { CTL_MMIO_DATA } from "../shared/memory-map.ts";
import { CTX_READ, CTX_WRITE } from "./tlb-context.ts";
import { SCRATCH } from "../shared/hart-scratch.ts";
import { dataContext, tlbEntry } from "./hart-tlb.ts";
import { CAUSE } from "../../riscv/causes.ts";
import { EVENT, raise, set, setEvent } from "./hart-traps.ts";
import { ACCESS, accessFault, fill, NO_FAULT, PAGE_MASK } from "./page-walk.ts";

const mmioRead = imported("env", "mmioRead", [I64, I32], I32);
const mmioWrite = imported("env", "mmioWrite", [I64, I32, I64], I32);

/** As `fill`, but with a TLB lookup first; misaligned addresses are allowed. */
const locate = fn("locate", [I32, I64, I32, I32], I32, (f, hart, va, access, size) => {
  const table = access.eq(ACCESS.STORE).select(I32.of(CTX_WRITE), I32.of(CTX_READ));
  const entry = f.let(tlbEntry(dataContext(hart).add(table), va));
  f.if(entry.load64().eq(va.and(~0xfffn)), () => f.return(va.wrap().add(entry.load32(8))));
  return fill.call(hart, va, access, size);
});

/** Host address of the page to fetch from; 0 if a trap was taken. pc is stored; `va` may be after it. */
export const fetchPage = fn("fetchPage", [I32, I64], I32, (f, hart, va) => {
  const hva = f.let(fill.call(hart, va, ACCESS.FETCH, 2));
  f.if(hva, () => f.return(hva.and(~PAGE_MASK)));
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

/** Raise the exception in SCRATCH.fault, or `ifDevice` if the address is a device's. */
function raiseFault(f: Func, hart: I32, va: I64, ifDevice: number): void {
  const fault = f.let(hart.load32(SCRATCH.fault));
  f.if(fault.eq(NO_FAULT), () => fault.set(ifDevice));
  f.call(raise, hart, fault.extendU(), va);
}

/**
 * Load 1, 2, 4 or 8 bytes, zero-extended, after a TLB miss. SCRATCH.event tells of a trap; loadDevice handles
 * a device's address.
 */
const loadMemory = fn("loadMemory", [I32, I64, I32], I64, (f, hart, va, size) => {
  f.if(splitsPage(va, size), () => {
    const second = f.let(va.or(PAGE_MASK).add(1));
    const rest = f.let(second.sub(va));
    const tail = f.let(size.sub(rest.wrap()));
    const hva = f.let(locate.call(hart, va, ACCESS.LOAD, rest.wrap()));
    f.if(hva.eqz(), () => {
      raiseFault(f, hart, va, CAUSE.LOAD_MISALIGNED);
      f.return(I64.of(0));
    });
    const value = f.let(loadBytes.call(hva, rest.wrap()));
    hva.set(locate.call(hart, second, ACCESS.LOAD, tail));
    f.if(hva.eqz(), () => {
      raiseFault(f, hart, second, CAUSE.LOAD_MISALIGNED);
      f.return(I64.of(0));
    });
    f.return(value.or(loadBytes.call(hva, tail).shl(rest.shl(3))));
  });
  const hva = f.let(locate.call(hart, va, ACCESS.LOAD, size));
  f.if(hva, () => {
    f.if(size.eq(8), () => f.return(hva.load64()));
    f.if(size.eq(4), () => f.return(hva.load64From32U()));
    f.if(size.eq(2), () => f.return(hva.load64From16U()));
    f.return(hva.load64From8U());
  });
  const misaligned = va.wrap().and(size.sub(1)).ne(0);
  f.if(hart.load32(SCRATCH.fault).ne(NO_FAULT).or(misaligned), () => {
    raiseFault(f, hart, va, CAUSE.LOAD_MISALIGNED);
    f.return(I64.of(0));
  });
  setEvent(f, hart, EVENT.DEVICE);
  return I64.of(0);
});

/** Load from memory or from a device; a device access ends the slice. */
export const loadSlow = fn("loadSlow", [I32, I64, I32], I64, (f, hart, va, size) => {
  const value = f.let(loadMemory.call(hart, va, size));
  f.if(hart.load32(SCRATCH.event).ne(EVENT.DEVICE), () => f.return(value));
  setEvent(f, hart, EVENT.RESYNC);
  f.if(mmioRead.call(hart.load64(SCRATCH.guestPhys), size).eqz(), () => {
    f.call(raise, hart, CAUSE.LOAD_ACCESS, va);
    f.return(I64.of(0));
  });
  return hart.load64(CTL_MMIO_DATA);
});

/** Load for translated code, which has not stored its pc: a device's address sets EVENT.DEVICE. */
export const loadSlowAt = fn("loadSlowAt", [I32, I64, I64, I32], I64, (f, hart, va, pc, size) => {
  set(f, hart, "pc", pc);
  return loadMemory.call(hart, va, size);
});

/** `count` < 8 bytes, little-endian. */
const loadBytes = fn("loadBytes", [I32, I32], I64, (f, hva, count) => {
  const value = f.let(I64.of(0));
  f.loop((again) => {
    count.set(count.sub(1));
    value.set(value.shl(8).or(hva.add(count).load64From8U()));
    f.brIf(again, count);
  });
  return value;
});
const storeBytes = fn("storeBytes", [I32, I64, I32], undefined, (f, hva, value, count) => {
  f.loop((again) => {
    f.store8(hva, value);
    value.set(value.shrU(8));
    hva.set(hva.add(1));
    count.set(count.sub(1));
    f.brIf(again, count);
  });
});

/** Store the low 1, 2, 4 or 8 bytes of the value after a TLB miss. */
const storeMemory = fn("storeMemory", [I32, I64, I64, I32], undefined, (f, hart, va, value, size) => {
  f.if(splitsPage(va, size), () => {
    const second = f.let(va.or(PAGE_MASK).add(1));
    const rest = f.let(second.sub(va));
    const tail = f.let(size.sub(rest.wrap()));
    // Both pages must be writable before any byte is written: traps are precise.
    const hva = f.let(locate.call(hart, va, ACCESS.STORE, rest.wrap()));
    f.if(hva.eqz(), () => {
      raiseFault(f, hart, va, CAUSE.STORE_MISALIGNED);
      f.return();
    });
    const hva2 = f.let(locate.call(hart, second, ACCESS.STORE, tail));
    f.if(hva2.eqz(), () => {
      raiseFault(f, hart, second, CAUSE.STORE_MISALIGNED);
      f.return();
    });
    f.call(storeBytes, hva, value, rest.wrap());
    f.call(storeBytes, hva2, value.shrU(rest.shl(3)), tail);
    f.return();
  });
  const hva = f.let(locate.call(hart, va, ACCESS.STORE, size));
  f.if(hva, () => {
    f.if(size.eq(8), () => {
      f.store64(hva, value);
      f.return();
    });
    f.if(size.eq(4), () => {
      f.store32(hva, value);
      f.return();
    });
    f.if(size.eq(2), () => {
      f.store16(hva, value);
      f.return();
    });
    f.store8(hva, value);
    f.return();
  });
  const misaligned = va.wrap().and(size.sub(1)).ne(0);
  f.if(hart.load32(SCRATCH.fault).ne(NO_FAULT).or(misaligned), () => {
    raiseFault(f, hart, va, CAUSE.STORE_MISALIGNED);
    f.return();
  });
  setEvent(f, hart, EVENT.DEVICE);
});

/** Store to memory or to a device; a device access ends the slice. */
export const storeSlow = fn("storeSlow", [I32, I64, I64, I32], undefined, (f, hart, va, value, size) => {
  f.call(storeMemory, hart, va, value, size);
  f.if(hart.load32(SCRATCH.event).ne(EVENT.DEVICE), () => f.return());
  setEvent(f, hart, EVENT.RESYNC);
  f.if(mmioWrite.call(hart.load64(SCRATCH.guestPhys), size, value).eqz(), () =>
    f.call(raise, hart, CAUSE.STORE_ACCESS, va),
  );
});

/** Store for translated code, which has not stored its pc: a device's address sets EVENT.DEVICE. */
export const storeSlowAt = fn(
  "storeSlowAt",
  [I32, I64, I64, I64, I32],
  undefined,
  (f, hart, va, value, pc, size) => {
    set(f, hart, "pc", pc);
    f.call(storeMemory, hart, va, value, size);
  },
);

/**
 * Host address of an atomic's operand: (hart, guestVirt, ACCESS, size). 0 if a trap was taken. The operand
 * must be aligned and in memory; a device's address is an access fault.
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
  const hva = f.let(locate.call(hart, va, access, size));
  f.if(hva.eqz(), () => {
    f.if(hart.load32(SCRATCH.fault).eq(NO_FAULT), () => f.store32(hart, accessFault(access), SCRATCH.fault));
    f.call(raise, hart, hart.load32(SCRATCH.fault).extendU(), va);
  });
  return hva;
});

/**
 * Host address for a cache-block operation (Zicbom: any permission to access the page suffices; faults are
 * those of a store).
 */
export const cacheBlockAddress = fn("cacheBlockAddress", [I32, I64, I32], I32, (f, hart, va, access) => {
  const hva = f.let(locate.call(hart, va, access, 1));
  f.if(hva.eqz(), () => {
    const fault = f.let(hart.load32(SCRATCH.fault));
    f.if(fault.eq(NO_FAULT), () => fault.set(CAUSE.STORE_ACCESS));
    f.if(fault.eq(CAUSE.LOAD_ACCESS).or(fault.eq(CAUSE.LOAD_PAGE)), () => fault.set(fault.add(2)));
    f.call(raise, hart, fault.extendU(), va);
  });
  return hva;
});
