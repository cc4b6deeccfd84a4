// The interpreter: every row's meaning, with operands read from the instruction word, in one function with
// one br_table. An instruction is fetched through a host pointer into the current page, decoded by table
// (instruction-decoder.ts) and executed; registers stay in the hart's area, so the state is in memory
// whenever run() returns or calls an import. See docs/decisions/0001-interpreter-dispatch.md for
// measurements.
import { I32, I64 } from "../../wasm/expr.ts";
import { type Fn, fn, type Func, imported, type Label, type Local } from "../../wasm/function.ts";
import { CODE_EPOCH, CODE_HEAT, CODE_PROTECTION, CODE_STALE_DONE } from "../shared/code-cache.ts";
import { CODE_CACHE, CTL_KICK, DECODE_TABLES, VM_CODE_STALE } from "../shared/memory-map.ts";
import { decoder, EXPANSIONS, indexDecides, OPERATIONS } from "../isa/instruction-decoder.ts";
import type { ImmediateFormat } from "../isa/instruction-encoding.ts";
import { entryOf, findTranslation, jumpEntry, LEAVE, REGION, slotOf } from "./code-dispatch.ts";
import { CTX_FETCH, CTX_JUMPS, CTX_READ, CTX_WRITE } from "../hart/tlb-context.ts";
import { HEAT_ENTRIES, HEAT_OFFSET, SAMPLES_ENTRIES, SAMPLES_OFFSET } from "../shared/memory-map.ts";
import { SCRATCH } from "../shared/hart-scratch.ts";
import { hartLayout } from "../hart/hart-layout.ts";
import { fetchPage, loadSlow, storeSlow } from "../hart/mmu.ts";
import { interpretedFloat } from "./interpreter-float.ts";
import {
  loadAccess,
  type Row,
  type Semantics,
  SIZE_OF_LOAD,
  storeAccess,
} from "../isa/instruction-semantics.ts";
import {
  chooseContexts,
  dataContext,
  fetchContext,
  flushAllJumps,
  isSplit,
  prepareTlb,
  protectCode,
  tlbEntry,
} from "../hart/hart-tlb.ts";
import { EVENT, get, get32, raise, raiseIllegal, set, takeInterrupt } from "../hart/hart-traps.ts";
import { EXIT } from "../hart/engine-interface.ts";

/** Instructions between two polls of kick and interrupts. */
const POLL_INTERVAL = 1024;
/** Poll interval when most code is translated: about 10 µs. */
const TRANSLATED_POLL_INTERVAL = 8192;
/** Samples in a page's translated code before it is improved. */
const HOT_SAMPLES = 64;
const PAGE_SIZE = 4096;

/** Count `n` instructions: as executed, and as retired unless mcountinhibit prevents it. */
const retire = fn("retire", [I32, I32], undefined, (f, hart, n) => {
  f.store64(hart, hart.load64(SCRATCH.executed).add(n.extendU()), SCRATCH.executed);
  const inhibited = f.let(get32(hart, "mcountinhibit"));
  f.if(inhibited.and(1).eqz(), () => set(f, hart, "mcycle", get(hart, "mcycle").add(n.extendU())));
  f.if(inhibited.and(4).eqz(), () => set(f, hart, "minstret", get(hart, "minstret").add(n.extendU())));
});

/** Request: code at this host address is hot → non-zero if it is now translated. */
const hot = imported("env", "hot", [I32], I32);
/** Request: much time is spent in the translated code of the page at this host address. */
const improve = imported("env", "improve", [I32], undefined);
/** Create an instance of the module that fills this slot of the function table. */
const adopt = imported("env", "adopt", [I32], undefined);
/** Drop translations of code that has changed. */
const dropStale = imported("env", "dropStale", [], undefined);

/** Drop instances of modules that are no longer reachable. */
const dropRetired = imported("env", "dropRetired", [], undefined);

