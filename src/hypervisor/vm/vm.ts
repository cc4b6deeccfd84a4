// The VM as the VMM thread sees it (KVM's VM and vCPU file descriptors), the implementation of
// src/accelerator/accelerator.ts: memory slots and their dirty log, the irqchip, the clock, doorbells, and
// vCPUs that it runs, pauses and inspects. The platform makes the threads.
import { ALL_ONES } from "../../base/uint64.ts";
import type {
  AcceleratorVcpu,
  AcceleratorVm,
  IrqchipWindows,
  VmEvents,
} from "../../accelerator/accelerator.ts";
import { messageOf, WherryError } from "../../base/errors.ts";
import { CodePages, GuestMemory, PAGE_SIZE, type RamBlock } from "../../memory/guest-memory.ts";
import { Aclint } from "../irqchip/aclint.ts";
import { CodeCache } from "../shared/code-cache.ts";
import { CoalescedMmio } from "../shared/coalesced-mmio.ts";
import { GuestClock } from "../requests/guest-clock.ts";
import { type IcountOptions, InstructionClock } from "../requests/instruction-clock.ts";
import { ExitPoll, type ExitPollOptions } from "./exit-poll.ts";
import { HartPending } from "../requests/hart-pending.ts";
import { Ioeventfds } from "../shared/ioeventfd.ts";
import {
  codeBitmapSize,
  CTL_ENDED,
  CTL_MP_STATE,
  CTL_RUN,
  hartBase,
  MAX_VCPUS,
  RUN_CONSOLE,
  RUN_CONSOLE_SIZE,
  RUN_DATA,
  RUN_EXIT_REASON,
  RUN_GPA_HIGH,
  RUN_GPA_LOW,
  RUN_OK,
  RUN_SIZE,
  RUN_STATUS,
  SBI_STA_SHMEM,
  VM_BUILTIN_FIRMWARE,
  VM_CODE_STALE,
  VM_DEAD_WORD,
  VM_TRANSLATOR_RUN,
  VM_VCPU_COUNT,
  SBI_SUSPEND_TYPE,
} from "../shared/memory-map.ts";
import { MmioShadows } from "../shared/mmio-shadow.ts";
import { InterruptStatuses } from "../irqchip/interrupt-statuses.ts";
import type { InterruptStatus } from "../../memory/irq-line.ts";
import { OneRegs } from "./one-reg.ts";
import { VmPerf } from "../vcpu/vcpu-perf.ts";
import { placeIrqchip } from "../irqchip/irqchip-windows.ts";
import { Plic } from "../irqchip/plic.ts";
import { makeRequests, makeRequestsAsync, REQ, VcpuRequests } from "../requests/vcpu-requests.ts";
import { hartLayout } from "../hart/hart-layout.ts";
import { HartImage } from "../hart/hart-image.ts";
import { EXIT_REASON, RUN, RUN_PAGE, SYSTEM_EVENTS } from "../shared/run-page.ts";
import { SUSPEND_NON_RETENTIVE } from "../firmware/sbi.ts";
import { MP_STATE } from "../../accelerator/mp-state.ts";
import { SlotTable } from "../shared/memory-slots.ts";
import { TRANSLATOR_RUN } from "../shared/memory-map.ts";

export class VmError extends WherryError {}

/** Time limit for the translation thread to end by itself. */
const TRANSLATOR_END_MS = 2000;

export interface RamBlockPlan {
  readonly name: string;
  readonly guestPhys: number;
  readonly size: number;
  readonly readonly: boolean;
}

/**
 * Plan the addresses of RAM blocks, their dirty bitmaps and code pages, and the size of the shared memory
 * (bytes, of 64 KiB pages).
 */
export function planMemory(
  vcpuCount: number,
  blocks: readonly RamBlockPlan[],
): {
  size: number;
  blocks: { hostOffset: number; dirtyOffset: number; codeOffset: number }[];
} {
  if (vcpuCount < 1 || vcpuCount > MAX_VCPUS) {
    throw new VmError("vm.vcpus", `${vcpuCount} harts: between 1 and ${MAX_VCPUS} are supported`);
  }
  const align = (n: number, to: number): number => Math.ceil(n / to) * to;
  let end = hartBase(vcpuCount);
  const bitmaps = blocks.map((b) => {
    const dirtyOffset = end;
    const codeOffset = align(dirtyOffset + b.size / PAGE_SIZE / 8, 64);
    end = codeOffset + 2 * codeBitmapSize(b.size);
    return { dirtyOffset, codeOffset };
  });
  let ram = align(end, 0x10000);
  const placed = blocks.map((b, i) => {
    const hostOffset = ram;
    ram = align(ram + b.size, 0x10000);
    return { hostOffset, ...bitmaps[i]! };
  });
  // A guard page, so that an 8-byte load at the very end of RAM stays within the memory.
  return { size: ram + 0x10000, blocks: placed };
}

