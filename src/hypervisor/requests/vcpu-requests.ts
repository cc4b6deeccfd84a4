// vCPU requests, modes and kicks (Linux Documentation/virt/kvm/vcpu-requests.rst). All functions use Atomics
// on the control block, so any thread may call them: other vCPU threads and the VMM thread send requests;
// only the vCPU itself clears them. Atomics are sequentially consistent, which is the "full barrier" that the
// protocol needs between request and mode. docs/models/vcpu-requests.pml is a model of this file; change both
// together.
import {
  CTL_EXITS,
  CTL_EXIT_WAITERS,
  CTL_KICK,
  CTL_MODE,
  CTL_REQUESTS,
  CTL_SLEEPING,
  CTL_WAKE,
  hartBase,
} from "../shared/memory-map.ts";

export const VCPU_MODE = {
  OUTSIDE_GUEST_MODE: 0,
  IN_GUEST_MODE: 1,
  EXITING_GUEST_MODE: 2,
  READING_SHADOW_PAGE_TABLES: 3,
} as const;

/** The request number is in bits 0–7; the flags are above it. */
export const REQUEST_MASK = 0xff;
export const REQUEST_NO_WAKEUP = 1 << 8;
export const REQUEST_WAIT = 1 << 9;
export const REQUEST_NO_ACTION = 1 << 10;
const ARCH_BASE = 8;

export const REQ = {
  TLB_FLUSH: 0 | REQUEST_WAIT | REQUEST_NO_WAKEUP,
  VM_DEAD: 1 | REQUEST_WAIT | REQUEST_NO_WAKEUP,
  UNBLOCK: 2,
  /** Never recorded: the sender only waits until the target has left guest mode. */
  OUTSIDE_GUEST_MODE: 0xff | REQUEST_WAIT | REQUEST_NO_WAKEUP | REQUEST_NO_ACTION,
  SLEEP: ARCH_BASE | REQUEST_WAIT | REQUEST_NO_WAKEUP,
  VCPU_RESET: ARCH_BASE + 1,
  UPDATE_HGATP: ARCH_BASE + 2,
  FENCE_I: (ARCH_BASE + 3) | REQUEST_WAIT | REQUEST_NO_WAKEUP,
  HFENCE_VVMA_ALL: (ARCH_BASE + 4) | REQUEST_WAIT | REQUEST_NO_WAKEUP,
  HFENCE: (ARCH_BASE + 5) | REQUEST_WAIT | REQUEST_NO_WAKEUP,
  STEAL_UPDATE: ARCH_BASE + 6,
} as const;

function bitOf(request: number): number {
  return 1 << (request & REQUEST_MASK);
}

/** The requests and mode of one vCPU, for use by any thread. */
export class VcpuRequests {
  readonly words: Int32Array<SharedArrayBuffer>;
  readonly #wide: BigUint64Array<SharedArrayBuffer>;
  readonly #base: number;

  constructor(buffer: SharedArrayBuffer, hart: number) {
    this.words = new Int32Array(buffer);
    this.#wide = new BigUint64Array(buffer);
    this.#base = hartBase(hart) >>> 2;
  }