/** Before code that may have changed is executed: make sure that no jump leads to a stale translation. */
export const syncCode = fn("syncCode", [I32], undefined, (f, hart) => {
  const seen = I32.of(CODE_CACHE + CODE_STALE_DONE).atomicLoad32();
  f.if(I32.of(VM_CODE_STALE).atomicLoad32().ne(seen), () => f.call(dropStale));
  const epoch = f.let(I32.of(CODE_CACHE + CODE_EPOCH).atomicLoad32());
  f.if(epoch.ne(hart.load32(SCRATCH.codeEpoch)), () => {
    f.store32(hart, epoch, SCRATCH.codeEpoch);
    f.call(flushAllJumps, hart);
    f.call(dropRetired);
  });
  const protection = f.let(I32.of(CODE_CACHE + CODE_PROTECTION).atomicLoad32());
  f.if(protection.ne(hart.load32(SCRATCH.codeProtection)), () => {
    f.store32(hart, protection, SCRATCH.codeProtection);
    f.call(protectCode, hart);
  });
});

/** run(hart area, budget in instructions) → EXIT.*; `translates`: it runs and requests translated code. */
export function makeRun(
  translates: boolean,
  hasTotalStoreOrder = false,
): Fn<readonly [typeof I32, typeof I32], typeof I32> {
  return fn("run", [I32, I32], I32, (f, hart, budget) => {
    if (translates) {
      f.if(hart.load32(SCRATCH.ready).eqz(), () =>
        f.fill(hart.add(HEAT_OFFSET), I32.of(CODE_CACHE).load32(CODE_HEAT), HEAT_ENTRIES),
      );
    }
    f.call(prepareTlb, hart);
    new Interpreter(f, hart, budget, translates, hasTotalStoreOrder).emit();
  });
}

class Interpreter {
  readonly #f: Func;
  readonly #hart: I32;
  /** Instructions left in the budget, without the current slice. */
  readonly #remaining: Local<I32>;
  /** Instructions in the current slice, and how many of them are left. */
  readonly #slice: Local<I32>;
  readonly #countdown: Local<I32>;
  /** Host addresses of this instruction and the next, while they are in the page. */
  readonly #ip: Local<I32>;
  readonly #nextIp: Local<I32>;
  /** The page of fetches: host address and guest-virtual address. */
  readonly #pageHost: Local<I32>;
  readonly #pageVirt: Local<I64>;
  readonly #word: Local<I32>;
  readonly #operation: Local<I32>;
  readonly #dataContext: Local<I32>;
  /** False if the engine is the interpreter alone. */
  readonly #translates: boolean;
  readonly #hasTotalStoreOrder: boolean;
  /** Non-zero: interpret until the slice ends. */
  readonly #interpretOnly: Local<I32>;
  /** Check everything again; pc is stored. */
  #enter!: Label;
  /** Continue at the stored pc, in translated code if there is any. */
  #dispatch!: Label;
  /** Find the page of the stored pc. */
  #refetch!: Label;
  /** Execute the next instruction. */
  #next!: Label;

  constructor(f: Func, hart: I32, budget: Local<I32>, translates: boolean, hasTotalStoreOrder: boolean) {
    this.#hasTotalStoreOrder = hasTotalStoreOrder;
    this.#f = f;
    this.#translates = translates;
    this.#interpretOnly = f.let(I32.of(0));
    this.#hart = hart;
    this.#remaining = budget;
    this.#slice = f.let(I32.of(0));
    this.#countdown = f.let(I32.of(0));
    this.#ip = f.let(I32.of(0));
    this.#nextIp = f.let(I32.of(0));
    this.#pageHost = f.let(I32.of(0));
    this.#pageVirt = f.let(I64.of(0));
    this.#word = f.let(I32.of(0));
    this.#operation = f.let(I32.of(0));
    this.#dataContext = f.let(I32.of(0));
  }

