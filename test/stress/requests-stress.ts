// vCPU requests on real threads: vCPU threads on toy engines, senders, and the VMM that pauses, resumes,
// flushes and changes memory slots, all at random. Ghost variables detect violations: a flush or exit with
// WAIT has happened when the call returns, a paused vCPU runs nothing, no wake-up is lost, no thread hangs.
import { setTimeout as sleep } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { planMemory, type ThreadHandle, Vm } from "../../src/hypervisor/vm/vm.ts";
import { clock } from "../../src/node/node-runtime.ts";

const { monotonicNs } = clock;
import { createSharedMemory } from "../../src/wasm/webassembly.ts";
import { Random } from "../support/random.ts";
import { type Bug, GHOST_BYTES, Ghosts } from "./ghosts.ts";
import type { StressThread } from "./stress-worker.ts";

export interface StressOptions {
  readonly seed: number;
  readonly seconds: number;
  readonly harts?: number;
  readonly senders?: number;
  /** A single sender wakes the vCPUs, which only sleep. */
  readonly lonely?: boolean;
  /** Planted in all threads except the VMM's. */
  readonly bug?: Bug | undefined;
}

export interface StressResult {
  /** The violation found, if any. */
  readonly violation: string | undefined;
  readonly instructions: number;
  readonly ipis: number;
  readonly flushes: number;
  readonly pauses: number;
}

const PAUSE_HANG_MS = 6000;
const BLOCKS = [{ name: "ram", guestPhys: 0x80000000, size: 0x100000, readonly: false }];

export async function stress(options: StressOptions): Promise<StressResult> {
  const { seed, seconds, harts = 3, lonely = false, bug } = options;
  const senders = lonely ? 1 : (options.senders ?? 2);
  const plan = planMemory(harts, BLOCKS);
  const { buffer } = createSharedMemory(Math.ceil((plan.size + GHOST_BYTES) / 0x10000));
  const ghosts = new Ghosts(buffer, plan.size);
  const random = new Random(seed);
  const workers: Worker[] = [];
  const spawn = (hart: number | undefined): Worker => {
    const workerData: StressThread = {
      buffer,
      ghosts: plan.size,
      harts,
      hart,
      seed: random.u32(),
      lonely,
      bug,
    };
    const worker = new Worker(new URL("./stress-worker.ts", import.meta.url), { workerData });
    worker.on("error", (error) => ghosts.violation(`a thread failed: ${error}`));
    workers.push(worker);
    return worker;
  };
  const vm = new Vm({
    buffer,
    vcpuCount: harts,
    blocks: BLOCKS,
    builtinFirmware: true,
    monotonicNs,
    spawnVcpu: (hart): ThreadHandle => {
      const worker = spawn(hart);
      return {
        onSignal: (listener) => worker.on("message", listener),
        onFault: () => {},
        terminate: async () => {},
      };
    },
  });
  vm.setEvents({
    mmio: { read: () => 0n, write: () => true },
    systemEvent: () => {},
    consoleWrite: () => 0,
    consoleRead: () => new Uint8Array(),
    internalError: (vcpu, message) => ghosts.violation(`vCPU ${vcpu}: ${message}`),
  });
  let pauses = 0;

  const pauseSome = async (): Promise<void> => {
    const some = vm.vcpus.filter(() => random.oneIn(2));
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<string>((resolve) => {
      timer = setTimeout(() => resolve("a pause did not come"), PAUSE_HANG_MS);
    });
    const hang = await Promise.race([Promise.all(some.map((v) => v.pause())).then(() => undefined), late]);
    clearTimeout(timer);
    if (hang !== undefined) return ghosts.violation(hang);
    pauses++;
    for (const { id } of some) ghosts.set("paused", id, 1);
    for (const { id } of some) {
      if (ghosts.get("epoch", id) % 2 !== 0) ghosts.violation(`hart ${id} is in the guest after its pause`);
    }
    await sleep(random.int(3));
    for (const { id } of some) ghosts.set("paused", id, 0);
    // A resume and a new pause at once: the vCPU must not sleep through either.
    for (const vcpu of some) vcpu.resume();
  };
  const flush = async (change: () => void | Promise<unknown>): Promise<void> => {
    const generation = ghosts.changeTables();
    await change();
    ghosts.flushed(vm.vcpus.keys(), generation);
  };
  const fetchDirty = (): Promise<unknown> => {
    // An empty log flushes no translations.
    vm.memory.write(0x80000000, Uint8Array.of(1));
    return vm.getAndClearDirtyLog(0);
  };

  try {
    for (const vcpu of vm.vcpus) vcpu.resume();
    await vm.started;
    for (let i = 0; i < senders; i++) spawn(undefined);
    const end = performance.now() + seconds * 1000;
    while (performance.now() < end && !ghosts.stopped) {
      const change = random.pick([fetchDirty, () => vm.setMemorySlot(0, true)]);
      if (lonely) await sleep(20);
      else if (random.oneIn(2)) await pauseSome();
      else await flush(change);
      await sleep(0);
    }
    // Senders end when their last ping is answered.
    ghosts.stop();
    const sum = (name: "count" | "handled"): number =>
      vm.vcpus.reduce((total, { id }) => total + ghosts.get(name, id), 0);
    return {
      violation: ghosts.found,
      instructions: sum("count"),
      ipis: sum("handled"),
      flushes: ghosts.generation,
      pauses,
    };
  } finally {
    await vm.destroy();
    await Promise.all(workers.map((w) => w.terminate()));
  }
}
