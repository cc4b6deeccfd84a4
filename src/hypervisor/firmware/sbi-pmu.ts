// SBI's Performance Monitoring Unit extension (SBI 3.0, chapter 11): the counters of cycles and of
// instructions, which mcountinhibit stops, and counters of firmware events. Events are counted in all modes:
// the flags that inhibit one are hints. There is no overflow interrupt (Sscofpmf), and no hardware event
// besides these two.
import { ALL_ONES } from "../../base/uint64.ts";
import { bit } from "../../riscv/bits.ts";
import { COUNTER } from "../../riscv/envcfg.ts";
import {
  PMU_COUNTERS,
  PMU_CYCLES,
  PMU_EVENT_MAX,
  PMU_FIRST_FIRMWARE,
  PMU_INSTRUCTIONS,
} from "../../riscv/firmware-features.ts";
import { CSR_NUMBERS } from "../../riscv/registers.ts";
import type { HartImage } from "../hart/hart-image.ts";
import type { VcpuRequests } from "../requests/vcpu-requests.ts";
import type { SlotMemory } from "../shared/memory-slots.ts";
import { LAST_FIRMWARE_EVENT, PMU_TYPE_FIRMWARE } from "./firmware-counters.ts";
import { fail, ok, SBI_ERR, type SbiReturn } from "./sbi-return.ts";

/** Hardware general events that are counted. */
const HW_CPU_CYCLES = 1n;
const HW_INSTRUCTIONS = 2n;

const CONFIG = { SKIP_MATCH: 1n, CLEAR_VALUE: 2n, AUTO_START: 4n } as const;
/** With the hints UINH, SINH and so on. */
const CONFIG_FLAGS = 0xffn;
const START = { SET_INIT_VALUE: 1n, INIT_SNAPSHOT: 2n } as const;
const START_FLAGS = START.SET_INIT_VALUE | START.INIT_SNAPSHOT;
const STOP = { RESET: 1n, TAKE_SNAPSHOT: 2n } as const;
const STOP_FLAGS = STOP.RESET | STOP.TAKE_SNAPSHOT;

const COUNTER_WIDTH = 63n << 12n;
const FIRMWARE_COUNTER = bit(63);

const SNAPSHOT_SIZE = 4096;
/** The counters' values in a snapshot; before them is the bitmap of overflows, always 0 here. */
const SNAPSHOT_VALUES = 8;

const EVENT_INFO_SIZE = 16;
/** Entries that one call of event_get_info answers at most: it runs to its end before the hart can pause. */
const EVENT_INFO_MAX = 4096n;

const isFirmware = (counter: number): boolean => counter >= PMU_FIRST_FIRMWARE;
const exists = (counter: bigint): boolean => counter < BigInt(PMU_COUNTERS) && counter !== 1n;

/** Whether a counter can count this event; nonzero data is reserved for all events here. */
function canCount(counter: number, event: bigint, data: bigint): boolean {
  if (data !== 0n || event > PMU_EVENT_MAX) return false;
  if (counter === PMU_CYCLES) return event === HW_CPU_CYCLES;
  if (counter === PMU_INSTRUCTIONS) return event === HW_INSTRUCTIONS;
  const isFirmwareEvent = Number(event >> 16n) === PMU_TYPE_FIRMWARE;
  return isFirmwareEvent && Number(event & 0xffffn) <= LAST_FIRMWARE_EVENT;
}

/** A counter of a set: its number, and its place in the set. */
interface Member {
  readonly counter: number;
  readonly place: number;
}

export class SbiPmu {
  readonly #hart: HartImage;
  readonly #memory: SlotMemory;
  readonly #me: VcpuRequests;

  constructor(hart: HartImage, memory: SlotMemory, me: VcpuRequests) {
    this.#hart = hart;
    this.#memory = memory;
    this.#me = me;
  }

  /** `args` are a0 to a4. */
  call(func: number, args: readonly bigint[]): SbiReturn {
    const [a0 = 0n, a1 = 0n, a2 = 0n, a3 = 0n, a4 = 0n] = args;
    switch (func) {
      case 0:
        return ok(BigInt(PMU_COUNTERS));
      case 1:
        return this.#info(a0);
      case 2:
        return this.#configure(this.#set(a0, a1), a2, a3, a4);
      case 3:
        return this.#start(this.#set(a0, a1), a2, a3);
      case 4:
        return this.#stop(this.#set(a0, a1), a2);
      case 5:
      case 6:
        if (!exists(a0) || !isFirmware(Number(a0))) return fail(SBI_ERR.INVALID_PARAM);
        // The second function is for the upper half of a counter on RV32.
        return ok(func === 5 ? this.#value(Number(a0)) : 0n);
      case 7:
        return this.#setSnapshot(a0, a1, a2);
      case 8:
        return this.#eventInfo(a0, a1, a2, a3);
      default:
        return fail(SBI_ERR.NOT_SUPPORTED);
    }
  }

  #info(counter: bigint): SbiReturn {
    if (!exists(counter)) return fail(SBI_ERR.INVALID_PARAM);
    if (isFirmware(Number(counter))) return ok(FIRMWARE_COUNTER);
    const csr = CSR_NUMBERS.get(Number(counter) === PMU_CYCLES ? "cycle" : "instret") as number;
    return ok(BigInt(csr) | COUNTER_WIDTH);
  }