  emit(): void {
    const f = this.#f;
    f.loop((enter) => {
      this.#enter = enter;
      this.#poll();
      f.loop((dispatch) => {
        this.#dispatch = dispatch;
        this.#enterTranslated();
        f.loop((refetch) => {
          this.#refetch = refetch;
          this.#findPage();
          this.#lookUp();
          f.loop((next) => {
            this.#next = next;
            this.#fetch();
            this.#decode();
            const cases = decoder().operations.map((rows) => () => this.#operationCode(rows));
            f.switch(this.#operation, cases, () => f.unreachable());
            f.br(next);
          });
        });
      });
    });
  }

  // ---- translated code ----

  /**
   * Run translated code from the jump cache for the stored pc, until it returns for an instruction that must
   * be interpreted.
   */
  #enterTranslated(): void {
    if (!this.#translates) return;
    const f = this.#f;
    const hart = this.#hart;
    const pc = f.let(get(hart, "pc"));
    const entry = f.let(jumpEntry(this.#dataContext, pc));
    const found = this.#interpretOnly.eqz().and(entry.load64(CTX_JUMPS).eq(pc));
    f.if(found, () => {
      const translation = f.let(entry.load32(CTX_JUMPS + 8));
      const slot = slotOf(translation);
      const before = f.let<I32>(this.#countdown);
      this.#countdown.set(
        REGION.callIndirect(slot, hart, this.#dataContext, this.#countdown, pc, entryOf(translation)),
      );
      const executed = before.sub(this.#countdown).extendS();
      f.store64(hart, hart.load64(SCRATCH.translated).add(executed), SCRATCH.translated);
      const leave = f.let(hart.load32(SCRATCH.leave));
      f.if(leave.eq(LEAVE.ADOPT), () => {
        // After tail calls it may have reached another slot than the first.
        const adopted = jumpEntry(this.#dataContext, get(hart, "pc"));
        f.call(adopt, slotOf(adopted.load32(CTX_JUMPS + 8)));
        f.br(this.#enter);
      });
      f.if(this.#countdown.leS(0), () => {
        f.if(this.#slice.sub(this.#countdown).geS(hart.load32(SCRATCH.untilSample)), () => this.#sample());
        f.br(this.#enter);
      });
      f.brIf(this.#enter, leave.eq(LEAVE.EVENT));
      f.brIf(this.#dispatch, leave.eq(LEAVE.LOOKUP));
      this.#interpretOnly.set(1);
      f.if(leave.eq(LEAVE.STEP), () => {
        this.#slice.set(this.#slice.sub(this.#countdown).add(1));
        this.#countdown.set(1);
      });
    });
  }

  /** Count a sample: if many fall into a page, better code is worthwhile. */
  #sample(): void {
    const f = this.#f;
    const pc = f.let(get(this.#hart, "pc"));
    const counter = f.let(
      this.#hart.add(
        pc
          .shrU(12)
          .wrap()
          .and(SAMPLES_ENTRIES - 1),
      ),
    );
    const count = f.let(counter.load8U(SAMPLES_OFFSET).add(1));
    f.store8(counter, count, SAMPLES_OFFSET);
    f.if(count.eq(HOT_SAMPLES), () => {
      const entry = f.let(tlbEntry(this.#dataContext, pc));
      const isMapped = entry.load64(CTX_FETCH).eq(pc.and(-PAGE_SIZE));
      f.if(isMapped, () => f.call(improve, pc.wrap().add(entry.load32(CTX_FETCH + 8))));
    });
  }

  /**
   * The page of the stored pc is known: if it has a translation, enter it in the jump cache and jump to it.
   */
  #lookUp(): void {
    if (!this.#translates) return;
    const f = this.#f;
    f.if(this.#interpretOnly.eqz(), () => {
      const translation = f.let(findTranslation(this.#nextIp));
      f.if(translation, () => {
        const pc = get(this.#hart, "pc");
        const entry = f.let(jumpEntry(this.#dataContext, pc));
        f.store64(entry, pc, CTX_JUMPS);
        f.store32(entry, translation, CTX_JUMPS + 8);
        f.br(this.#dispatch);
      });
      const heat = f.let(this.#heat());
      const left = f.let(heat.load8U(HEAT_OFFSET));
      f.store8(heat, left.sub(1), HEAT_OFFSET);
      f.if(left.eqz(), () => f.brIf(this.#enter, hot.call(this.#nextIp)));
    });
  }

  /**
   * Address of the next instruction's heat counter, minus HEAT_OFFSET. At 0 the code is hot; the counter then
   * restarts from 255.
   */
  #heat(): I32 {
    return this.#hart.add(this.#nextIp.shrU(1).and(HEAT_ENTRIES - 1));
  }

  /**
   * After a jump within the page: continue in translated code if there is any, or request it if the code is
   * hot.
   */
  #afterJump(): void {
    if (!this.#translates) return;
    const f = this.#f;
    const pc = f.let(this.#pageVirt.add(this.#nextIp.sub(this.#pageHost).extendS()));
    const heat = f.let(this.#heat());
    const left = f.let(heat.load8U(HEAT_OFFSET));
    const known = jumpEntry(this.#dataContext, pc).load64(CTX_JUMPS).eq(pc);
    f.if(known.or(left.eqz()), () => {
      set(f, this.#hart, "pc", pc);
      f.br(this.#dispatch);
    });
    f.store8(heat, left.sub(1), HEAT_OFFSET);
  }

  /** Account for the slice, leave on a kick, take an interrupt, start the next slice. */
  #poll(): void {
    const f = this.#f;
    const hart = this.#hart;
    this.#account();
    f.if(hart.atomicLoad32(CTL_KICK), () => f.return(I32.of(EXIT.KICK)));
    f.if(this.#remaining.leS(0), () => f.return(I32.of(EXIT.SLICE)));
    f.call(takeInterrupt, hart);
    f.store32(hart, EVENT.NONE, SCRATCH.event);
    f.call(chooseContexts, hart);
    this.#dataContext.set(dataContext(hart));
    if (this.#translates) {
      f.call(syncCode, hart);
      // Translated code has one context for loads, stores and jumps.
      this.#interpretOnly.set(isSplit(hart));
    }
    const slice = f.let(I32.of(POLL_INTERVAL));
    if (this.#translates) {
      // A slice ends where a sample is due, however many slices were cut short before.
      slice.set(hart.load32(SCRATCH.untilSample));
      f.if(slice.leS(0), () => {
        slice.set(TRANSLATED_POLL_INTERVAL);
        f.store32(hart, slice, SCRATCH.untilSample);
      });
    }
    this.#slice.set(this.#remaining.ltS(slice).select<I32>(this.#remaining, slice));
    this.#countdown.set(this.#slice);
  }

  #account(): void {
    const f = this.#f;
    const executed = f.let(this.#slice.sub(this.#countdown));
    f.call(retire, this.#hart, executed);
    if (this.#translates) {
      const left = this.#hart.load32(SCRATCH.untilSample).sub(executed);
      f.store32(this.#hart, left, SCRATCH.untilSample);
    }
    this.#remaining.set(this.#remaining.sub(executed));
    this.#slice.set(this.#countdown);
  }

  #findPage(): void {
    const f = this.#f;
    // Not for an instruction that does not fit in the slice: its trap, and the page's A bit, can wait.
    f.brIf(this.#enter, this.#countdown.leS(0));
    const pc = f.let(get(this.#hart, "pc"));
    this.#pageVirt.set(pc.and(-PAGE_SIZE));
    this.#pageHost.set(this.#hostPage(pc));
    this.#nextIp.set(this.#pageHost.add(pc.wrap().and(PAGE_SIZE - 1)));
  }

  /**
   * Host address of the page to fetch from, by TLB lookup or page walk; a trap is taken if that raises one.
   */
  #hostPage(va: Local<I64>): I32 {
    const f = this.#f;
    const entry = f.let(tlbEntry(fetchContext(this.#hart), va));
    const page = f.let(va.and(-PAGE_SIZE));
    const hva = f.let(page.wrap().add(entry.load32(CTX_FETCH + 8)));
    f.if(entry.load64(CTX_FETCH).ne(page), () => {
      hva.set(fetchPage.call(this.#hart, va));
      f.if(hva.eqz(), () => {
        // Counts as an instruction, so that a handler that faults itself uses up its budget.
        this.#countdown.set(this.#countdown.sub(1));
        f.br(this.#enter);
      });
    });
    return hva;
  }

  #fetch(): void {
    const f = this.#f;
    this.#ip.set(this.#nextIp);
    f.if(this.#countdown.eqz(), () => {
      this.#storePc();
      f.br(this.#enter);
    });
    const inPage = this.#ip.sub(this.#pageHost);
    f.block((fetched) => {
      f.block((edge) => {
        f.brIf(edge, inPage.gtU(PAGE_SIZE - 4));
        this.#word.set(this.#ip.load32());
        f.br(fetched);
      });
      // Beyond the page, or its last halfword.
      this.#storePc();
      f.brIf(this.#refetch, inPage.geU(PAGE_SIZE));
      this.#word.set(this.#ip.load16U());
      f.if(this.#word.and(3).eq(3), () => {
        const second = f.let(this.#pageVirt.add(PAGE_SIZE));
        const hva = this.#hostPage(second);
        this.#word.set(this.#word.or(hva.load16U().shl(16)));
      });
    });
    this.#countdown.set(this.#countdown.sub(1));
  }

  #decode(): void {
    const f = this.#f;
    const word = this.#word;
    f.if(
      word.and(3).eq(3),
      () => {
        this.#nextIp.set(this.#ip.add(4));
        const index = word.shrU(17).and(0x7f00).or(word.shrU(7).and(0xe0)).or(word.shrU(2).and(0x1f));
        this.#operation.set(index.load8U(DECODE_TABLES + OPERATIONS));
      },
      () => {
        this.#nextIp.set(this.#ip.add(2));
        const entry = f.let(word.and(0xffff).shl(3));
        word.set(entry.load32(DECODE_TABLES + EXPANSIONS));
        this.#operation.set(entry.load32(DECODE_TABLES + EXPANSIONS + 4));
      },
    );
  }

  #operationCode(rows: readonly Row[]): void {
    for (const row of rows) {
      const semantics = this.#semantics(row.immediate);
      if (rows.length === 1 && indexDecides(row)) {
        row.meaning(semantics);
        return;
      }
      // The meaning continues at the end of the case, after the other candidates.
      this.#f.block((other) => {
        this.#f.brIf(other, this.#word.and(row.mask | 0).ne(row.match | 0));
        row.meaning(semantics);
        this.#f.br(this.#next);
      });
    }
    this.#semantics(undefined).illegal();
  }

  #pc(): I64 {
    return this.#pageVirt.add(this.#ip.sub(this.#pageHost).extendS());
  }

  #storePc(): void {
    set(this.#f, this.#hart, "pc", this.#pc());
  }

  #semantics(format: ImmediateFormat | undefined): Semantics {
    const f = this.#f;
    const hart = this.#hart;
    const word = this.#word;
    const x = hartLayout.offsetOf("x");
    /** Address of the 8-byte register whose number is at bit `low` ≥ 7. */
    const register = (low: number): I32 => hart.add(word.shrU(low - 3).and(0xf8));
    const field = (low: number, width: number): I32 => {
      const shifted = low === 0 ? word : word.shrU(low);
      return low + width === 32 ? shifted : shifted.and(2 ** width - 1);
    };
    const imm = (): I32 => {
      switch (format) {
        case "I":
          return word.shrS(20);
        case "S":
          return word.shrS(20).and(~31).or(field(7, 5));
        case "B":
          return word
            .shrS(19)
            .and(~0xfff)
            .or(word.shl(4).and(0x800))
            .or(word.shrU(20).and(0x7e0))
            .or(word.shrU(7).and(0x1e));
        case "U":
          return word.and(~0xfff);
        case "J":
          return word
            .shrS(11)
            .and(~0xfffff)
            .or(word.and(0xff000))
            .or(word.shrU(9).and(0x800))
            .or(word.shrU(20).and(0x7fe));
        default:
          throw new RangeError("the row's encoding has no immediate");
      }
    };
    /** The address as a TLB tag: its page, and the low bits, which are not 0 if the access is misaligned. */
    const tag = (va: I64, size: number): I64 => va.and(BigInt(-PAGE_SIZE) | BigInt(size - 1));
    const trap = (cause: I64 | number, tval: I64 | number): void => {
      this.#storePc();
      f.call(raise, hart, cause, tval);
      f.br(this.#enter);
    };
    // The next fetch detects a jump out of the page.
    const jumpBy = (offset: I32): void => {
      this.#nextIp.set(this.#ip.add(offset));
      if (!this.#translates) return;
      const isInPage = this.#nextIp.sub(this.#pageHost).ltU(PAGE_SIZE);
      f.if(isInPage, () =>
        f.if(
          this.#nextIp.leU(this.#ip),
          () => this.#afterJump(),
          () => {
            // The translator leaves out branch targets that were never reached.
            const heat = f.let(this.#heat());
            const left = f.let(heat.load8U(HEAT_OFFSET));
            f.store8(heat, left.sub(left.ne(0)), HEAT_OFFSET);
          },
        ),
      );
    };
    const self: Semantics = {
      f,
      hart,
      word,
      get rs1() {
        return register(15).load64(x);
      },
      get rs2() {
        return register(20).load64(x);
      },
      hasTotalStoreOrder: this.#hasTotalStoreOrder,
      get float() {
        return interpretedFloat(self, register);
      },
      get imm() {
        return imm().extendS();
      },
      pc: this.#pc(),
      nextPc: this.#pageVirt.add(this.#nextIp.sub(this.#pageHost).extendS()),
      field,
      setRd: (value) => {
        f.store64(register(7), value, x);
        // Cheaper than a test whether rd is x0.
        f.store64(hart, 0, x);
      },
      jump: (target) => {
        const to = f.let(target);
        const inPage = f.let(to.sub(this.#pageVirt));
        f.if(
          inPage.ltU(PAGE_SIZE),
          () => {
            this.#nextIp.set(this.#pageHost.add(inPage.wrap()));
            this.#afterJump();
          },
          () => {
            set(f, hart, "pc", to);
            f.br(this.#dispatch);
          },
        );
      },
      branch: (condition) => f.if(condition, () => jumpBy(imm())),
      jumpImmediate: () => jumpBy(imm()),
      load: (kind, address) => {
        const [fromHost, extend] = loadAccess[kind];
        const size = SIZE_OF_LOAD[kind];
        const va = f.let(address);
        const value = f.let(I64.of(0));
        const entry = f.let(tlbEntry(this.#dataContext, va));
        f.if(
          entry.load64(CTX_READ).eq(tag(va, size)),
          () => value.set(fromHost(va.wrap().add(entry.load32(CTX_READ + 8)))),
          () => {
            this.#storePc();
            // A device may read the clock, which counts instructions under --icount.
            self.syncCounters();
            value.set(extend(loadSlow.call(hart, va, size)));
            self.checkEvent();
          },
        );
        return value;
      },
      store: (size, address, value) => {
        const va = f.let(address);
        const entry = f.let(tlbEntry(this.#dataContext, va));
        f.if(
          entry.load64(CTX_WRITE).eq(tag(va, size)),
          () => storeAccess(f, size, va.wrap().add(entry.load32(CTX_WRITE + 8)), value),
          () => {
            this.#storePc();
            self.syncCounters();
            f.call(storeSlow, hart, va, value, size);
            self.checkEvent();
          },
        );
      },
      guard: (call) => {
        this.#storePc();
        const value = f.let(call);
        self.checkEvent();
        return value;
      },
      checkEvent: () => {
        const event = f.let(hart.load32(SCRATCH.event));
        f.if(event, () => {
          f.brIf(this.#enter, event.eq(EVENT.TRAPPED));
          // Ends the slice after this instruction.
          f.store32(hart, EVENT.NONE, SCRATCH.event);
          this.#slice.set(this.#slice.sub(this.#countdown));
          this.#countdown.set(0);
        });
      },
      syncCounters: () => {
        // This instruction is not retired yet.
        this.#countdown.set(this.#countdown.add(1));
        this.#account();
        this.#countdown.set(this.#countdown.sub(1));
      },
      trap,
      trapDynamic: (cause) => trap(cause, 0),
      illegal: () => {
        this.#storePc();
        // The expansion is not the instruction in memory.
        const short = this.#nextIp.sub(this.#ip).eq(2);
        f.call(raiseIllegal, hart, short.choose(this.#ip.load16U(), word));
        f.br(this.#enter);
      },
      resume: () => f.br(this.#enter),
      exit: (reason, where) => {
        if (where === "here") this.#storePc();
        else set(f, hart, "pc", self.nextPc);
        this.#account();
        f.return(I32.of(reason));
      },
    };
    return self;
  }
}
