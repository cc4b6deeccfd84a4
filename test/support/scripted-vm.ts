// A real Vm whose vCPU threads the test runs on its own thread and on a clock that the test advances; the VMM
// handles exits within signal(). The engine is a script of steps, or the real one. No thread sleeps: a sleep
// in block() advances the clock to its deadline, or runs the test's action for it.
import type { VmEvents } from "../../src/accelerator/accelerator.ts";
import { CTL_RUN, CTL_WAKE, DECODE_TABLES } from "../../src/hypervisor/shared/memory-map.ts";
import { VIRT_MEMMAP } from "../../src/machines/boot/virt-map.ts";
import { VcpuRequests } from "../../src/hypervisor/requests/vcpu-requests.ts";
import { buildEngineModule } from "../../src/hypervisor/interpreter/engine-module.ts";
import { decodeTables } from "../../src/hypervisor/isa/instruction-decoder.ts";
import type { EngineKind } from "../../src/hypervisor/shared/engine-kind.ts";
import { HartImage } from "../../src/hypervisor/hart/hart-image.ts";
import { RUN } from "../../src/hypervisor/shared/run-page.ts";
import { VcpuThread } from "../../src/hypervisor/vcpu/vcpu-thread.ts";
import { planMemory, Vm } from "../../src/hypervisor/vm/vm.ts";
import { compileModule, createSharedMemory } from "../../src/wasm/webassembly.ts";
import { testEngine } from "./engine.ts";
import {
  type EngineExports,
  type EngineImports,
  EXIT,
  ALL_SPACES,
} from "../../src/hypervisor/hart/engine-interface.ts";
import { instantiateEngine } from "../../src/hypervisor/vcpu/engine-instance.ts";
import { nodePlatform } from "../../src/node/node-platform.ts";

export const RAM = 0x80000000;
const RAM_SIZE = 0x40000;
const FOR_EVER_MS = 0x7fffffff;

/** The action of one call of the engine's run(); returns EXIT.*. */
export type Step = (imports: EngineImports, budget: number) => number;

export interface ScriptedOptions {
  readonly harts?: number;
  readonly builtinFirmware?: boolean;
  /** The host reports a thread's CPU time. */
  readonly steal?: boolean;
  /** Use the real engine; a script's steps come before each of its slices. */
  readonly realEngine?: boolean;
  /** Which real engine. Default: testEngine. */
  readonly engine?: EngineKind;
}

export class ScriptedVm {
  readonly vm: Vm;
  readonly requests: readonly VcpuRequests[];
  readonly images: readonly HartImage[];
  /** Calls of the engines and exits, in order. */
  readonly log: string[] = [];
  nowNs = 1e9;
  cpuNs = 0;
  readonly events: VmEvents = {
    mmio: {
      read: (gpa, size) => (this.log.push(`read ${gpa.toString(16)} ${size}`), 0x55n),
      write: (gpa, size, value) => (this.log.push(`write ${gpa.toString(16)} ${size} ${value}`), true),
    },
    systemEvent: (event) => void this.log.push(event),
    consoleWrite: (bytes) => {
      const taken = bytes.subarray(0, this.consoleRoom);
      if (taken.length > 0) this.log.push(`console ${new TextDecoder().decode(taken)}`);
      this.consoleRoom -= taken.length;
      return taken.length;
    },
    consoleRead: (max) => new TextEncoder().encode(this.input).slice(0, max),
    internalError: (vcpu, message) => void this.log.push(`error ${vcpu} ${message}`),
  };
  input = "";
  /** Bytes of output that the console still takes. */
  consoleRoom = Number.POSITIVE_INFINITY;
  /** Actions while the thread sleeps in block(), one for each sleep, or while it is parked. */
  readonly sleeps: (() => void)[] = [];
  readonly parks: (() => void)[] = [];
  #steps: Step[] = [];
  #parked = false;
  readonly #threads: VcpuThread[] = [];
  readonly #listeners: (() => void)[] = [];

