// A thread of the stress test: a real vCPU thread on a toy engine, or a sender that is not a vCPU.
import { MIP } from "../../src/riscv/causes.ts";
import { parentPort, workerData } from "node:worker_threads";
import { HartPending } from "../../src/hypervisor/requests/hart-pending.ts";
import { HfenceQueue } from "../../src/hypervisor/requests/hfence-queue.ts";
import {
  CTL_HALTED,
  CTL_KICK,
  CTL_MODE,
  CTL_MP_STATE,
  CTL_REQUESTS,
  CTL_RUN,
  CTL_SLEEPING,
  hartBase,
} from "../../src/hypervisor/shared/memory-map.ts";
import { MP_STATE } from "../../src/accelerator/mp-state.ts";
import { makeRequests, REQ, VcpuRequests } from "../../src/hypervisor/requests/vcpu-requests.ts";
import { HartImage } from "../../src/hypervisor/hart/hart-image.ts";
import { hartLayout } from "../../src/hypervisor/hart/hart-layout.ts";
import { startHart } from "../../src/hypervisor/firmware/sbi.ts";
import { VcpuThread } from "../../src/hypervisor/vcpu/vcpu-thread.ts";
import { clock } from "../../src/node/node-runtime.ts";

const { monotonicNs } = clock;
import { Random } from "../support/random.ts";
import { type Bug, Ghosts, plant } from "./ghosts.ts";
import { EXIT, type EngineExports, type EngineImports } from "../../src/hypervisor/hart/engine-interface.ts";

export interface StressThread {
  readonly buffer: SharedArrayBuffer;
  readonly ghosts: number;
  readonly harts: number;
  /** Undefined for a sender. */
  readonly hart: number | undefined;
  readonly seed: number;
  /** Only one sender wakes the vCPUs, so that no other repairs a lost wake-up. */
  readonly lonely: boolean;
  readonly bug: Bug | undefined;
}

const SSIP = Number(MIP.SSIP);
const START = 0x80001000n;
const HERE = 0x80000000n;
const RFENCE = 0x52464e43n;
const IPI = 0x735049n;
const HSM = 0x48534dn;
/** A guest that has not taken an IPI for this long never will. */
const HANG_MS = 4000;

const data = workerData as StressThread;
const { buffer, harts, lonely } = data;
plant(data.bug);
const ghosts = new Ghosts(buffer, data.ghosts);
const random = new Random(data.seed);
const vcpus = Array.from({ length: harts }, (_, i) => new VcpuRequests(buffer, i));
const mip = hartLayout.offsetOf("mip");
const pending = vcpus.map((v, i) => new HartPending(buffer, hartBase(i) + mip, v));

/** Guest code of one hart. */
class ToyEngine implements EngineExports {
  readonly #hart: number;
  readonly #me: VcpuRequests;
  readonly #image: HartImage;
  readonly #imports: EngineImports;
  readonly #words = new Int32Array(buffer);
  /** Generation of the tables when the current translations were read. */
  #translations = ghosts.generation;
  /** A remote fence that the guest has called: it is complete when the guest continues. */
  #fence: { harts: number[]; generation: number } | undefined;

  constructor(hart: number, imports: EngineImports) {
    this.#hart = hart;
    this.#me = vcpus[hart] as VcpuRequests;
    this.#image = new HartImage(buffer, hart);
    this.#imports = imports;
  }

  flushTlb(): void {
    this.#translations = ghosts.generation;
  }
  flushTlbPage(): void {
    this.flushTlb();
  }
  flushSpace(): void {
    this.flushTlb();
  }
  protectCode(): void {
    this.flushTlb();
  }

