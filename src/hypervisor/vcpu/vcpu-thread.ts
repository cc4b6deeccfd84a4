// The vCPU thread: a loop of KVM_RUN. It parks when the VMM requests it, handles requests in their order,
// blocks while the hart is stopped, suspended or waits for an interrupt, enters the guest, and handles exits:
// SBI calls, PLIC and ACLINT accesses and doorbells here, everything else through the run page. The caller
// instantiates the engine and passes it in; this file names no platform.
import { ALL_ONES } from "../../base/uint64.ts";
import { INTERRUPT } from "../../riscv/causes.ts";
import { ENVCFG } from "../../riscv/envcfg.ts";
import { SCRATCH, SPINS } from "../shared/hart-scratch.ts";
import type { IrqchipWindows, SystemEvent } from "../../accelerator/accelerator.ts";
import { Aclint } from "../irqchip/aclint.ts";
import { irqchipWindows, isIn } from "../irqchip/irqchip-windows.ts";
import { CoalescedMmio } from "../shared/coalesced-mmio.ts";
import { GuestClock, hostTicks } from "../requests/guest-clock.ts";
import { InstructionClock } from "../requests/instruction-clock.ts";
import { HartPending } from "../requests/hart-pending.ts";
import { type Hfence, HFENCE_TYPE, HfenceQueue } from "../requests/hfence-queue.ts";
import { Ioeventfds } from "../shared/ioeventfd.ts";
import {
  CTL_ENDED,
  CTL_HALTED,
  CTL_KICK,
  CTL_LINES,
  CTL_MMIO_DATA,
  CTL_MP_STATE,
  CTL_RUN,
  CTL_SLOT_BANK,
  hartBase,
  RUN_CONSOLE,
  RUN_CONSOLE_SIZE,
  RUN_DATA,
  RUN_GAP_NS,
  RUN_EXIT_REASON,
  RUN_GPA_HIGH,
  RUN_GPA_LOW,
  RUN_OK,
  RUN_SIZE,
  RUN_STATUS,
  SBI_STA_SHMEM,
  SBI_START_ADDRESS,
  SBI_START_ARGUMENT,
  SBI_STEAL_NS,
  SBI_SUSPEND_TYPE,
  VM_BUILTIN_FIRMWARE,
  VM_CURRENT_BANK,
  VM_EXIT_POLL,
  VM_VCPU_COUNT,
} from "../shared/memory-map.ts";
import { MmioShadows } from "../shared/mmio-shadow.ts";
import { InterruptStatuses } from "../irqchip/interrupt-statuses.ts";
import { MP_STATE } from "../../accelerator/mp-state.ts";
import type { Activity } from "../shared/vcpu-activities.ts";
import { perfGeneration, VcpuPerf } from "./vcpu-perf.ts";
import { Plic } from "../irqchip/plic.ts";
import { REQ, VcpuRequests } from "../requests/vcpu-requests.ts";
import { hartLayout } from "../hart/hart-layout.ts";
import { HartImage } from "../hart/hart-image.ts";
import { FirmwareCounters } from "../firmware/firmware-counters.ts";
import { SbiFirmware, sbiActivity, SUSPEND_NON_RETENTIVE, SUSPEND_RETENTIVE } from "../firmware/sbi.ts";
import { EXIT_REASON, RUN, RUN_PAGE, SYSTEM_EVENTS } from "../shared/run-page.ts";
import { SlotMemory } from "../shared/memory-slots.ts";
import { EXIT, type EngineExports, type EngineImports, ALL_SPACES } from "../hart/engine-interface.ts";

/**
 * Instructions between reads of the clock. The number that takes SLICE_TICKS is measured: the interpreter
 * executes the fewest in that time, translated code a hundred times as many, and each read costs some
 * microseconds.
 */
const MIN_SLICE = 20_000;
const MAX_SLICE = 2_000_000;
/** 0.2 ms. */
const SLICE_TICKS = 2000;
const STEAL_UPDATE_NS = 10_000_000;
const MIP_STIP = 1 << INTERRUPT.STI;
const MIP_MTIP = 1 << INTERRUPT.MTI;
/** In the upper half of menvcfg. */
const MENVCFGH_STCE = 1 << (ENVCFG.STCE - 32);
/** How often a vCPU looks for an answer that comes soon before it sleeps: a few microseconds. */
const ANSWER_LOOKS = 32768;
/**
 * The first and the longest sleep of a hart that spins, in ms. The first one is the shortest that a host can
 * do; the longest bounds how late the hart sees that another one has released a lock.
 */
