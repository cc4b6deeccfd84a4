// Polling for exits: what KVM's halt_poll_ns does for a vCPU that waits, for the thread that serves vCPUs. An
// exit costs a wake-up of the VMM thread and one of the vCPU, tens of microseconds each; a driver that reads
// four registers of a UART in a row pays it four times. So the VMM thread looks for the next exit for a short
// time before it returns to its event loop, and the vCPU for the answer, where exits have lately followed
// each other that closely.
import type { VcpuRequests } from "../requests/vcpu-requests.ts";
import type { Ioeventfds } from "../shared/ioeventfd.ts";
import { RUN_GAP_NS, RUN_STATUS, VM_EXIT_POLL } from "../shared/memory-map.ts";
import { RUN_PAGE } from "../shared/run-page.ts";

/** How an `ExitPoll` polls: a platform's. */
export interface ExitPollOptions {
  /** How long to look for the next exit, in ns. */
  readonly ns: number;
  /** Runs a task after pending events of the VMM thread. */
  readonly defer: (task: () => void) => void;
}

/** How long to look for the next doorbell, in ns: what a guest does between two requests of its disk. */
const DOORBELL_NS = 300_000;
/** Pending events of the VMM thread, such as timers, wait no longer than this and one look. */
const TURN_NS = 500_000;
/** The clock is read once for so many looks. */
const LOOKS = 64;
/** Bounds a poll where the clock stands still. */
const MAX_LOOKS = 100_000;
/** Polls while this many of the last exits, one more than of the others, came soon. */
const EXPECTED = 2;
const MAX_SCORE = 4;

const scored = (score: number, isSoon: boolean): number =>
  isSoon ? Math.min(score + 1, MAX_SCORE) : Math.max(score - 1, 0);

export class ExitPoll {
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #requests: readonly VcpuRequests[];
  readonly #ioeventfds: Ioeventfds;
  readonly #serve: () => void;
  readonly #options: ExitPollOptions | undefined;
  readonly #monotonicNs: () => number;
  #score = 0;
  /** The same for doorbells. */
  #doorbells = 0;
  #lastDoorbellNs = 0;
  #isPolling = false;

  /** `serve` answers all exits and doorbells. Without options there is no polling. */
  constructor(
    buffer: SharedArrayBuffer,
    requests: readonly VcpuRequests[],
    ioeventfds: Ioeventfds,
    serve: () => void,
    options: ExitPollOptions | undefined,
    monotonicNs: () => number,
  ) {
    this.#words = new Int32Array(buffer);
    this.#requests = requests;
    this.#ioeventfds = ioeventfds;
    this.#serve = serve;
    this.#options = options;
    this.#monotonicNs = monotonicNs;
  }

  /** Records an exit of this vCPU. */
  exited(vcpu: VcpuRequests): void {
    this.#score = scored(this.#score, vcpu.load(RUN_GAP_NS) < (this.#options?.ns ?? 0));
  }

  /** Records a doorbell that has been served to its end: the VMM thread waits only for the next one. */
  expectDoorbell(): void {
    const now = this.#monotonicNs();
    this.#doorbells = scored(this.#doorbells, now - this.#lastDoorbellNs < DOORBELL_NS);
    this.#lastDoorbellNs = now;
  }

  /** How long to look for what comes next; 0: not at all. */
  get #lookNs(): number {
    if (this.#options === undefined) return 0;
    if (this.#doorbells >= EXPECTED) return Math.max(DOORBELL_NS, this.#options.ns);
    return this.#score >= EXPECTED ? this.#options.ns : 0;
  }

  /** A vCPU has signalled: serves what there is, and then what comes while more is expected. */
  signalled(): void {
    this.#serve();
    if (!this.#isPolling) this.#poll();
  }

  /**
   * Serves exits as they come. While it looks for them, and while pending events have their turn, vCPUs do
   * not signal: the last look is for what came before they were told to signal again.
   */
  #poll(): void {
    const options = this.#options;
    let goesOn = false;
    try {
      if (options === undefined || this.#lookNs === 0) return;
      this.#set(true);
      const turnEnd = this.#monotonicNs() + TURN_NS;
      while (this.#comes(this.#lookNs)) {
        this.#serve();
        if (this.#monotonicNs() < turnEnd) continue;
        goesOn = true;
        options.defer(() => this.#poll());
        return;
      }
    } finally {
      if (this.#isPolling && !goesOn) {
        this.#set(false);
        this.#serve();
      }
    }
  }

  #set(isPolling: boolean): void {
    this.#isPolling = isPolling;
    Atomics.store(this.#words, VM_EXIT_POLL >>> 2, isPolling ? 1 : 0);
  }

  /** Looks for an exit or a doorbell; false if none comes in time. */
  #comes(ns: number): boolean {
    const end = this.#monotonicNs() + ns;
    for (let looks = 0; looks < MAX_LOOKS; looks += LOOKS) {
      for (let i = 0; i < LOOKS; i++) if (this.#isThere()) return true;
      if (this.#monotonicNs() >= end) return false;
    }
    return false;
  }

  #isThere(): boolean {
    for (const vcpu of this.#requests) if (vcpu.load(RUN_STATUS) === RUN_PAGE.POSTED) return true;
    return this.#ioeventfds.hasFired;
  }
}