  #at(offset: number): number {
    return this.#base + (offset >>> 2);
  }
  load(offset: number): number {
    return Atomics.load(this.words, this.#at(offset));
  }
  store(offset: number, value: number): void {
    Atomics.store(this.words, this.#at(offset), value);
  }
  add(offset: number, value: number): number {
    return Atomics.add(this.words, this.#at(offset), value);
  }
  or(offset: number, bits: number): number {
    return Atomics.or(this.words, this.#at(offset), bits);
  }
  and(offset: number, bits: number): number {
    return Atomics.and(this.words, this.#at(offset), bits);
  }
  exchange(offset: number, value: number): number {
    return Atomics.exchange(this.words, this.#at(offset), value);
  }
  compareExchange(offset: number, expected: number, next: number): number {
    return Atomics.compareExchange(this.words, this.#at(offset), expected, next);
  }
  read64(offset: number): bigint {
    return Atomics.load(this.#wide, this.#at(offset) >>> 1);
  }
  write64(offset: number, value: bigint): void {
    Atomics.store(this.#wide, this.#at(offset) >>> 1, value);
  }
  /** Sleep while the word equals `value`, at most `timeoutMs`. */
  wait(offset: number, value: number, timeoutMs = Number.POSITIVE_INFINITY): void {
    Atomics.wait(this.words, this.#at(offset), value, timeoutMs);
  }
  notify(offset: number): void {
    Atomics.notify(this.words, this.#at(offset));
  }

  // ---- the sender's side ----

  /** kvm_make_request: record the request. Its data must have been written before. */
  make(request: number): void {
    if ((request & REQUEST_NO_ACTION) !== 0)
      throw new RangeError(`request ${request & REQUEST_MASK} is never recorded`);
    this.or(CTL_REQUESTS, bitOf(request));
  }

  /** kvm_vcpu_wake_up: wake the thread if it sleeps in block(). */
  wake(): void {
    this.add(CTL_WAKE, 1);
    this.notify(CTL_WAKE);
  }

  /**
   * kvm_vcpu_kick: wake a sleeping vCPU (unless `noWakeup`), interrupt one in guest mode once, otherwise do
   * nothing. Returns true if the vCPU was in guest mode, or was already leaving it.
   */
  kick(noWakeup = false): boolean {
    if (!noWakeup && this.load(CTL_SLEEPING) !== 0) this.wake();
    const previous = this.compareExchange(CTL_MODE, VCPU_MODE.IN_GUEST_MODE, VCPU_MODE.EXITING_GUEST_MODE);
    if (previous === VCPU_MODE.IN_GUEST_MODE) this.store(CTL_KICK, 1);
    return previous !== VCPU_MODE.OUTSIDE_GUEST_MODE;
  }

  /**
   * Called after the vCPU's interrupt lines or pending bits were set. In guest mode the vCPU soon polls them
   * itself (a posted interrupt) and need not exit. Outside it may be about to sleep, so it gets a request.
   */
  interrupt(): void {
    if (this.load(CTL_MODE) === VCPU_MODE.IN_GUEST_MODE) return;
    this.make(REQ.UNBLOCK);
    this.kick();
  }

  /** Wait until the target is outside guest mode, or has been outside since `exitsBefore` was read. */
  waitOutside(exitsBefore: number): void {
    this.add(CTL_EXIT_WAITERS, 1);
    while (this.load(CTL_MODE) !== VCPU_MODE.OUTSIDE_GUEST_MODE) {
      if (this.load(CTL_EXITS) !== exitsBefore) break;
      this.wait(CTL_EXITS, exitsBefore);
    }
    this.add(CTL_EXIT_WAITERS, -1);
  }

  /**
   * waitOutside without blocking the calling thread's event loop: for the VMM thread, which vCPUs in an exit
   * wait for.
   */
  async waitOutsideAsync(exitsBefore: number): Promise<void> {
    this.add(CTL_EXIT_WAITERS, 1);
    while (this.load(CTL_MODE) !== VCPU_MODE.OUTSIDE_GUEST_MODE && this.load(CTL_EXITS) === exitsBefore) {
      const { async, value } = Atomics.waitAsync(this.words, this.#at(CTL_EXITS), exitsBefore);
      if (async) await value;
    }
    this.add(CTL_EXIT_WAITERS, -1);
  }

  get exits(): number {
    return this.load(CTL_EXITS);
  }

  // ---- the receiver's side (the vCPU's own thread) ----

  /** kvm_request_pending. */
  pending(): boolean {
    return this.load(CTL_REQUESTS) !== 0;
  }
  /** kvm_test_request: test without clearing. */
  test(request: number): boolean {
    return (this.load(CTL_REQUESTS) & bitOf(request)) !== 0;
  }
  /** kvm_clear_request. */
  clear(request: number): void {
    this.and(CTL_REQUESTS, ~bitOf(request));
  }
  /** kvm_check_request: test and clear; the request's data may be read once this has returned true. */
  check(request: number): boolean {
    const bit = bitOf(request);
    if ((this.load(CTL_REQUESTS) & bit) === 0) return false;
    return (this.and(CTL_REQUESTS, ~bit) & bit) !== 0;
  }

  /**
   * Before running: clear old kicks and become IN_GUEST_MODE. Requests must be checked once more after this.
   */
  enterGuestMode(): void {
    this.store(CTL_KICK, 0);
    this.store(CTL_MODE, VCPU_MODE.IN_GUEST_MODE);
  }

  /** Left the guest (or aborted the entry): wake the threads that WAIT. */
  leaveGuestMode(): void {
    this.store(CTL_MODE, VCPU_MODE.OUTSIDE_GUEST_MODE);
    this.#countExit();
  }

  #countExit(): void {
    this.add(CTL_EXITS, 1);
    if (this.load(CTL_EXIT_WAITERS) !== 0) this.notify(CTL_EXITS);
  }

  /**
   * Run `read` while memory slots must not be removed: the sender of a WAIT request waits until it is done
   * (KVM's walk of shadow page tables outside the guest).
   */
  readingShadowPageTables<T>(read: () => T): T {
    this.store(CTL_MODE, VCPU_MODE.READING_SHADOW_PAGE_TABLES);
    try {
      return read();
    } finally {
      this.leaveGuestMode();
    }
  }

  /**
   * kvm_vcpu_block: sleep until `runnable()` or a wake-up. `runnable` is evaluated after the sleeping flag is
   * set, so that either the sender sees the flag or its change is seen here. `timeoutMs` limits one sleep.
   * Returns after any wake-up; the caller checks again.
   */
  block(runnable: () => boolean, timeoutMs: number): void {
    const wake = this.load(CTL_WAKE);
    this.store(CTL_SLEEPING, 1);
    if (!runnable()) this.wait(CTL_WAKE, wake, timeoutMs);
    this.store(CTL_SLEEPING, 0);
  }
}

/**
 * kvm_make_all_cpus_request: record the request for each target (unless NO_ACTION) and kick it; with WAIT,
 * return only when each interrupted target has left guest mode. Never waits for a sleeping vCPU.
 */
export function makeRequests(request: number, targets: Iterable<VcpuRequests>): void {
  for (const [target, exits] of makeAndKick(request, targets)) target.waitOutside(exits);
}

/** makeRequests for the VMM thread: waits without blocking its event loop. */
export async function makeRequestsAsync(request: number, targets: Iterable<VcpuRequests>): Promise<void> {
  for (const [target, exits] of makeAndKick(request, targets)) await target.waitOutsideAsync(exits);
}

/** Returns the targets to wait for, with their exit counts from before the kick. */
function makeAndKick(request: number, targets: Iterable<VcpuRequests>): [VcpuRequests, number][] {
  const noWakeup = (request & REQUEST_NO_WAKEUP) !== 0;
  const waitFor: [VcpuRequests, number][] = [];
  for (const target of targets) {
    if ((request & REQUEST_NO_ACTION) === 0) target.make(request);
    const { exits } = target;
    if (target.kick(noWakeup) && (request & REQUEST_WAIT) !== 0) waitFor.push([target, exits]);
  }
  return waitFor;
}