const MIN_SPIN_SLEEP_MS = 0.02;
const MAX_SPIN_SLEEP_MS = 0.2;
/** Waits after a sleep in which nothing has changed. */
const SPINS_AGAIN = 32;
/** A hart that has executed fewer instructions since its last sleep has done nothing but spin. */
const SPINNING_INSTRUCTIONS = 5000n;
/**
 * What a non-retentive suspend keeps: timer and pending interrupts, the firmware's features (SBI 3.0, chapter
 * 18) and the counters.
 */
const RETAINED = [
  ...(["mip", "stimecmp", "svade", "fwft"] as const),
  ...(["mcountinhibit", "mcycle", "minstret", "pmuEvent", "pmuValue", "pmuRuns", "pmuSnapshot"] as const),
];
const NEVER_MS = 0x7fffffff;
/** How long an SBI call waits for a console that takes nothing, before it returns or is made again. */
const CONSOLE_BUSY_MS = 1;
/** 2^53 ticks are 28 years: a timer beyond that is not set. */
const NEVER_TICKS = 2 ** 53;

/** What a vCPU thread needs from its platform. */
export interface VcpuPlatform {
  readonly monotonicNs: () => number;
  /** Notify the VMM thread of a change of this vCPU (run page, parked flag, doorbells). */
  signal(): void;
  /** CPU time used by this thread, in ns; without it there is no steal-time extension. */
  readonly threadCpuNs?: () => number;
  /** Collect garbage; without it the JavaScript engine decides when. */
  readonly collectGarbage?: () => void;
}

/** The former name of `VcpuPlatform`. */
export type VcpuHost = VcpuPlatform;

export interface VcpuThreadPlatform extends VcpuPlatform {
  /** Instantiate the engine with these imports. */
  instantiate(imports: EngineImports): EngineExports;
}

export class VcpuThread {
  readonly #hart: number;
  readonly #base: number;
  readonly #platform: VcpuThreadPlatform;
  readonly #threadCpuNs: (() => number) | undefined;
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #bytes: Uint8Array<SharedArrayBuffer>;
  readonly #me: VcpuRequests;
  readonly #plic: Plic;
  readonly #firmwareAclint: Aclint;
  #windows: IrqchipWindows;
  readonly #clock: GuestClock;
  /** Under --icount: the clock that guest time is derived from. */
  readonly #instructions: InstructionClock | undefined;
  readonly #ioeventfds: Ioeventfds;
  readonly #coalesced: CoalescedMmio;
  readonly #shadows: MmioShadows;
  readonly #statuses: InterruptStatuses;
  readonly #hfences: HfenceQueue;
  readonly #sbi: SbiFirmware;
  readonly #memory: SlotMemory;
  readonly #buffer: SharedArrayBuffer;
  readonly #image: HartImage;
  readonly #engine: EngineExports;
  /** 32-bit word indexes of the fields that every entry reads. */
  readonly #mip: number;
  readonly #mie: number;
  readonly #stimecmp: number;
  readonly #menvcfg: number;
  readonly #spins: number;
  /** The ring may have queued writes of this vCPU that the VMM thread has not been told of. */
  #hasQueuedWrites = false;
  /** When the last exit was answered, on the platform's monotonic clock. */
  #answeredNs = 0;
  #slice = MIN_SLICE;
  /** The hart's last sleep because it was spinning, and the instructions that it had executed by then. */
  #spinSleepMs = MIN_SPIN_SLEEP_MS;
  /** What SCRATCH.spins starts from. */
  #spinsFrom = 0;
  #executedAtSpin = 0n;
  /** Guest time when the timer lines were last updated. */
  #timersUpdatedAt = 0;
  /** The activity that answered the last access, if the VMM thread was not involved. */
  #answeredBy: Activity | undefined;
  /** Set while time is counted. */
  #perf: VcpuPerf | undefined;
  #stealMarkWall = 0;
  #stealMarkCpu = 0;

