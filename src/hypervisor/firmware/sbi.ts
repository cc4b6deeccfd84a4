// The built-in SBI firmware (RISC-V SBI specification 3.0): BASE, TIME, IPI, RFENCE, HSM, SRST, DBCN, SUSP,
// STA, PMU, FWFT and the legacy console, handled on the calling vCPU's own thread, as KVM does. Left out:
// SSE, MPXY, CPPC, NACL, and DBTR, since harts have no triggers. The vCPU has left guest mode: a0…a7 are in
// the hart's state. docs/sbi.md lists all functions.
import { ALL_ONES } from "../../base/uint64.ts";
import { INTERRUPT } from "../../riscv/causes.ts";
import type { SystemEvent } from "../../accelerator/accelerator.ts";
import { hex } from "../../base/hex.ts";
import type { GuestClock } from "../requests/guest-clock.ts";
import type { HartPending } from "../requests/hart-pending.ts";
import { type HfenceQueue, HFENCE_TYPE } from "../requests/hfence-queue.ts";
import {
  CTL_MP_STATE,
  SBI_STA_SHMEM,
  SBI_START_ADDRESS,
  SBI_START_ARGUMENT,
  SBI_SUSPEND_TYPE,
} from "../shared/memory-map.ts";
import { MP_STATE } from "../../accelerator/mp-state.ts";
import type { Activity } from "../shared/vcpu-activities.ts";
import { makeRequests, REQ, type VcpuRequests } from "../requests/vcpu-requests.ts";
import type { SlotMemory } from "../shared/memory-slots.ts";
import type { HartImage } from "../hart/hart-image.ts";
import { FIRMWARE_EVENT, type FirmwareCounters, type FirmwareEvent } from "./firmware-counters.ts";
import { fwftGet, fwftSet } from "./sbi-fwft.ts";
import { SbiPmu } from "./sbi-pmu.ts";
import { fail, ok, SBI_ERR, type SbiReturn } from "./sbi-return.ts";

const EXT_BASE = 0x10;
const EXT_TIME = 0x54494d45;
const EXT_IPI = 0x735049;
const EXT_RFENCE = 0x52464e43;
const EXT_HSM = 0x48534d;
const EXT_SRST = 0x53525354;
const EXT_DBCN = 0x4442434e;
const EXT_SUSP = 0x53555350;
const EXT_STA = 0x535441;
const EXT_PMU = 0x504d55;
const EXT_FWFT = 0x46574654;
const LEGACY_SET_TIMER = 0;
const LEGACY_PUTCHAR = 1;
const LEGACY_GETCHAR = 2;
const LEGACY_CLEAR_IPI = 3;
const LEGACY_SEND_IPI = 4;
const LEGACY_REMOTE_FENCE_I = 5;
const LEGACY_REMOTE_SFENCE_VMA = 6;
const LEGACY_REMOTE_SFENCE_VMA_ASID = 7;
const LEGACY_SHUTDOWN = 8;

const SBI_SPEC_VERSION = 0x03000000n;
/** Wherry has no assigned number; KVM's is 3. This one is outside the assigned range. */
const SBI_IMPL_ID = 0x57n;
const SBI_IMPL_VERSION = 1n;

const HSM_STARTED = 0n;
const HSM_STOPPED = 1n;
const HSM_START_PENDING = 2n;
const HSM_SUSPENDED = 4n;
const HSM_RESUME_PENDING = 6n;
export const SUSPEND_RETENTIVE = 0x00000000;
export const SUSPEND_NON_RETENTIVE = 0x80000000;

const MIP_SSIP = 1 << INTERRUPT.SSI;

const ACTIVITY: ReadonlyMap<number, Activity> = new Map<number, Activity>([
  [EXT_BASE, "sbi-base"],
  [EXT_TIME, "sbi-time"],
  [EXT_IPI, "sbi-ipi"],
  [EXT_RFENCE, "sbi-rfence"],
  [EXT_HSM, "sbi-hsm"],
  [EXT_SRST, "sbi-srst"],
  [EXT_DBCN, "sbi-dbcn"],
  [EXT_SUSP, "sbi-susp"],
  [EXT_STA, "sbi-sta"],
  [EXT_PMU, "sbi-pmu"],
  [EXT_FWFT, "sbi-fwft"],
]);

/** The activity under which --perf counts a call with this a7. */
export function sbiActivity(extension: bigint): Activity {
  if (extension <= BigInt(LEGACY_SHUTDOWN)) return "sbi-legacy";
  return ACTIVITY.get(Number(extension)) ?? "sbi-unknown";
}

