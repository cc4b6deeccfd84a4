// Loads and stores of first translations: a call is a third of the code of an inline TLB lookup, which only
// improved translations have (translator/instruction-writer.ts).
import { I32, I64 } from "../../wasm/expr.ts";
import { type Fn, fn } from "../../wasm/function.ts";
import { tlbEntry } from "../hart/hart-tlb.ts";
import { loadSlowAt, storeSlowAt } from "../hart/mmu.ts";
import { CTX_READ, CTX_WRITE } from "../hart/tlb-context.ts";
import {
  loadAccess,
  type LoadKind,
  SIZE_OF_LOAD,
  storeAccess,
  type StoreSize,
} from "../isa/instruction-semantics.ts";

/** The tag of the TLB entry with which an access needs no slow path: its page, if it is aligned. */
export const tagOf = (va: I64, size: StoreSize): I64 => va.and(-4096n | BigInt(size - 1));

type Load = Fn<readonly [typeof I32, typeof I32, typeof I64, typeof I64], typeof I64>;
type Store = Fn<readonly [typeof I32, typeof I32, typeof I64, typeof I64, typeof I64], undefined>;

function makeLoad(kind: LoadKind): Load {
  const size = SIZE_OF_LOAD[kind];
  const [read, extend] = loadAccess[kind];
  return fn(`loadAt${kind}`, [I32, I32, I64, I64], I64, (f, hart, context, va, pc) => {
    const entry = f.let(tlbEntry(context, va));
    const isFound = entry.load64(CTX_READ).eq(tagOf(va, size));
    f.if(isFound, () => f.return(read(va.wrap().add(entry.load32(CTX_READ + 8)))), undefined, true);
    return extend(loadSlowAt.call(hart, va, pc, size));
  });
}

function makeStore(size: StoreSize): Store {
  return fn(`storeAt${size}`, [I32, I32, I64, I64, I64], undefined, (f, hart, context, va, value, pc) => {
    const entry = f.let(tlbEntry(context, va));
    const isFound = entry.load64(CTX_WRITE).eq(tagOf(va, size));
    f.if(
      isFound,
      () => {
        storeAccess(f, size, va.wrap().add(entry.load32(CTX_WRITE + 8)), value);
        f.return();
      },
      undefined,
      true,
    );
    f.call(storeSlowAt, hart, va, value, pc, size);
  });
}

/**
 * By kind, (hart, context, virtual address, pc) → value. Afterwards SCRATCH.event is not 0 if the load was
 * not done: a trap, or EVENT.DEVICE.
 */
export const loadAt: Readonly<Record<LoadKind, Load>> = {
  "8S": makeLoad("8S"),
  "8U": makeLoad("8U"),
  "16S": makeLoad("16S"),
  "16U": makeLoad("16U"),
  "32S": makeLoad("32S"),
  "32U": makeLoad("32U"),
  "64": makeLoad("64"),
};

/** By size, (hart, context, virtual address, value, pc); see `loadAt`. */
export const storeAt: Readonly<Record<StoreSize, Store>> = {
  1: makeStore(1),
  2: makeStore(2),
  4: makeStore(4),
  8: makeStore(8),
};