  /** The counters of a base and a mask; undefined if one does not exist. */
  #set(base: bigint, mask: bigint): Member[] | undefined {
    const members: Member[] = [];
    for (let place = 0; place < 64; place++) {
      if ((mask & bit(place)) === 0n) continue;
      const counter = base + BigInt(place);
      if (!exists(counter)) return undefined;
      members.push({ counter: Number(counter), place });
    }
    return members;
  }

  // ---- one counter ----

  /** 0: the counter is free. */
  #event(counter: number): bigint {
    return this.#hart.get("pmuEvent", counter);
  }

  #runs(counter: number): boolean {
    const [register, mask] = this.#switch(counter);
    const isSet = (this.#hart.get(register) & mask) !== 0n;
    return register === "pmuRuns" ? isSet : !isSet;
  }

  #run(counter: number, runs: boolean): void {
    const [register, mask] = this.#switch(counter);
    const isSet = register === "pmuRuns" ? runs : !runs;
    const others = this.#hart.get(register) & ~mask;
    this.#hart.set(register, isSet ? others | mask : others);
  }

  /** The bit that starts a firmware counter, or that inhibits a hardware counter. */
  #switch(counter: number): ["pmuRuns" | "mcountinhibit", bigint] {
    if (isFirmware(counter)) return ["pmuRuns", bit(counter)];
    return ["mcountinhibit", bit(counter === PMU_CYCLES ? COUNTER.CY : COUNTER.IR)];
  }

  #value(counter: number): bigint {
    if (isFirmware(counter)) return this.#hart.get("pmuValue", counter);
    return this.#hart.get(counter === PMU_CYCLES ? "mcycle" : "minstret");
  }

  #setValue(counter: number, value: bigint): void {
    if (isFirmware(counter)) this.#hart.set("pmuValue", value, counter);
    else this.#hart.set(counter === PMU_CYCLES ? "mcycle" : "minstret", value);
  }

  // ---- functions ----

  #configure(set: Member[] | undefined, flags: bigint, event: bigint, data: bigint): SbiReturn {
    if (set === undefined || (flags & ~CONFIG_FLAGS) !== 0n) return fail(SBI_ERR.INVALID_PARAM);
    const skips = (flags & CONFIG.SKIP_MATCH) !== 0n;
    const isFree = ({ counter }: Member): boolean =>
      this.#event(counter) === 0n && canCount(counter, event, data);
    const found = skips ? set[0] : set.find(isFree);
    if (found === undefined) return fail(SBI_ERR.NOT_SUPPORTED);
    const { counter } = found;
    // A counter that has an event already keeps it: the caller knows that it matches.
    if (this.#event(counter) === 0n) {
      if (!canCount(counter, event, data)) return fail(SBI_ERR.NOT_SUPPORTED);
      this.#hart.set("pmuEvent", event, counter);
      // Cycles and instructions are counted from the hart's start on.
      this.#run(counter, false);
    }
    if ((flags & CONFIG.CLEAR_VALUE) !== 0n) this.#setValue(counter, 0n);
    if ((flags & CONFIG.AUTO_START) !== 0n) this.#run(counter, true);
    return ok(BigInt(counter));
  }

  #start(set: Member[] | undefined, flags: bigint, initial: bigint): SbiReturn {
    const isUnused = ({ counter }: Member): boolean => this.#event(counter) === 0n;
    if (set === undefined || set.some(isUnused)) return fail(SBI_ERR.INVALID_PARAM);
    // The two ways to set a value exclude each other.
    if ((flags & ~START_FLAGS) !== 0n || flags === START_FLAGS) return fail(SBI_ERR.INVALID_PARAM);
    const snapshot = (flags & START.INIT_SNAPSHOT) === 0n ? undefined : this.#readSnapshot();
    if (snapshot === undefined && (flags & START.INIT_SNAPSHOT) !== 0n) return fail(SBI_ERR.NO_SHMEM);
    let wasStarted = false;
    for (const { counter, place } of set) {
      if (this.#runs(counter)) {
        wasStarted = true;
        continue;
      }
      const value = snapshot?.getBigUint64(SNAPSHOT_VALUES + 8 * place, true);
      if (value !== undefined) this.#setValue(counter, value);
      else if ((flags & START.SET_INIT_VALUE) !== 0n) this.#setValue(counter, initial);
      this.#run(counter, true);
    }
    return wasStarted ? fail(SBI_ERR.ALREADY_STARTED) : ok();
  }

  #stop(set: Member[] | undefined, flags: bigint): SbiReturn {
    if (set === undefined || (flags & ~STOP_FLAGS) !== 0n) return fail(SBI_ERR.INVALID_PARAM);
    const takes = (flags & STOP.TAKE_SNAPSHOT) !== 0n;
    const at = Number(this.#hart.get("pmuSnapshot"));
    if (takes && at === 0) return fail(SBI_ERR.NO_SHMEM);
    let wasStopped = false;
    for (const { counter, place } of set) {
      if (!this.#runs(counter)) wasStopped = true;
      this.#run(counter, false);
      if (takes) this.#write64(at + SNAPSHOT_VALUES + 8 * place, this.#value(counter));
      if ((flags & STOP.RESET) !== 0n) this.#hart.set("pmuEvent", 0n, counter);
    }
    if (takes) this.#write64(at, 0n);
    return wasStopped ? fail(SBI_ERR.ALREADY_STOPPED) : ok();
  }

  #setSnapshot(low: bigint, high: bigint, flags: bigint): SbiReturn {
    if (flags !== 0n) return fail(SBI_ERR.INVALID_PARAM);
    if (low === ALL_ONES && high === ALL_ONES) {
      this.#hart.set("pmuSnapshot", 0n);
      return ok();
    }
    if (low % BigInt(SNAPSHOT_SIZE) !== 0n) return fail(SBI_ERR.INVALID_PARAM);
    if (high !== 0n || low === 0n || !this.#isWritable(low, SNAPSHOT_SIZE))
      return fail(SBI_ERR.INVALID_ADDRESS);
    this.#hart.set("pmuSnapshot", low);
    return ok();
  }

  /** Entries of {event u32, output u32, data u64}: the output says whether a counter can count the event. */
  #eventInfo(low: bigint, high: bigint, entries: bigint, flags: bigint): SbiReturn {
    if (flags !== 0n || low % BigInt(EVENT_INFO_SIZE) !== 0n) return fail(SBI_ERR.INVALID_PARAM);
    const size = Number(entries) * EVENT_INFO_SIZE;
    if (high !== 0n || !this.#isWritable(low, size)) return fail(SBI_ERR.INVALID_ADDRESS);
    if (entries > EVENT_INFO_MAX) return fail(SBI_ERR.FAILED);
    const view = this.#read(Number(low), size);
    if (view === undefined) return fail(SBI_ERR.INVALID_ADDRESS);
    const events = Array.from({ length: Number(entries) }, (_, i) => BigInt(view.getUint32(i * 16, true)));
    if (events.some((event) => event > PMU_EVENT_MAX)) return fail(SBI_ERR.INVALID_PARAM);
    const counters = [PMU_CYCLES, PMU_INSTRUCTIONS, PMU_FIRST_FIRMWARE];
    for (const [i, event] of events.entries()) {
      const data = view.getBigUint64(i * EVENT_INFO_SIZE + 8, true);
      const output = Uint8Array.of(
        counters.some((counter) => canCount(counter, event, data)) ? 1 : 0,
        0,
        0,
        0,
      );
      this.#write(Number(low) + i * EVENT_INFO_SIZE + 4, output);
    }
    return ok();
  }

  // ---- guest memory ----

  #isWritable(address: bigint, size: number): boolean {
    return this.#me.readingShadowPageTables(() => this.#memory.has(Number(address), size, true));
  }

  #read(address: number, size: number): DataView | undefined {
    const bytes = this.#me.readingShadowPageTables(() => this.#memory.read(address, size));
    return bytes === undefined ? undefined : new DataView(bytes.buffer);
  }

  #readSnapshot(): DataView | undefined {
    const at = Number(this.#hart.get("pmuSnapshot"));
    return at === 0 ? undefined : this.#read(at, SNAPSHOT_SIZE);
  }

  #write(address: number, bytes: Uint8Array): void {
    this.#me.readingShadowPageTables(() => this.#memory.write(address, bytes));
  }

  #write64(address: number, value: bigint): void {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, value, true);
    this.#write(address, bytes);
  }
}