/** A running thread of this VM, as the platform created it. */
export interface ThreadHandle {
  /** Called on the VMM thread whenever the thread signals. */
  onSignal(listener: () => void): void;
  /** The thread died of an internal error. */
  onFault(listener: (error: unknown) => void): void;
  terminate(): Promise<void>;
}

export interface VmOptions {
  readonly buffer: SharedArrayBuffer;
  readonly vcpuCount: number;
  readonly blocks: readonly RamBlockPlan[];
  readonly builtinFirmware: boolean;
  readonly monotonicNs: () => number;
  /**
   * Guest time is derived from instructions; one hart only. Doorbells and coalesced writes become exits that
   * wait for an answer.
   */
  readonly icount?: IcountOptions | undefined;
  /** How the VMM thread looks for exits that follow each other closely; undefined: not at all. */
  readonly exitPoll?: ExitPollOptions | undefined;
  readonly spawnVcpu: (hart: number) => ThreadHandle;
  /** Start the translation thread, when a vCPU first runs; if undefined, there is none. */
  readonly spawnTranslator?: (() => ThreadHandle) | undefined;
}

export class Vm implements AcceleratorVm {
  readonly buffer: SharedArrayBuffer;
  readonly memory: GuestMemory;
  readonly vcpus: readonly Vcpu[];
  readonly started: Promise<void>;
  readonly clock: GuestClock;
  readonly perf: VmPerf;
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #requests: readonly VcpuRequests[];
  readonly #slots: SlotTable;
  readonly #plic: Plic;
  readonly #aclint: Aclint;
  readonly #ioeventfds: Ioeventfds;
  readonly #exitPoll: ExitPoll;
  readonly #coalesced: CoalescedMmio;
  readonly #shadows: MmioShadows;
  readonly #statuses: InterruptStatuses;
  readonly #plan: ReturnType<typeof planMemory>;
  /** Undefined once it has been called, or if no code is translated. */
  #spawnTranslator: (() => ThreadHandle) | undefined;
  #translator: ThreadHandle | undefined;
  readonly #exact: boolean;
  #events: VmEvents | undefined;
  #failure: string | undefined;
  #isEnding = false;