  constructor(options: ScriptedOptions = {}) {
    const {
      harts = 1,
      builtinFirmware = true,
      steal = false,
      realEngine = false,
      engine = testEngine,
    } = options;
    const blocks = [{ name: "ram", guestPhys: RAM, size: RAM_SIZE, readonly: false }];
    const plan = planMemory(harts, blocks);
    const memory = createSharedMemory(Math.ceil(plan.size / 0x10000));
    const module = realEngine
      ? compileModule(buildEngineModule(engine, nodePlatform.hasTotalStoreOrder))
      : undefined;
    if (realEngine) new Uint8Array(memory.buffer, DECODE_TABLES).set(decodeTables());
    const monotonicNs = (): number => this.nowNs;
    this.vm = new Vm({
      buffer: memory.buffer,
      vcpuCount: harts,
      blocks,
      builtinFirmware,
      monotonicNs,
      spawnVcpu: (hart) => ({
        onSignal: (listener) => void (this.#listeners[hart] = listener),
        onFault: () => {},
        terminate: async () => {},
      }),
    });
    this.vm.setEvents(this.events);
    this.vm.createIrqchip(VIRT_MEMMAP);
    this.requests = Array.from({ length: harts }, (_, i) => new VcpuRequests(memory.buffer, i));
    this.images = this.requests.map((_, i) => new HartImage(memory.buffer, i));
    for (let hart = 0; hart < harts; hart++) {
      this.#threads.push(
        new VcpuThread(memory.buffer, hart, {
          monotonicNs,
          signal: () => this.#listeners[hart]?.(),
          instantiate: (imports) =>
            this.#engine(
              hart,
              imports,
              module === undefined ? undefined : instantiateEngine(module, memory, imports, engine),
            ),
          ...(steal ? { threadCpuNs: () => this.cpuNs } : {}),
        }),
      );
    }
  }

  #engine(hart: number, imports: EngineImports, real: EngineExports | undefined): EngineExports {
    return {
      run: (base, budget) => {
        const step = this.#steps.shift();
        if (this.#steps.length === 0) this.end(hart);
        this.log.push("run");
        const reason = step?.(imports, budget) ?? EXIT.SLICE;
        return real === undefined ? reason : real.run(base, budget);
      },
      flushTlb: (base) => {
        this.log.push("flush");
        real?.flushTlb(base);
      },
      flushTlbPage: (base, page, asid) => {
        this.log.push(`flush ${page.toString(16)}${asid === ALL_SPACES ? "" : ` of ${asid}`}`);
        real?.flushTlbPage(base, page, asid);
      },
      flushSpace: (base, asid) => {
        this.log.push(asid === ALL_SPACES ? "flush spaces" : `flush space ${asid}`);
        real?.flushSpace(base, asid);
      },
      protectCode: (base) => {
        this.log.push("protect");
        real?.protectCode(base);
      },
    };
  }

  end(hart: number): void {
    this.requests[hart]?.store(CTL_RUN, RUN.END);
  }

  /** Runs a hart until its steps are used up, or until it sleeps and nothing can wake it. */
  run(hart: number, ...steps: Step[]): void {
    const requests = this.requests[hart] as VcpuRequests;
    this.#steps = steps;
    requests.store(CTL_RUN, RUN.PARKED);
    const { wait } = VcpuRequests.prototype;
    VcpuRequests.prototype.wait = (offset, value, timeoutMs: number | undefined) => {
      if (requests.load(offset) === value) this.#sleep(hart, offset, timeoutMs ?? FOR_EVER_MS);
    };
    this.#parked = false;
    try {
      this.#threads[hart]?.run();
    } finally {
      VcpuRequests.prototype.wait = wait;
    }
    requests.store(CTL_RUN, RUN.PARKED);
  }

  #sleep(hart: number, offset: number, timeoutMs: number): void {
    if (offset === CTL_RUN && !this.#parked) {
      // Every vCPU thread starts parked.
      this.#parked = true;
      this.vm.vcpus[hart]?.resume();
      return;
    }
    if (offset !== CTL_RUN && offset !== CTL_WAKE) throw new Error(`hart ${hart} waits for itself`);
    this.log.push(offset === CTL_WAKE ? "sleep" : "parked");
    const act = (offset === CTL_WAKE ? this.sleeps : this.parks).shift();
    if (act !== undefined) act();
    else if (timeoutMs < FOR_EVER_MS) this.nowNs += timeoutMs * 1e6;
    else this.end(hart);
  }

  /** Bytes of guest memory. */
  ram(guestPhys: number, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    if (!this.vm.memory.read(guestPhys, bytes)) throw new RangeError("not in RAM");
    return bytes;
  }

  /** An SBI call of a hart; returns a0 and a1 afterwards. `steps` are what the hart does next. */
  ecall(
    hart: number,
    extension: number,
    func: number,
    args: readonly bigint[] = [],
    ...steps: Step[]
  ): [bigint, bigint] {
    const image = this.images[hart] as HartImage;
    for (let i = 0; i < 6; i++) image.set("x", args[i] ?? 0n, 10 + i);
    image.set("x", BigInt(func), 16);
    image.set("x", BigInt(extension), 17);
    this.run(hart, () => EXIT.ECALL, ...steps);
    return [BigInt.asIntN(64, image.get("x", 10)), image.get("x", 11)];
  }
}
