// Physical memory protection (privileged specification, 3.7): 16 entries, OFF, TOR, NA4, NAPOT, lock bits. As
// in QEMU, a hart with no active entry allows all S and U accesses; the specification would deny them.
import { PMP, PMP_ENTRIES, PMP_MODE } from "../../riscv/paging.ts";
import { PRIV } from "../../riscv/privilege.ts";
import { I32, I64 } from "../../wasm/expr.ts";
import { fn, type Func, type Local } from "../../wasm/function.ts";
import { hartLayout } from "./hart-layout.ts";
import { SCRATCH } from "../shared/hart-scratch.ts";

/** Results of pmpCheck; 0 is a denial. */
export const PMP_ALLOWED = 1;
/** The matching entry covers only a part of the range. For a single access that is a denial. */
export const PMP_PARTIAL = 2;

const CFG_OPEN = PMP.R | PMP.W | PMP.X;

/** First address of an active entry, and the one after its last. */
function range(f: Func, mode: I32, addr: I64, previous: I64): { low: Local<I64>; high: Local<I64> } {
  const low = f.let(addr.shl(2));
  const high = f.let<I64>(low);
  f.if(
    mode.eq(PMP_MODE.TOR),
    () => low.set(previous.shl(2)),
    () => {
      // The trailing ones of a NAPOT address give the size; NA4 has none.
      const span = f.let(mode.eq(PMP_MODE.NA4).select(I64.of(0), addr.xor(addr.add(1))));
      low.set(addr.and(span.not()).shl(2));
      high.set(low.add(span.add(1).shl(2)));
    },
  );
  return { low, high };
}

/** (hart, guestPhys, size in bytes, PMP.* access, privilege) → PMP_* result. */
export const pmpCheck = fn(
  "pmpCheck",
  [I32, I64, I32, I32, I32],
  I32,
  (f, hart, address, size, access, priv) => {
    const cfgAt = hartLayout.offsetOf("pmpcfg");
    const addrAt = hartLayout.offsetOf("pmpaddr");
    f.if(
      hart
        .load64(cfgAt)
        .or(hart.load64(cfgAt + 8))
        .eqz(),
      () => f.return(I32.of(PMP_ALLOWED)),
    );
    const active = f.let(I32.of(0));
    const i = f.let(I32.of(0));
    const previous = f.let(I64.of(0));
    const last = f.let(address.add(size.extendU()));
    f.loop((again) => {
      const cfg = f.let(hart.add(i).load8U(cfgAt));
      const mode = f.let(cfg.shrU(PMP.MODE).and(3));
      const addr = f.let(hart.add(i.shl(3)).load64(addrAt));
      f.if(mode, () => {
        active.set(1);
        const { low, high } = range(f, mode, addr, previous);
        f.if(address.ltU(high).and(last.gtU(low)), () => {
          f.if(address.ltU(low).or(last.gtU(high)), () => f.return(I32.of(PMP_PARTIAL)));
          f.if(priv.eq(PRIV.M).and(cfg.and(PMP.LOCKED).eqz()), () => f.return(I32.of(PMP_ALLOWED)));
          f.return(cfg.and(access).eq(access));
        });
      });
      previous.set(addr);
      i.set(i.add(1));
      f.brIf(again, i.ltU(PMP_ENTRIES));
    });
    return priv.eq(PRIV.M).or(active.eqz());
  },
);

/**
 * 1 if a guest-physical address is accessible in every way at every privilege; SCRATCH.openStart and openEnd
 * are then the range around it where the same entry, or none, matches.
 */
export const pmpOpenRange = fn("pmpOpenRange", [I32, I64], I32, (f, hart, address) => {
  f.store64(hart, 0, SCRATCH.openStart);
  f.store64(hart, -1, SCRATCH.openEnd);
  const active = f.let(I32.of(0));
  const i = f.let(I32.of(0));
  const previous = f.let(I64.of(0));
  const clamp = (low: I64, high: I64): void => {
    f.if(low.gtU(hart.load64(SCRATCH.openStart)), () => f.store64(hart, low, SCRATCH.openStart));
    f.if(high.ltU(hart.load64(SCRATCH.openEnd)), () => f.store64(hart, high, SCRATCH.openEnd));
  };
  f.loop((again) => {
    const cfg = f.let(hart.add(i).load8U(hartLayout.offsetOf("pmpcfg")));
    const mode = f.let(cfg.shrU(PMP.MODE).and(3));
    const addr = f.let(hart.add(i.shl(3)).load64(hartLayout.offsetOf("pmpaddr")));
    f.if(mode, () => {
      active.set(1);
      const { low, high } = range(f, mode, addr, previous);
      f.if(low.ltU(high), () => {
        f.if(address.geU(high), () => clamp(high, I64.of(-1)));
        f.if(address.ltU(low), () => clamp(I64.of(0), low));
        f.if(address.geU(low).and(address.ltU(high)), () => {
          clamp(low, high);
          f.return(cfg.and(CFG_OPEN).eq(CFG_OPEN));
        });
      });
    });
    previous.set(addr);
    i.set(i.add(1));
    f.brIf(again, i.ltU(PMP_ENTRIES));
  });
  return active.eqz();
});