  constructor(options: VmOptions) {
    const { buffer, vcpuCount, blocks } = options;
    if (options.icount !== undefined && vcpuCount !== 1) {
      throw new VmError(
        "vm.icount",
        `icount supports one hart, this machine has ${vcpuCount}: use one, or turn icount off`,
      );
    }
    const plan = planMemory(vcpuCount, blocks);
    if (buffer.byteLength < plan.size) {
      throw new VmError(
        "vm.memory",
        `the shared memory has ${buffer.byteLength} bytes, the machine needs ${plan.size}`,
      );
    }
    this.buffer = buffer;
    this.#words = new Int32Array(buffer);
    this.#words[VM_VCPU_COUNT >>> 2] = vcpuCount;
    this.#slots = new SlotTable(buffer);
    this.#plan = plan;
    const ramBlocks: RamBlock[] = blocks.map((b, i) => ({
      ...b,
      hostOffset: plan.blocks[i]!.hostOffset,
      dirty: new Int32Array(buffer, plan.blocks[i]!.dirtyOffset, Math.ceil(b.size / PAGE_SIZE / 32)),
      code: new CodePages(buffer, plan.blocks[i]!.codeOffset, codeBitmapSize(b.size), VM_CODE_STALE),
    }));
    this.memory = new GuestMemory(buffer, ramBlocks);
    if (options.icount !== undefined) InstructionClock.configure(buffer, options.icount);
    const instructions = InstructionClock.of(buffer, options.monotonicNs);
    this.#exact = instructions !== undefined;
    this.clock = new GuestClock(buffer, () => instructions?.now() ?? options.monotonicNs(), true);
    const requests = Array.from({ length: vcpuCount }, (_, i) => new VcpuRequests(buffer, i));
    this.#requests = requests;
    const mip = hartLayout.offsetOf("mip");
    const pending = requests.map((r, i) => new HartPending(buffer, hartBase(i) + mip, r));
    this.perf = new VmPerf(buffer, options.monotonicNs, () => {
      for (const r of requests) {
        r.make(REQ.UNBLOCK);
        r.kick();
      }
    });
    this.#plic = new Plic(buffer, requests);
    this.#aclint = new Aclint(buffer, requests, pending, this.clock);
    this.#aclint.reset();
    this.#ioeventfds = new Ioeventfds(buffer);
    const { exitPoll, monotonicNs } = options;
    const serve = (): void => this.#serveExits();
    this.#exitPoll = new ExitPoll(buffer, requests, this.#ioeventfds, serve, exitPoll, monotonicNs);
    this.#coalesced = new CoalescedMmio(buffer);
    this.#shadows = new MmioShadows(buffer);
    this.#statuses = new InterruptStatuses(buffer, this.#plic);
    requests.forEach((r, i) => {
      // No thread runs it: state can be read and written while the threads start.
      r.store(CTL_RUN, RUN.PARKED);
      r.write64(SBI_STA_SHMEM, ALL_ONES);
      const image = new HartImage(buffer, i);
      if (options.builtinFirmware) image.resetForStart(0n, 0n);
      else image.reset(0n);
    });
    this.setBuiltinFirmware(options.builtinFirmware);
    ramBlocks.forEach((_, i) => {
      this.#publishSlot(i);
    });
    const threads: ThreadHandle[] = [];
    const spawned = (spawn: () => ThreadHandle): ThreadHandle => {
      try {
        const thread = spawn();
        threads.push(thread);
        return thread;
      } catch (error) {
        for (const thread of threads) void thread.terminate();
        throw error;
      }
    };
    this.vcpus = requests.map(
      (r, i) =>
        new Vcpu(
          this,
          i,
          r,
          spawned(() => options.spawnVcpu(i)),
        ),
    );
    this.started = Promise.all(this.vcpus.map((vcpu) => vcpu.started)).then(() => {});
    this.#spawnTranslator = options.spawnTranslator;
  }