  constructor(buffer: SharedArrayBuffer, hart: number, platform: VcpuThreadPlatform) {
    this.#buffer = buffer;
    this.#hart = hart;
    this.#base = hartBase(hart);
    this.#platform = platform;
    this.#words = new Int32Array(buffer);
    this.#bytes = new Uint8Array(buffer);
    const count = this.#words[VM_VCPU_COUNT >>> 2]!;
    const vcpus = Array.from({ length: count }, (_, i) => new VcpuRequests(buffer, i));
    const mipOffset = hartLayout.offsetOf("mip");
    const pending = vcpus.map((v, i) => new HartPending(buffer, hartBase(i) + mipOffset, v));
    const hfences = vcpus.map((_, i) => new HfenceQueue(buffer, i));
    this.#me = vcpus[hart]!;
    const instructions = InstructionClock.of(buffer, platform.monotonicNs);
    this.#instructions = instructions;
    const timeNs = instructions === undefined ? platform.monotonicNs : () => instructions.now();
    // Steal time depends on the host.
    this.#threadCpuNs = instructions === undefined ? platform.threadCpuNs : undefined;
    this.#clock = new GuestClock(buffer, timeNs, false);
    this.#windows = irqchipWindows(buffer);
    this.#plic = new Plic(buffer, vcpus);
    this.#firmwareAclint = new Aclint(buffer, vcpus, pending, this.#clock);
    this.#ioeventfds = new Ioeventfds(buffer);
    this.#coalesced = new CoalescedMmio(buffer);
    this.#shadows = new MmioShadows(buffer);
    this.#statuses = new InterruptStatuses(buffer, this.#plic);
    this.#hfences = hfences[hart]!;
    this.#memory = new SlotMemory(buffer);
    this.#image = new HartImage(buffer, hart);
    this.#mip = (this.#base + mipOffset) >>> 2;
    this.#mie = (this.#base + hartLayout.offsetOf("mie")) >>> 2;
    this.#stimecmp = (this.#base + hartLayout.offsetOf("stimecmp")) >>> 2;
    this.#menvcfg = (this.#base + hartLayout.offsetOf("menvcfg")) >>> 2;
    this.#spins = (this.#base + SCRATCH.spins) >>> 2;
    const image = this.#image;
    this.#sbi = new SbiFirmware({
      hart,
      vcpus,
      pending,
      hfences,
      counters: vcpus.map((_, i) => new FirmwareCounters(buffer, i)),
      image,
      memory: this.#memory,
      clock: this.#clock,
      identity: { mvendorid: 0n, marchid: 0n, mimpid: 0n },
      canCountSteal: this.#threadCpuNs !== undefined,
      getX: (i) => image.get("x", i),
      setX: (i, value) => image.set("x", value, i),
      setStimecmp: (ticks) => {
        image.set("stimecmp", ticks);
        this.#updateTimers();
      },
      read64: (offset) => this.#me.read64(offset),
      write64: (offset, value) => {
        this.#me.write64(offset, value);
        if (offset === SBI_STA_SHMEM) this.#markSteal();
      },
      systemEvent: (event, detail) => this.#systemEvent(event, detail),
      consoleWrite: (bytes) => this.#consoleWrite(bytes),
      consoleRead: (max) => this.#consoleRead(max),
      repeatCall: () => image.set("pc", BigInt.asUintN(64, image.get("pc") - 4n)),
    });
    this.#engine = platform.instantiate({
      ...(platform.collectGarbage === undefined ? {} : { collectGarbage: platform.collectGarbage }),
      hostTicks: () => hostTicks(timeNs),
      mmioRead: (gpa, size) => this.#onMmioRead(Number(gpa), size),
      mmioWrite: (gpa, size, value) => this.#onMmioWrite(Number(gpa), size, value),
      runAdoption: (work) => {
        this.#perf?.mark("engine");
        work();
        this.#perf?.mark("adopt", "engine");
      },
    });
  }

  /** Firmware in machine mode has it; the built-in firmware has none. */
  get #aclint(): Aclint | undefined {
    return this.#words[VM_BUILTIN_FIRMWARE >>> 2] === 1 ? undefined : this.#firmwareAclint;
  }

  /** Runs until the VMM ends the thread. */
  run(): void {
    // The VMM learns that this thread has started.
    this.#platform.signal();
    try {
      this.#loop();
    } finally {
      // An internal error may have thrown out of guest mode: no thread must wait for this one to leave it.
      this.#me.leaveGuestMode();
      this.#me.store(CTL_ENDED, 1);
      this.#platform.signal();
    }
  }

  #loop(): void {
    const me = this.#me;
    this.#loadSlotBank();
    let usedUp = false;
    while (this.#park()) {
      this.#checkPerf();
      if (!this.#handleRequests()) continue;
      if (!this.#runnable()) {
        this.#block();
        continue;
      }
      me.enterGuestMode();
      // A request made after this mode change sees IN_GUEST_MODE and kicks; one made before it is seen here.
      if (me.pending() || me.load(CTL_RUN) !== RUN.GO) {
        me.leaveGuestMode();
        continue;
      }
      const before = this.#timersUpdatedAt;
      this.#updateTimers();
      if (usedUp) this.#adaptSlice(this.#timersUpdatedAt - before);
      this.#perf?.mark("other", "engine");
      this.#words[this.#spins] = this.#spinsFrom;
      const reason = this.#engine.run(this.#base, this.#budget());
      usedUp = reason === EXIT.SLICE;
      this.#spinsFrom = 0;
      this.#perf?.mark("engine");
      me.leaveGuestMode();
      this.#handleExit(reason);
      if (this.#hasQueuedWrites) this.#signal();
      this.#accountSteal();
    }
  }

  #checkPerf(): void {
    const generation = perfGeneration(this.#buffer);
    if (generation === (this.#perf?.generation ?? 0)) return;
    const { monotonicNs, threadCpuNs } = this.#platform;
    this.#perf =
      generation === 0 ? undefined : new VcpuPerf(this.#buffer, this.#hart, monotonicNs, threadCpuNs);
  }

  // ---- parking ----

  /**
   * Wait at an instruction boundary while the VMM pauses the vCPU. Returns false if the thread must end. Only
   * this thread turns PAUSE into PARKED, so a resume and another pause before it sleeps are not missed.
   */
  #park(): boolean {
    const me = this.#me;
    if (me.load(CTL_RUN) === RUN.GO) return true;
    this.#perf?.mark("other", "parked");
    for (let run = me.load(CTL_RUN); run !== RUN.GO; run = me.load(CTL_RUN)) {
      if (run === RUN.END) return false;
      if (me.compareExchange(CTL_RUN, RUN.PAUSE, RUN.PARKED) === RUN.PAUSE) this.#platform.signal();
      me.wait(CTL_RUN, RUN.PARKED);
    }
    this.#windows = irqchipWindows(this.#buffer);
    this.#perf?.mark("parked");
    this.#markSteal();
    if (this.#countsSteal) me.make(REQ.STEAL_UPDATE);
    return true;
  }

  // ---- requests ----

  /** In a fixed order (docs/architecture.md). Returns false to restart the loop. */
  #handleRequests(): boolean {
    const me = this.#me;
    if (!me.pending()) return true;
    this.#perf?.mark("other", "requests");
    const goOn = this.#handlePending();
    this.#perf?.mark("requests");
    return goOn;
  }

  #handlePending(): boolean {
    const me = this.#me;
    if (me.test(REQ.VM_DEAD)) {
      // The request stays set: a dead VM never runs again. Sleep until the VMM ends the thread.
      while (this.#park()) {
        // `dead` tells a resuming caller that the vCPU will not run: it requests a pause again.
        me.compareExchange(CTL_RUN, RUN.GO, RUN.PAUSE);
      }
      return false;
    }
    me.check(REQ.UNBLOCK);
    if (me.check(REQ.SLEEP)) this.#block();
    if (me.check(REQ.VCPU_RESET)) this.#resetForStart();
    if (me.check(REQ.UPDATE_HGATP)) {
      this.#loadSlotBank();
      this.#engine.flushTlb(this.#base);
    }
    // Nothing more to do: run() drops stale translations when it starts.
    me.check(REQ.FENCE_I);
    if (me.check(REQ.TLB_FLUSH)) this.#engine.flushTlb(this.#base);
    if (me.check(REQ.HFENCE_VVMA_ALL)) this.#engine.flushSpace(this.#base, ALL_SPACES);
    if (me.check(REQ.HFENCE)) for (const fence of this.#hfences.drain()) this.#hfence(fence);
    if (me.check(REQ.STEAL_UPDATE)) this.#writeSteal();
    return true;
  }

  #loadSlotBank(): void {
    this.#me.store(CTL_SLOT_BANK, Atomics.load(this.#words, VM_CURRENT_BANK >>> 2));
  }

  #hfence({ type, asid, start, size }: Hfence): void {
    const space = type === HFENCE_TYPE.VVMA_ASID ? asid : ALL_SPACES;
    // Above this number of pages a full flush is cheaper.
    if (size > 64n * 4096n) {
      this.#engine.flushSpace(this.#base, space);
      return;
    }
    const end = start + size;
    for (let page = start & ~4095n; page < end; page += 4096n) {
      this.#engine.flushTlbPage(this.#base, page, space);
    }
  }

  #resetForStart(): void {
    const me = this.#me;
    // A hart that resumes must find the interrupt that woke it: it is not sent a second time.
    const resumes = me.read64(SBI_SUSPEND_TYPE) === BigInt(SUSPEND_NON_RETENTIVE);
    const kept = resumes ? RETAINED : [];
    this.#image.resetForStart(me.read64(SBI_START_ADDRESS), me.read64(SBI_START_ARGUMENT), kept);
    me.store(CTL_HALTED, 0);
    this.#engine.flushTlb(this.#base);
    me.compareExchange(CTL_MP_STATE, MP_STATE.INIT_RECEIVED, MP_STATE.RUNNABLE);
    // Only from here on: HSM's status tells a start from a resume by it.
    me.write64(SBI_SUSPEND_TYPE, BigInt(SUSPEND_RETENTIVE));
  }

  // ---- blocking ----

  #runnable(): boolean {
    return this.#me.load(CTL_MP_STATE) === MP_STATE.RUNNABLE && this.#me.load(CTL_HALTED) === 0;
  }

  #interruptPending(): boolean {
    this.#updateTimers();
    const pending = Atomics.load(this.#words, this.#mip) | this.#me.load(CTL_LINES);
    return (pending & this.#words[this.#mie]!) !== 0;
  }

  /** kvm_vcpu_block: sleep until the hart can run, a request wakes it, or the VMM pauses it. */
  #block(): void {
    const me = this.#me;
    while (me.load(CTL_RUN) === RUN.GO) {
      const mp = me.load(CTL_MP_STATE);
      const waitsForInterrupt =
        mp === MP_STATE.SUSPENDED || (mp === MP_STATE.RUNNABLE && me.load(CTL_HALTED) !== 0);
      if (!waitsForInterrupt && mp !== MP_STATE.STOPPED) return;
      if (waitsForInterrupt && this.#interruptPending()) {
        this.#endWait(mp);
        return;
      }
      const runnable = (): boolean =>
        me.load(CTL_RUN) !== RUN.GO ||
        me.check(REQ.UNBLOCK) ||
        me.test(REQ.VM_DEAD) ||
        me.test(REQ.VCPU_RESET) ||
        (waitsForInterrupt && this.#interruptPending());
      const idleNs = waitsForInterrupt ? this.#nsToDeadline() : Number.POSITIVE_INFINITY;
      if (this.#instructions?.sleeps === false && idleNs < Number.POSITIVE_INFINITY) {
        this.#instructions.advance(idleNs);
        continue;
      }
      this.#perf?.mark("other", "blocked");
      this.#instructions?.startIdle();
      this.#sleepUncounted(() => me.block(runnable, Math.min(idleNs / 1e6, NEVER_MS)));
      this.#instructions?.endIdle(idleNs);
      this.#perf?.mark("blocked");
      this.#checkPerf();
      if (me.test(REQ.VM_DEAD) || me.test(REQ.VCPU_RESET)) return;
    }
  }

  /**
   * The hart waits for another one, which may need this core (kvm_vcpu_on_spin): sleep for a moment, longer
   * if it has done nothing else since the last one. A new interrupt ends the sleep. With the instruction
   * clock there is no other hart.
   */
  #yieldCore(): void {
    if (this.#instructions !== undefined) return;
    const me = this.#me;
    const executed = me.read64(SCRATCH.executed);
    const onlySpun = executed - this.#executedAtSpin < SPINNING_INSTRUCTIONS;
    this.#executedAtSpin = executed;
    this.#spinsFrom = SPINS - SPINS_AGAIN;
    this.#spinSleepMs = onlySpun ? Math.min(2 * this.#spinSleepMs, MAX_SPIN_SLEEP_MS) : MIN_SPIN_SLEEP_MS;
    // Interrupts that are pending already do not count: the hart may spin with interrupts disabled.
    const runnable = (): boolean => me.load(CTL_RUN) !== RUN.GO || me.pending();
    this.#perf?.mark("other", "blocked");
    this.#sleepUncounted(() => me.block(runnable, this.#spinSleepMs));
    this.#perf?.mark("blocked");
  }

  #endWait(mp: number): void {
    const me = this.#me;
    me.store(CTL_HALTED, 0);
    if (mp !== MP_STATE.SUSPENDED) return;
    if (me.read64(SBI_SUSPEND_TYPE) === BigInt(SUSPEND_NON_RETENTIVE)) {
      me.store(CTL_MP_STATE, MP_STATE.INIT_RECEIVED);
      me.make(REQ.VCPU_RESET);
    } else {
      me.store(CTL_MP_STATE, MP_STATE.RUNNABLE);
    }
  }

  // ---- timers ----

  #stimecmpTicks(): number {
    const words = this.#words;
    return (words[this.#stimecmp + 1]! >>> 0) * 0x1_0000_0000 + (words[this.#stimecmp]! >>> 0);
  }

  #sstcEnabled(): boolean {
    return (this.#words[this.#menvcfg + 1]! & MENVCFGH_STCE) !== 0;
  }

  /** Update the timer lines from the clock. */
  #updateTimers(): void {
    const now = this.#clock.now();
    this.#timersUpdatedAt = now;
    this.#line(MIP_STIP, this.#sstcEnabled() && now >= this.#stimecmpTicks());
    if (this.#aclint !== undefined) this.#line(MIP_MTIP, now >= this.#aclint.deadline(this.#hart));
  }

  #line(line: number, level: boolean): void {
    const now = (this.#me.load(CTL_LINES) & line) !== 0;
    if (now === level) return;
    if (level) this.#me.or(CTL_LINES, line);
    else this.#me.and(CTL_LINES, ~line);
  }

  /** ns until the next timer expires; Infinity if there is none, or all have expired. */
  #nsToDeadline(): number {
    let next = Number.POSITIVE_INFINITY;
    const add = (deadline: number): void => {
      const ns = deadline < NEVER_TICKS ? this.#clock.nsUntil(deadline) : next;
      if (ns > 0 && ns < next) next = ns;
    };
    if (this.#sstcEnabled()) add(this.#stimecmpTicks());
    if (this.#aclint !== undefined) add(this.#aclint.deadline(this.#hart));
    return next;
  }

  /**
   * Instructions to execute before the clock is read. With the instruction clock, the number until a timer
   * expires.
   */
  #budget(): number {
    if (this.#instructions === undefined) return this.#slice;
    return Math.min(MAX_SLICE, this.#instructions.instructions(this.#nsToDeadline()));
  }

  /** A slice has been used up since the clock was last read. */
  #adaptSlice(ticks: number): void {
    if (ticks < SLICE_TICKS / 2) this.#slice = Math.min(this.#slice * 2, MAX_SLICE);
    else if (ticks > SLICE_TICKS * 2) this.#slice = Math.max(this.#slice / 2, MIN_SLICE);
  }

  // ---- exits ----

  /** The VMM thread looks for exits and doorbells by itself: it needs no signal, and answers soon. */
  get #isPolled(): boolean {
    return Atomics.load(this.#words, VM_EXIT_POLL >>> 2) !== 0;
  }

  #signal(): void {
    this.#hasQueuedWrites = false;
    this.#platform.signal();
  }

  #handleExit(reason: number): void {
    switch (reason) {
      case EXIT.SLICE:
        this.#perf?.sliceEnded(this.#image.get("pc"));
        return;
      case EXIT.KICK:
        this.#perf?.count("kick");
        return;
      case EXIT.ECALL: {
        this.#image.set("pc", BigInt.asUintN(64, this.#image.get("pc") + 4n));
        const activity = this.#perf === undefined ? undefined : sbiActivity(this.#image.get("x", 17));
        this.#sbi.call();
        if (activity !== undefined) this.#perf?.mark(activity);
        return;
      }
      case EXIT.WFI:
        this.#perf?.count("wfi");
        this.#me.store(CTL_HALTED, 1);
        return;
      case EXIT.SPIN:
        this.#perf?.count("spin");
        this.#yieldCore();
        return;
      default:
        this.#exit(EXIT_REASON.INTERNAL_ERROR, reason, 0, 0n);
    }
  }

  /** Post an exit on the run page and sleep until the VMM has answered. Called outside guest mode. */
  #exit(reason: number, gpa: number, size: number, data: bigint): boolean {
    const me = this.#me;
    me.store(RUN_EXIT_REASON, reason);
    me.store(RUN_GPA_LOW, gpa | 0);
    me.store(RUN_GPA_HIGH, Math.floor(gpa / 0x1_0000_0000));
    me.store(RUN_SIZE, size);
    me.write64(RUN_DATA, data);
    me.store(RUN_GAP_NS, Math.min(this.#platform.monotonicNs() - this.#answeredNs, 0x7fffffff));
    me.store(RUN_STATUS, RUN_PAGE.POSTED);
    this.#sleepUncounted(() => {
      if (this.#isPolled) {
        this.#hasQueuedWrites = false;
        for (let i = 0; i < ANSWER_LOOKS && me.load(RUN_STATUS) === RUN_PAGE.POSTED; i++);
      } else this.#signal();
      while (me.load(RUN_STATUS) === RUN_PAGE.POSTED) me.wait(RUN_STATUS, RUN_PAGE.POSTED);
    });
    this.#answeredNs = this.#platform.monotonicNs();
    me.store(RUN_STATUS, RUN_PAGE.IDLE);
    return me.load(RUN_OK) !== 0;
  }

  /**
   * An exit in the middle of run(): leave guest mode for it, and end run() soon if there is a request or a
   * pause.
   */
  #exitFromGuest(reason: number, gpa: number, size: number, data: bigint): boolean {
    const me = this.#me;
    me.leaveGuestMode();
    const ok = this.#exit(reason, gpa, size, data);
    me.enterGuestMode();
    if (me.pending() || me.load(CTL_RUN) !== RUN.GO) me.store(CTL_KICK, 1);
    return ok;
  }

  #onMmioRead(gpa: number, size: number): number {
    if (this.#perf === undefined) return this.#mmioRead(gpa, size);
    this.#perf.mark("engine");
    this.#answeredBy = undefined;
    const ok = this.#mmioRead(gpa, size);
    this.#perf.mark(this.#answeredBy ?? this.#within(gpa, "plic-read", "aclint-read", "mmio-read"), "engine");
    return ok;
  }

  #onMmioWrite(gpa: number, size: number, value: bigint): number {
    if (this.#perf === undefined) return this.#mmioWrite(gpa, size, value);
    this.#perf.mark("engine");
    this.#answeredBy = undefined;
    const ok = this.#mmioWrite(gpa, size, value);
    this.#perf.mark(
      this.#answeredBy ?? this.#within(gpa, "plic-write", "aclint-write", "mmio-write"),
      "engine",
    );
    return ok;
  }

  /** The activity of the device at an address, for --perf. */
  #within(gpa: number, plic: Activity, aclint: Activity, vmm: Activity): Activity {
    const windows = this.#windows;
    if (isIn(windows.plic, gpa)) return plic;
    const isAclint = this.#aclint !== undefined && (isIn(windows.clint, gpa) || isIn(windows.sswi, gpa));
    return isAclint ? aclint : vmm;
  }

  #mmioRead(gpa: number, size: number): number {
    const { plic, clint, sswi } = this.#windows;
    if (isIn(plic, gpa)) {
      if (size !== 4 || (gpa & 3) !== 0) return 0;
      this.#me.write64(CTL_MMIO_DATA, BigInt(this.#plic.read(gpa - plic.base)));
      return 1;
    }
    if (this.#aclint !== undefined) {
      if (isIn(clint, gpa)) {
        if (size < 4) return 0;
        this.#me.write64(CTL_MMIO_DATA, this.#aclint.read(gpa - clint.base, size));
        return 1;
      }
      if (isIn(sswi, gpa)) {
        this.#me.write64(CTL_MMIO_DATA, 0n);
        return 1;
      }
    }
    const known = this.#shadows.read(gpa, size);
    if (known >= 0) {
      this.#answeredBy = "shadow-read";
      this.#me.write64(CTL_MMIO_DATA, BigInt(known));
      return 1;
    }
    const status = this.#statuses.read(gpa, size);
    if (status >= 0) {
      this.#answeredBy = "irq-status";
      this.#me.write64(CTL_MMIO_DATA, BigInt(status));
      return 1;
    }
    if (!this.#exitFromGuest(EXIT_REASON.MMIO_READ, gpa, size, 0n)) return 0;
    this.#me.write64(CTL_MMIO_DATA, this.#me.read64(RUN_DATA));
    return 1;
  }

  #mmioWrite(gpa: number, size: number, value: bigint): number {
    const { plic, clint, sswi } = this.#windows;
    if (isIn(plic, gpa)) {
      if (size !== 4 || (gpa & 3) !== 0) return 0;
      this.#plic.write(gpa - plic.base, Number(BigInt.asUintN(32, value)));
      return 1;
    }
    if (this.#aclint !== undefined) {
      if (isIn(clint, gpa)) {
        if (size < 4) return 0;
        this.#aclint.write(gpa - clint.base, size, value);
        return 1;
      }
      if (isIn(sswi, gpa)) {
        this.#aclint.writeSswi(gpa - sswi.base, value);
        return 1;
      }
    }
    if (this.#coalesced.push(gpa, size, value)) {
      this.#hasQueuedWrites = true;
      this.#answeredBy = "coalesced-write";
      return 1;
    }
    if (size === 4 && this.#ioeventfds.match(gpa, Number(BigInt.asIntN(32, value)))) {
      if (!this.#isPolled) this.#platform.signal();
      this.#answeredBy = "doorbell";
      return 1;
    }
    if (this.#statuses.acknowledge(gpa, size, Number(BigInt.asIntN(32, value)))) {
      this.#answeredBy = "irq-status";
      return 1;
    }
    return this.#exitFromGuest(EXIT_REASON.MMIO_WRITE, gpa, size, value) ? 1 : 0;
  }

  #systemEvent(event: SystemEvent, detail: bigint): void {
    this.#exit(EXIT_REASON.SYSTEM_EVENT, SYSTEM_EVENTS.indexOf(event), 0, detail);
  }

  /** Returns how many bytes the console took. */
  #consoleWrite(bytes: Uint8Array): number {
    const me = this.#me;
    for (let at = 0; at < bytes.length; at += RUN_CONSOLE_SIZE) {
      const chunk = bytes.subarray(at, at + RUN_CONSOLE_SIZE);
      this.#bytes.set(chunk, this.#base + RUN_CONSOLE);
      this.#exit(EXIT_REASON.CONSOLE_WRITE, 0, chunk.length, 0n);
      const taken = me.load(RUN_SIZE);
      if (taken === chunk.length) continue;
      // The guest calls again at once: it must not keep the VMM thread busy.
      const hasWork = (): boolean => me.pending() || me.load(CTL_RUN) !== RUN.GO;
      if (at + taken === 0) this.#sleepUncounted(() => me.block(hasWork, CONSOLE_BUSY_MS));
      return at + taken;
    }
    return bytes.length;
  }

  #consoleRead(max: number): Uint8Array {
    this.#exit(EXIT_REASON.CONSOLE_READ, 0, Math.min(max, RUN_CONSOLE_SIZE), 0n);
    const length = Math.min(this.#me.load(RUN_SIZE), RUN_CONSOLE_SIZE);
    return this.#bytes.slice(this.#base + RUN_CONSOLE, this.#base + RUN_CONSOLE + length);
  }

  // ---- steal time (SBI STA) ----

  get #countsSteal(): boolean {
    return this.#threadCpuNs !== undefined && this.#me.read64(SBI_STA_SHMEM) !== ALL_ONES;
  }

  #markSteal(): void {
    this.#stealMarkWall = this.#platform.monotonicNs();
    this.#stealMarkCpu = this.#threadCpuNs?.() ?? 0;
  }

  /** Run `sleep`: a sleeping thread needs no core, so the time mark advances by its duration. */
  #sleepUncounted(sleep: () => void): void {
    if (!this.#countsSteal) return sleep();
    const from = this.#platform.monotonicNs();
    sleep();
    this.#stealMarkWall += this.#platform.monotonicNs() - from;
  }

  /**
   * Time that this thread was ready to run without a core: wall time minus sleep and its own CPU time, since
   * the last mark.
   */
  #accountSteal(): void {
    const threadCpuNs = this.#threadCpuNs;
    if (threadCpuNs === undefined || !this.#countsSteal) return;
    const wall = this.#platform.monotonicNs();
    if (wall - this.#stealMarkWall < STEAL_UPDATE_NS) return;
    const cpu = threadCpuNs();
    const steal = wall - this.#stealMarkWall - (cpu - this.#stealMarkCpu);
    this.#stealMarkWall = wall;
    this.#stealMarkCpu = cpu;
    if (steal <= 0) return;
    this.#me.write64(SBI_STEAL_NS, this.#me.read64(SBI_STEAL_NS) + BigInt(Math.floor(steal)));
    this.#me.make(REQ.STEAL_UPDATE);
  }

  /**
   * The shared structure: u32 sequence, u32 flags, u64 steal, u8 preempted (SBI 3.0 §16); the sequence is odd
   * during changes.
   */
  #writeSteal(): void {
    const me = this.#me;
    const shmem = me.read64(SBI_STA_SHMEM);
    if (shmem === ALL_ONES) return;
    me.readingShadowPageTables(() => {
      const at = Number(shmem);
      const old = this.#memory.read(at, 4);
      if (old === undefined) return;
      const sequence = new DataView(old.buffer).getUint32(0, true);
      const word = (value: number): Uint8Array => {
        const bytes = new Uint8Array(4);
        new DataView(bytes.buffer).setUint32(0, value, true);
        return bytes;
      };
      const steal = new Uint8Array(8);
      new DataView(steal.buffer).setBigUint64(0, me.read64(SBI_STEAL_NS), true);
      this.#memory.write(at, word(sequence + 1));
      this.#memory.write(at + 8, steal);
      this.#memory.write(at, word(sequence + 2));
    });
  }
}