/** The services that the firmware needs from its thread. */
export interface SbiThread {
  readonly hart: number;
  readonly vcpus: readonly VcpuRequests[];
  readonly pending: readonly HartPending[];
  readonly hfences: readonly HfenceQueue[];
  readonly counters: readonly FirmwareCounters[];
  readonly image: HartImage;
  readonly memory: SlotMemory;
  readonly clock: GuestClock;
  readonly identity: { mvendorid: bigint; marchid: bigint; mimpid: bigint };
  /** STA needs a host that can measure a thread's own CPU time. */
  readonly canCountSteal: boolean;
  getX(index: number): bigint;
  setX(index: number, value: bigint): void;
  setStimecmp(ticks: bigint): void;
  read64(controlOffset: number): bigint;
  write64(controlOffset: number, value: bigint): void;
  /** Exits to the VMM. */
  systemEvent(event: SystemEvent, detail: bigint): void;
  /** Returns how many bytes were taken: 0 while the console's reader is behind. */
  consoleWrite(bytes: Uint8Array): number;
  consoleRead(max: number): Uint8Array;
  /** The hart makes this call again, for one that blocks: it can be stopped and saved meanwhile. */
  repeatCall(): void;
}

/** Bytes that one DBCN call writes or reads at most. */
const CONSOLE_CHUNK = 4096n;

export class SbiFirmware {
  readonly #thread: SbiThread;
  readonly #me: VcpuRequests;
  readonly #counters: FirmwareCounters;
  readonly #pmu: SbiPmu;

  constructor(thread: SbiThread) {
    this.#thread = thread;
    this.#me = thread.vcpus[thread.hart]!;
    this.#counters = thread.counters[thread.hart]!;
    this.#pmu = new SbiPmu(thread.image, thread.memory, this.#me);
  }

  /** Handle the call in a7/a6 and write the result registers; the caller advances pc first. */
  call(): void {
    const thread = this.#thread;
    const extension = BigInt.asUintN(32, thread.getX(17)) === thread.getX(17) ? Number(thread.getX(17)) : -1;
    const func = this.#u32(16);
    if (extension >= 0 && extension <= LEGACY_SHUTDOWN) {
      const value = this.#legacy(extension);
      if (value !== undefined) thread.setX(10, BigInt.asUintN(64, BigInt(value)));
      return;
    }
    const result = this.#dispatch(extension, func);
    if (result === undefined) return;
    thread.setX(10, BigInt.asUintN(64, BigInt(result.error)));
    thread.setX(11, BigInt.asUintN(64, result.value));
  }

  /** An argument of type uint32_t: "higher privilege software must ensure that it only uses 32 bit data". */
  #u32(register: number): number {
    return Number(BigInt.asUintN(32, this.#thread.getX(register)));
  }

  /** undefined if the call does not return here (hart stopped, suspended or reset; the call is repeated). */
  #dispatch(extension: number, func: number): SbiReturn | undefined {
    switch (extension) {
      case EXT_BASE:
        return this.#base(func);
      case EXT_TIME:
        if (func !== 0) return fail(SBI_ERR.NOT_SUPPORTED);
        this.#setTimer();
        return ok();
      case EXT_IPI:
        return func === 0
          ? this.#sendIpi(this.#thread.getX(10), this.#thread.getX(11))
          : fail(SBI_ERR.NOT_SUPPORTED);
      case EXT_RFENCE:
        return this.#rfence(func);
      case EXT_HSM:
        return this.#hsm(func);
      case EXT_SRST:
        return this.#srst(func);
      case EXT_DBCN:
        return this.#dbcn(func);
      case EXT_SUSP:
        return this.#susp(func);
      case EXT_STA:
        return this.#sta(func);
      case EXT_PMU:
        return this.#pmu.call(func, [10, 11, 12, 13, 14].map(this.#thread.getX));
      case EXT_FWFT:
        return this.#fwft(func);
      default:
        return fail(SBI_ERR.NOT_SUPPORTED);
    }
  }