  get builtinFirmware(): boolean {
    return this.#words[VM_BUILTIN_FIRMWARE >>> 2] === 1;
  }
  setBuiltinFirmware(on: boolean): void {
    this.#words[VM_BUILTIN_FIRMWARE >>> 2] = on ? 1 : 0;
    this.#requests.forEach((_, hart) =>
      new HartImage(this.buffer, hart).configure({ builtinFirmware: on, exactTimer: this.#exact }),
    );
  }

  /** Must be called before the first vCPU is resumed. */
  setEvents(events: VmEvents): void {
    this.#events = events;
  }
  get events(): VmEvents {
    if (this.#events === undefined)
      throw new VmError("vm.events", "a vCPU left the guest before setEvents was called");
    return this.#events;
  }

  // ---- memory ----

  #publishSlot(index: number, present = true): void {
    const b = this.memory.blocks[index]!;
    this.#slots.set({
      slot: index,
      guestPhys: b.guestPhys,
      size: present ? b.size : 0,
      hostOffset: b.hostOffset,
      dirtyOffset: this.#plan.blocks[index]!.dirtyOffset,
      codeOffset: this.#plan.blocks[index]!.codeOffset,
      readonly: b.readonly,
    });
    // Waits here: the next change may write the bank that is now idle.
    for (const r of this.#requests) r.make(REQ.UPDATE_HGATP);
    makeRequests(REQ.TLB_FLUSH, this.#requests);
  }

  /**
   * Map or unmap a block (KVM_SET_USER_MEMORY_REGION), and wait until all vCPUs have flushed their
   * translations.
   */
  setMemorySlot(index: number, present: boolean): void {
    this.#publishSlot(index, present);
  }

  /**
   * Fetch and clear the dirty bits of a block, 32 pages in a word. Order: clear, flush every vCPU's write
   * translations and wait for that, then the caller reads the pages; a later store marks its page again. A
   * page whose bit is clear has no write translation, so if nothing was cleared nothing is flushed.
   */
  async getAndClearDirtyLog(index: number): Promise<Int32Array> {
    const log = this.memory.takeDirty(this.memory.blocks[index]!);
    if (log.some((bits) => bits !== 0)) await makeRequestsAsync(REQ.TLB_FLUSH, this.#requests);
    return log;
  }

  // ---- interrupts, timers, doorbells ----

  createIrqchip(windows: IrqchipWindows): void {
    placeIrqchip(this.buffer, windows);
  }

  irqLine(source: number, level: boolean): void {
    this.#plic.setLine(source, level);
  }
  irqEdge(source: number): void {
    this.#plic.edge(source);
  }
  ioeventfd(guestPhys: number, datamatch: number, notify: () => void): { remove(): void } {
    // The time of the notification must not depend on the host.
    if (this.#exact) return { remove: () => {} };
    return this.#ioeventfds.add(guestPhys, datamatch, notify);
  }
  expectDoorbell(): void {
    this.#exitPoll.expectDoorbell();
  }
  coalesceMmio(guestPhys: number, size: number): void {
    if (!this.#exact) this.#coalesced.addZone(guestPhys, size);
  }
  /**
   * The byte at `guestPhys` may have a shadowed value, which vCPUs read without an exit; `undefined`
   * withdraws it.
   */
  shadowRead(guestPhys: number): { set(value: number | undefined): void } {
    return this.#exact ? { set: () => {} } : this.#shadows.add(guestPhys);
  }
  interruptStatus(guestPhys: number, source: number): InterruptStatus | undefined {
    return this.#exact ? undefined : this.#statuses.add(guestPhys, source);
  }
  drainCoalesced(): void {
    this.#coalesced.drain((guestPhys, size, value) => this.events.mmio.write(guestPhys, size, value));
  }
  dispatchDoorbells(): void {
    this.#ioeventfds.dispatch();
  }

  /** A vCPU has signalled. */
  signalled(): void {
    this.#exitPoll.signalled();
  }
  #serveExits(): void {
    this.drainCoalesced();
    this.dispatchDoorbells();
    for (const vcpu of this.vcpus) vcpu.serveExit();
  }
  /** A vCPU's exit is served. */
  exited(requests: VcpuRequests): void {
    this.#exitPoll.exited(requests);
  }

  /** KVM_GET/SET_IRQCHIP: the state of the PLIC and the ACLINT, in the form of their schemas. */
  get plic(): Pick<Plic, "get" | "check" | "set"> {
    return this.#plic;
  }
  get aclint(): Pick<Aclint, "get" | "check" | "set"> {
    return this.#aclint;
  }
  resetIrqchip(): void {
    this.#plic.reset();
    this.#aclint.reset();
  }

  // ---- suspend (SBI SUSP) ----

  get isSuspended(): boolean {
    let suspended = 0;
    for (const r of this.#requests) {
      const state = r.load(CTL_MP_STATE);
      if (state === MP_STATE.SUSPENDED && r.read64(SBI_SUSPEND_TYPE) === BigInt(SUSPEND_NON_RETENTIVE))
        suspended++;
      else if (state !== MP_STATE.STOPPED) return false;
    }
    return suspended === 1;
  }

  wakeUp(): void {
    if (!this.isSuspended) return;
    for (const r of this.#requests) {
      const { SUSPENDED, INIT_RECEIVED } = MP_STATE;
      if (r.compareExchange(CTL_MP_STATE, SUSPENDED, INIT_RECEIVED) !== SUSPENDED) continue;
      r.make(REQ.VCPU_RESET);
      r.kick();
    }
  }

  // ---- life cycle ----

  /** A fatal error: no vCPU of this VM runs again (KVM_REQ_VM_DEAD). */
  markDead(why: string): void {
    this.#failure ??= why;
    Atomics.store(this.#words, VM_DEAD_WORD >>> 2, 1);
    makeRequests(REQ.VM_DEAD, this.#requests);
  }
  get failure(): string | undefined {
    return this.#failure;
  }
  get dead(): boolean {
    return Atomics.load(this.#words, VM_DEAD_WORD >>> 2) !== 0;
  }

  /**
   * Starts the translation thread, once, when a vCPU runs for the first time: until then there is nothing to
   * translate, and a restore has better work for the host's cores.
   */
  startTranslator(): void {
    const spawn = this.#spawnTranslator;
    this.#spawnTranslator = undefined;
    if (spawn === undefined || this.#isEnding) return;
    try {
      this.#translator = spawn();
      this.#translator.onFault((error) => this.#translatorFailed(error));
    } catch (error) {
      this.#translatorFailed(error);
    }
  }

  #translatorFailed(error: unknown): void {
    Atomics.store(this.#words, VM_TRANSLATOR_RUN >>> 2, TRANSLATOR_RUN.ENDED);
    Atomics.notify(this.#words, VM_TRANSLATOR_RUN >>> 2);
    // A thread that was told to end may do so in any way.
    if (this.#isEnding) return;
    const why = `the translation thread: ${messageOf(error)}`;
    this.markDead(why);
    this.events.internalError(undefined, why);
  }

  async destroy(): Promise<void> {
    this.#isEnding = true;
    await Promise.all([...this.vcpus.map((v) => v.end()), this.#endTranslator()]);
  }

  async #endTranslator(): Promise<void> {
    if (this.#translator === undefined) return;
    const words = this.#words;
    const run = VM_TRANSLATOR_RUN >>> 2;
    if (Atomics.compareExchange(words, run, TRANSLATOR_RUN.GO, TRANSLATOR_RUN.END) === TRANSLATOR_RUN.GO) {
      Atomics.notify(words, run);
      new CodeCache(this.buffer).wake();
      await Atomics.waitAsync(words, run, TRANSLATOR_RUN.END, TRANSLATOR_END_MS).value;
    }
    await this.#translator.terminate();
  }
}

export class Vcpu implements AcceleratorVcpu {
  readonly id: number;
  readonly #vm: Vm;
  readonly #requests: VcpuRequests;
  readonly #thread: ThreadHandle;
  readonly #regs: OneRegs;
  readonly #bytes: Uint8Array<SharedArrayBuffer>;
  #parkWaiters: (() => void)[] = [];
  /** Resolves when its thread has started, or died. */
  readonly started: Promise<void>;
  #hasStarted: () => void = () => {};

  constructor(vm: Vm, id: number, requests: VcpuRequests, thread: ThreadHandle) {
    this.id = id;
    this.#vm = vm;
    this.#requests = requests;
    this.#thread = thread;
    this.#regs = new OneRegs(vm.buffer, id, requests, vm.clock);
    this.#bytes = new Uint8Array(vm.buffer);
    this.started = new Promise((resolve) => {
      this.#hasStarted = resolve;
    });
    thread.onSignal(() => this.#onSignal());
    thread.onFault((error) => {
      this.#hasStarted();
      // A thread that was told to end may do so in any way.
      if (this.#isEnded) return;
      this.#parkDeadThread();
      const why = messageOf(error);
      vm.markDead(`vCPU ${id}: ${why}`);
      vm.events.internalError(id, why);
    });
  }

  get paused(): boolean {
    return this.#requests.load(CTL_RUN) === RUN.PARKED;
  }

  resume(): void {
    if (this.#vm.dead)
      throw new VmError("vm.dead", `vCPU ${this.id}: the VM cannot run again: ${this.#vm.failure}`);
    const run = this.#requests.load(CTL_RUN);
    if (run !== RUN.PAUSE && run !== RUN.PARKED) return;
    this.#requests.store(CTL_RUN, RUN.GO);
    this.#requests.notify(CTL_RUN);
    this.#vm.startTranslator();
  }

  /**
   * Pause the vCPU; resolves once it is parked at an instruction boundary with no exit in progress. The
   * request is OUTSIDE_GUEST_MODE: never recorded, it only makes the target leave guest mode. Rejects with
   * VmError once the VM is destroyed.
   */
  async pause(): Promise<void> {
    const r = this.#requests;
    if (r.load(CTL_RUN) === RUN.GO) r.store(CTL_RUN, RUN.PAUSE);
    r.wake();
    makeRequests(REQ.OUTSIDE_GUEST_MODE, [r]);
    if (!this.paused) {
      await new Promise<void>((resolve) => {
        this.#parkWaiters.push(resolve);
        if (this.paused || this.#isEnded) this.#wakeParkWaiters();
      });
    }
    if (this.#isEnded) throw new VmError("vcpu.ended", `vCPU ${this.id} has ended: its VM was destroyed`);
    this.#vm.drainCoalesced();
  }

  /**
   * The thread has died, perhaps in guest mode: leave guest mode and park in its place, so that nothing waits
   * forever.
   */
  #parkDeadThread(): void {
    this.#requests.leaveGuestMode();
    this.#requests.store(CTL_RUN, RUN.PARKED);
    this.#wakeParkWaiters();
  }

  #wakeParkWaiters(): void {
    const waiters = this.#parkWaiters;
    this.#parkWaiters = [];
    for (const waiter of waiters) waiter();
  }

  get #isEnded(): boolean {
    return this.#requests.load(CTL_RUN) === RUN.END;
  }

  async end(): Promise<void> {
    this.#requests.store(CTL_RUN, RUN.END);
    this.#requests.notify(CTL_RUN);
    this.#requests.wake();
    this.#requests.kick();
    if (this.#requests.load(CTL_ENDED) === 0) await this.#thread.terminate();
    this.#wakeParkWaiters();
  }

  get #mustBePaused(): OneRegs {
    if (!this.paused) {
      throw new VmError(
        "vcpu.running",
        `vCPU ${this.id} is running: pause it before its registers are read or written`,
      );
    }
    return this.#regs;
  }
  getOneReg(id: bigint): bigint {
    return this.#mustBePaused.get(id);
  }
  setOneReg(id: bigint, value: bigint): void {
    this.#mustBePaused.set(id, value);
    // The written registers may have changed address translation.
    this.#requests.make(REQ.TLB_FLUSH);
  }
  getMpState(): number {
    return this.#mustBePaused.getMpState();
  }
  setMpState(state: number): void {
    this.#mustBePaused.setMpState(state);
  }
  regList(): bigint[] {
    return this.#regs.list();
  }
  /**
   * Clear state that no stream contains: the LR/SC reservation. Interrupt lines belong to the devices that
   * drive them.
   */
  clearTransient(): void {
    this.#mustBePaused.clearTransient();
  }

  // ---- exits ----

  #onSignal(): void {
    this.#hasStarted();
    this.#vm.signalled();
    if (this.paused) this.#wakeParkWaiters();
  }

  /** Answers this vCPU's exit, if there is one. */
  serveExit(): void {
    if (this.#requests.load(RUN_STATUS) !== RUN_PAGE.POSTED) return;
    this.#vm.exited(this.#requests);
    // Perhaps queued since the last drain: by a write that found the ring full.
    this.#vm.drainCoalesced();
    this.#handleExit();
  }

  #answer(ok: boolean): void {
    const r = this.#requests;
    r.store(RUN_OK, ok ? 1 : 0);
    r.store(RUN_STATUS, RUN_PAGE.ANSWERED);
    r.notify(RUN_STATUS);
  }

  #handleExit(): void {
    const r = this.#requests;
    const { events } = this.#vm;
    const reason = r.load(RUN_EXIT_REASON);
    const gpa = r.load(RUN_GPA_HIGH) * 0x1_0000_0000 + (r.load(RUN_GPA_LOW) >>> 0);
    const size = r.load(RUN_SIZE);
    const consoleAt = hartBase(this.id) + RUN_CONSOLE;
    switch (reason) {
      case EXIT_REASON.MMIO_READ: {
        const value = events.mmio.read(gpa, size);
        r.write64(RUN_DATA, value ?? 0n);
        this.#answer(value !== undefined);
        return;
      }
      case EXIT_REASON.MMIO_WRITE:
        this.#answer(events.mmio.write(gpa, size, r.read64(RUN_DATA)));
        return;
      case EXIT_REASON.SYSTEM_EVENT:
        // The guest executes no instruction after it has requested a reset or shutdown.
        if (SYSTEM_EVENTS[gpa] !== "suspend") r.compareExchange(CTL_RUN, RUN.GO, RUN.PAUSE);
        events.systemEvent(SYSTEM_EVENTS[gpa] ?? "crash");
        this.#answer(true);
        return;
      case EXIT_REASON.CONSOLE_WRITE:
        r.store(RUN_SIZE, events.consoleWrite(this.#bytes.slice(consoleAt, consoleAt + size)));
        this.#answer(true);
        return;
      case EXIT_REASON.CONSOLE_READ: {
        const input = events.consoleRead(Math.min(size, RUN_CONSOLE_SIZE)).subarray(0, RUN_CONSOLE_SIZE);
        this.#bytes.set(input, consoleAt);
        r.store(RUN_SIZE, input.length);
        this.#answer(true);
        return;
      }
      default:
        this.#vm.markDead(`vCPU ${this.id}: the engine stopped with reason ${gpa}`);
        events.internalError(this.id, `the engine stopped with reason ${gpa}`);
        this.#answer(false);
    }
  }
}