  run(): number {
    const hart = this.#hart;
    ghosts.increment("epoch", hart);
    if (this.#fence !== undefined) ghosts.flushed(this.#fence.harts, this.#fence.generation);
    this.#fence = undefined;
    if (this.#image.get("pc") !== HERE) {
      // Reset: nothing is pending any more.
      ghosts.set("handled", hart, ghosts.get("sent", hart));
      this.#image.set("pc", HERE);
      this.#image.set("mie", BigInt(SSIP));
    }
    const kicked = this.#execute(random.int(lonely ? 20 : 300));
    const reason = kicked ? EXIT.KICK : this.#leave();
    ghosts.increment("epoch", hart);
    return reason;
  }

  /** Returns true if it was kicked. */
  #execute(count: number): boolean {
    for (let i = 0; i < count; i++) {
      if (i % 32 === 0 && this.#me.load(CTL_KICK) !== 0) return true;
      this.#instruction();
    }
    return false;
  }

  #instruction(): void {
    const hart = this.#hart;
    if (ghosts.get("paused", hart) !== 0) ghosts.violation(`hart ${hart} ran while it was paused`);
    const floor = ghosts.get("floor", hart);
    if (this.#translations < floor) {
      ghosts.violation(
        `hart ${hart} used translations of ${this.#translations} after a waited flush of ${floor}`,
      );
    }
    ghosts.increment("count", hart);
    const at = (hartBase(hart) + mip) >>> 2;
    if ((Atomics.load(this.#words, at) & SSIP) === 0) return;
    Atomics.and(this.#words, at, ~SSIP);
    ghosts.set("handled", hart, ghosts.get("sent", hart));
  }

  #call(extension: bigint, func: bigint, ...args: bigint[]): number {
    for (const [i, value] of args.entries()) this.#image.set("x", value, 10 + i);
    this.#image.set("x", func, 16);
    this.#image.set("x", extension, 17);
    this.#image.set("pc", HERE - 4n);
    return EXIT.ECALL;
  }

  #leave(): number {
    if (lonely) return EXIT.WFI;
    const some = BigInt(1 + random.int(2 ** harts - 1));
    const other = BigInt(random.int(harts));
    switch (random.int(16)) {
      case 0:
      case 1:
        return EXIT.WFI;
      case 2:
        ghosts.increment("epoch", this.#hart);
        this.#imports.mmioRead(0x10000000n, 4);
        ghosts.increment("epoch", this.#hart);
        // As in the engine: the effect of the access is checked before the next instruction.
        return this.#execute(100) ? EXIT.KICK : EXIT.SLICE;
      case 3:
      case 4: {
        this.#fence = { harts: bitsOf(some), generation: ghosts.changeTables() };
        return random.oneIn(2)
          ? this.#call(RFENCE, 2n, some, 0n, 0n, (1n << 64n) - 1n, 1n)
          : this.#call(RFENCE, 1n, some, 0n, 0x1000n, 4096n * BigInt(1 + random.int(70)));
      }
      case 5:
        for (const hart of bitsOf(some)) ghosts.increment("sent", hart);
        return this.#call(IPI, 0n, some, 0n);
      case 6:
        return this.#call(HSM, 0n, other, START, 0n);
      case 7:
        return random.oneIn(4) ? this.#call(HSM, 1n) : EXIT.SLICE;
      case 8:
        return this.#call(HSM, 3n, 0n);
      case 9:
        return this.#call(HSM, 3n, 0x80000000n, START, 0n);
      default:
        return EXIT.SLICE;
    }
  }
}

function bitsOf(mask: bigint): number[] {
  return Array.from({ length: harts }, (_, i) => i).filter((i) => ((mask >> BigInt(i)) & 1n) !== 0n);
}

function describe(hart: number): string {
  const v = vcpus[hart] as VcpuRequests;
  const words = {
    mode: CTL_MODE,
    requests: CTL_REQUESTS,
    sleeping: CTL_SLEEPING,
    mp: CTL_MP_STATE,
    halted: CTL_HALTED,
    run: CTL_RUN,
  };
  return Object.entries(words)
    .map(([name, at]) => `${name} ${v.load(at)}`)
    .join(" ");
}

/** Sends an IPI and waits for the answer: the target runs guest code afterwards. */
function ping(hart: number): void {
  const number = ghosts.increment("sent", hart);
  (pending[hart] as HartPending).raise(SSIP);
  const from = performance.now();
  while (!ghosts.stopped && ghosts.get("handled", hart) < number) {
    if (!lonely && (vcpus[hart] as VcpuRequests).load(CTL_MP_STATE) === MP_STATE.STOPPED) {
      startHart(vcpus[hart] as VcpuRequests, START, 0n);
    }
    if (performance.now() - from > HANG_MS) {
      ghosts.violation(`hart ${hart} did not take an IPI: ${describe(hart)}`);
    }
  }
}

function fence(targets: number[]): void {
  const generation = ghosts.changeTables();
  const to = targets.map((t) => vcpus[t] as VcpuRequests);
  const kind = random.int(3);
  if (kind < 2) makeRequests([REQ.TLB_FLUSH, REQ.HFENCE_VVMA_ALL][kind] as number, to);
  else {
    for (const [i, t] of targets.entries()) {
      const range = { type: 1, asid: 0, start: 0n, size: 4096n };
      const queued = new HfenceQueue(buffer, t).push(range);
      makeRequests(queued ? REQ.HFENCE : REQ.HFENCE_VVMA_ALL, [to[i] as VcpuRequests]);
    }
  }
  ghosts.flushed(targets, generation);
}

/** OUTSIDE_GUEST_MODE, or FENCE_I, which is weaker: a target in the guest has left it when this returns. */
function outside(targets: number[]): void {
  const before = targets.map((t) => ghosts.get("epoch", t));
  makeRequests(
    random.oneIn(2) ? REQ.OUTSIDE_GUEST_MODE : REQ.FENCE_I,
    targets.map((t) => vcpus[t] as VcpuRequests),
  );
  for (const [i, t] of targets.entries()) {
    const was = before[i] as number;
    if (was % 2 !== 0 && ghosts.get("epoch", t) === was) {
      ghosts.violation(`hart ${t} had not left the guest when the request returned`);
    }
  }
}

if (data.hart === undefined) {
  while (!ghosts.stopped) {
    const some = bitsOf(BigInt(1 + random.int(2 ** harts - 1)));
    const kind = lonely ? 0 : random.int(3);
    if (kind === 0) ping(random.int(harts));
    else if (kind === 1) fence(some);
    else outside(some);
  }
} else {
  const hart = data.hart;
  new VcpuThread(buffer, hart, {
    monotonicNs,
    signal: () => parentPort?.postMessage(0),
    instantiate: (imports) => new ToyEngine(hart, imports),
  }).run();
}