  #probe(extension: bigint): bigint {
    const known = [
      EXT_BASE,
      EXT_TIME,
      EXT_IPI,
      EXT_RFENCE,
      EXT_HSM,
      EXT_SRST,
      EXT_DBCN,
      EXT_SUSP,
      EXT_PMU,
      EXT_FWFT,
    ];
    if (extension < BigInt(LEGACY_SEND_IPI) || extension === BigInt(LEGACY_SHUTDOWN)) return 1n;
    if (extension === BigInt(EXT_STA)) return this.#thread.canCountSteal ? 1n : 0n;
    return known.some((e) => BigInt(e) === extension) ? 1n : 0n;
  }

  #base(func: number): SbiReturn {
    const { identity } = this.#thread;
    switch (func) {
      case 0:
        return ok(SBI_SPEC_VERSION);
      case 1:
        return ok(SBI_IMPL_ID);
      case 2:
        return ok(SBI_IMPL_VERSION);
      case 3:
        return ok(this.#probe(this.#thread.getX(10)));
      case 4:
        return ok(identity.mvendorid);
      case 5:
        return ok(identity.marchid);
      case 6:
        return ok(identity.mimpid);
      default:
        return fail(SBI_ERR.NOT_SUPPORTED);
    }
  }

  /** The harts of a mask and base (SBI 3.0 §3.1); undefined if one does not exist. */
  #targets(mask: bigint, base: bigint): number[] | undefined {
    const count = this.#thread.vcpus.length;
    if (base === ALL_ONES) return Array.from({ length: count }, (_, i) => i);
    const targets: number[] = [];
    for (let i = 0n, m = mask; m !== 0n; i++, m >>= 1n) {
      if ((m & 1n) === 0n) continue;
      const hart = base + i;
      if (hart >= BigInt(count)) return undefined;
      targets.push(Number(hart));
    }
    return targets;
  }

  #sendIpi(mask: bigint, base: bigint): SbiReturn {
    const targets = this.#targets(mask, base);
    if (targets === undefined) return fail(SBI_ERR.INVALID_PARAM);
    for (const hart of targets) this.#thread.pending[hart]!.raise(MIP_SSIP);
    this.#count(targets, FIRMWARE_EVENT.IPI_SENT, FIRMWARE_EVENT.IPI_RECEIVED);
    return ok();
  }

  #setTimer(): void {
    this.#thread.setStimecmp(this.#thread.getX(10));
    this.#counters.count(FIRMWARE_EVENT.SET_TIMER);
  }

  /** Events between this hart and others. */
  #count(targets: readonly number[], sent: FirmwareEvent, received: FirmwareEvent): void {
    const { counters, hart } = this.#thread;
    for (const target of targets) {
      if (target === hart) continue;
      this.#counters.count(sent);
      counters[target]!.count(received);
    }
  }

  #rfence(func: number): SbiReturn {
    const thread = this.#thread;
    // HFENCE's functions need the hypervisor extension.
    if (func > 2) return fail(SBI_ERR.NOT_SUPPORTED);
    const targets = this.#targets(thread.getX(10), thread.getX(11));
    if (targets === undefined) return fail(SBI_ERR.INVALID_PARAM);
    const start = thread.getX(12);
    const size = thread.getX(13);
    switch (func) {
      case 0:
        makeRequests(
          REQ.FENCE_I,
          targets.map((t) => thread.vcpus[t]!),
        );
        this.#count(targets, FIRMWARE_EVENT.FENCE_I_SENT, FIRMWARE_EVENT.FENCE_I_RECEIVED);
        return ok();
      case 1:
        this.#count(targets, FIRMWARE_EVENT.SFENCE_VMA_SENT, FIRMWARE_EVENT.SFENCE_VMA_RECEIVED);
        return this.#sfence(targets, HFENCE_TYPE.VVMA, start, size, 0);
      default:
        this.#count(targets, FIRMWARE_EVENT.SFENCE_VMA_ASID_SENT, FIRMWARE_EVENT.SFENCE_VMA_ASID_RECEIVED);
        return this.#sfence(
          targets,
          HFENCE_TYPE.VVMA_ASID,
          start,
          size,
          Number(BigInt.asUintN(16, thread.getX(14))),
        );
    }
  }

  /**
   * Remote sfence.vma: queue a range for each target, or request HFENCE_VVMA_ALL if it covers everything or
   * the queue is full.
   */
  #sfence(targets: number[], type: number, start: bigint, size: bigint, asid: number): SbiReturn {
    const { vcpus, hfences } = this.#thread;
    const whole = size === ALL_ONES || (start === 0n && size === 0n);
    const all = whole && type === HFENCE_TYPE.VVMA;
    const fence = { type, start, size: whole ? ALL_ONES : size, asid };
    const queued: VcpuRequests[] = [];
    const flushed: VcpuRequests[] = [];
    for (const t of targets) {
      if (!all && hfences[t]!.push(fence)) queued.push(vcpus[t]!);
      else flushed.push(vcpus[t]!);
    }
    makeRequests(REQ.HFENCE, queued);
    makeRequests(REQ.HFENCE_VVMA_ALL, flushed);
    return ok();
  }

  #hsm(func: number): SbiReturn | undefined {
    const thread = this.#thread;
    switch (func) {
      case 0: {
        const target = thread.vcpus[Number(thread.getX(10))];
        if (target === undefined) return fail(SBI_ERR.INVALID_PARAM);
        if (!this.#isMemory(thread.getX(11))) return fail(SBI_ERR.INVALID_ADDRESS);
        return startHart(target, thread.getX(11), thread.getX(12)) ? ok() : fail(SBI_ERR.ALREADY_AVAILABLE);
      }
      case 1:
        this.#me.store(CTL_MP_STATE, MP_STATE.STOPPED);
        this.#me.make(REQ.SLEEP);
        return undefined;
      case 2: {
        const target = thread.vcpus[Number(thread.getX(10))];
        return target === undefined ? fail(SBI_ERR.INVALID_PARAM) : ok(hsmStatus(target));
      }
      case 3:
        return this.#suspend(this.#u32(10), thread.getX(11), thread.getX(12));
      default:
        return fail(SBI_ERR.NOT_SUPPORTED);
    }
  }

  /** Whether a hart can start at this address. */
  #isMemory(address: bigint): boolean {
    const read = (): Uint8Array | undefined => this.#thread.memory.read(Number(address), 4);
    return this.#me.readingShadowPageTables(read) !== undefined;
  }

  #suspend(type: number, resumeAddress: bigint, argument: bigint): SbiReturn | undefined {
    const thread = this.#thread;
    // Reserved, or platform-specific and not implemented (SBI 3.0 §9.4).
    if (type !== SUSPEND_RETENTIVE && type !== SUSPEND_NON_RETENTIVE) return fail(SBI_ERR.INVALID_PARAM);
    if (type === SUSPEND_NON_RETENTIVE && !this.#isMemory(resumeAddress))
      return fail(SBI_ERR.INVALID_ADDRESS);
    thread.write64(SBI_SUSPEND_TYPE, BigInt(type));
    thread.write64(SBI_START_ADDRESS, resumeAddress);
    thread.write64(SBI_START_ARGUMENT, argument);
    this.#me.store(CTL_MP_STATE, MP_STATE.SUSPENDED);
    this.#me.make(REQ.SLEEP);
    // A retentive suspend returns SUCCESS after the wake-up, so the registers are set now.
    return type === SUSPEND_RETENTIVE ? ok() : undefined;
  }

  #srst(func: number): SbiReturn {
    if (func !== 0) return fail(SBI_ERR.NOT_SUPPORTED);
    const type = this.#u32(10);
    const reason = this.#u32(11);
    if (type > 2 || reason > 1) return fail(SBI_ERR.INVALID_PARAM);
    // Reason 1 is "system failure": a supervisor of the machine must be able to distinguish it from a planned
    // shutdown.
    const shutdown = reason === 0 ? "shutdown" : "crash";
    this.#thread.systemEvent(type === 0 ? shutdown : "reset", BigInt(reason));
    return fail(SBI_ERR.FAILED);
  }

  /** Writes the byte in a0. Returns false if the hart must call again. */
  #putByte(): boolean {
    const thread = this.#thread;
    const isTaken = thread.consoleWrite(Uint8Array.of(Number(thread.getX(10) & 0xffn))) === 1;
    if (!isTaken) thread.repeatCall();
    return isTaken;
  }

  #dbcn(func: number): SbiReturn | undefined {
    const thread = this.#thread;
    if (func === 2) return this.#putByte() ? ok() : undefined;
    if (func > 2) return fail(SBI_ERR.NOT_SUPPORTED);
    const [bytes, low, high] = [thread.getX(10), thread.getX(11), thread.getX(12)];
    if (high !== 0n) return fail(SBI_ERR.INVALID_PARAM);
    if (bytes === 0n) return ok(0n);
    const address = Number(low);
    const isMemory = (): boolean => thread.memory.has(address, Number(bytes), func === 1);
    if (!this.#me.readingShadowPageTables(isMemory)) return fail(SBI_ERR.INVALID_PARAM);
    const chunk = Number(bytes < CONSOLE_CHUNK ? bytes : CONSOLE_CHUNK);
    if (func === 0) {
      const output = this.#me.readingShadowPageTables(() => thread.memory.read(address, chunk));
      return output === undefined ? fail(SBI_ERR.INVALID_PARAM) : ok(BigInt(thread.consoleWrite(output)));
    }
    const input = thread.consoleRead(chunk);
    if (input.length > 0) this.#me.readingShadowPageTables(() => thread.memory.write(address, input));
    return ok(BigInt(input.length));
  }

  #susp(func: number): SbiReturn | undefined {
    const thread = this.#thread;
    if (func !== 0) return fail(SBI_ERR.NOT_SUPPORTED);
    if (this.#u32(10) !== 0) return fail(SBI_ERR.INVALID_PARAM);
    for (let i = 0; i < thread.vcpus.length; i++) {
      if (i !== thread.hart && thread.vcpus[i]!.load(CTL_MP_STATE) !== MP_STATE.STOPPED)
        return fail(SBI_ERR.DENIED);
    }
    if (!this.#isMemory(thread.getX(11))) return fail(SBI_ERR.INVALID_ADDRESS);
    const resume = this.#suspend(SUSPEND_NON_RETENTIVE, thread.getX(11), thread.getX(12));
    thread.systemEvent("suspend", 0n);
    return resume;
  }

  #fwft(func: number): SbiReturn {
    const { image, getX } = this.#thread;
    if (func === 0) return fwftSet(image, this.#u32(10), getX(11), getX(12));
    return func === 1 ? fwftGet(image, this.#u32(10)) : fail(SBI_ERR.NOT_SUPPORTED);
  }

  #sta(func: number): SbiReturn {
    const thread = this.#thread;
    if (func !== 0 || !thread.canCountSteal) return fail(SBI_ERR.NOT_SUPPORTED);
    const low = thread.getX(10);
    const high = thread.getX(11);
    if (thread.getX(12) !== 0n) return fail(SBI_ERR.INVALID_PARAM);
    if (low === ALL_ONES && high === ALL_ONES) {
      thread.write64(SBI_STA_SHMEM, ALL_ONES);
      return ok();
    }
    if ((low & 63n) !== 0n) return fail(SBI_ERR.INVALID_PARAM);
    const zero = (): boolean => thread.memory.write(Number(low), new Uint8Array(64));
    if (high !== 0n || !this.#me.readingShadowPageTables(zero)) return fail(SBI_ERR.INVALID_ADDRESS);
    thread.write64(SBI_STA_SHMEM, low);
    this.#me.make(REQ.STEAL_UPDATE);
    return ok();
  }

  /** Legacy calls return their value in a0 alone; undefined if the call is repeated. */
  #legacy(extension: number): number | undefined {
    const thread = this.#thread;
    switch (extension) {
      case LEGACY_SET_TIMER:
        this.#setTimer();
        return 0;
      case LEGACY_PUTCHAR:
        return this.#putByte() ? 0 : undefined;
      case LEGACY_GETCHAR:
        return thread.consoleRead(1)[0] ?? -1;
      case LEGACY_CLEAR_IPI: {
        const pending = thread.pending[thread.hart]!;
        const was = (pending.bits & MIP_SSIP) !== 0;
        pending.clear(MIP_SSIP);
        return was ? 1 : 0;
      }
      case LEGACY_SHUTDOWN:
        thread.systemEvent("shutdown", 0n);
        return 0;
      case LEGACY_SEND_IPI:
      case LEGACY_REMOTE_FENCE_I:
      case LEGACY_REMOTE_SFENCE_VMA:
      case LEGACY_REMOTE_SFENCE_VMA_ASID:
        // The masks of these calls are passed by virtual address, and the extensions above replace them (SBI
        // 3.0 §5).
        return SBI_ERR.NOT_SUPPORTED;
      default:
        throw new RangeError(`legacy SBI call ${hex(extension)}`);
    }
  }
}

/**
 * HSM hart_start: of concurrent starts one succeeds; the target resets itself (VCPU_RESET) before it runs.
 */
export function startHart(target: VcpuRequests, address: bigint, argument: bigint): boolean {
  if (target.compareExchange(CTL_MP_STATE, MP_STATE.STOPPED, MP_STATE.INIT_RECEIVED) !== MP_STATE.STOPPED)
    return false;
  target.write64(SBI_START_ADDRESS, address);
  target.write64(SBI_START_ARGUMENT, argument);
  target.write64(SBI_SUSPEND_TYPE, BigInt(SUSPEND_RETENTIVE));
  target.make(REQ.VCPU_RESET);
  target.kick();
  return true;
}

function hsmStatus(target: VcpuRequests): bigint {
  switch (target.load(CTL_MP_STATE)) {
    case MP_STATE.STOPPED:
      return HSM_STOPPED;
    case MP_STATE.INIT_RECEIVED:
      return target.read64(SBI_SUSPEND_TYPE) === BigInt(SUSPEND_NON_RETENTIVE)
        ? HSM_RESUME_PENDING
        : HSM_START_PENDING;
    case MP_STATE.SUSPENDED:
      return HSM_SUSPENDED;
    default:
      return HSM_STARTED;
  }
}
