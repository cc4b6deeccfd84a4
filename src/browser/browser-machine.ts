// A machine in this page: a handle of the worker that runs it. All that blocks or computes is in workers, so
// the page stays responsive. Left out: disks and the network. A browser's machine has a console, memory and
// entropy.
import { WherryError } from "../base/errors.ts";
import type { MachineConfig } from "../embed/create-machine.ts";
import type { GuestEnd } from "../embed/machine-end.ts";
import { refuseClock } from "../embed/hosted-machine.ts";
import type { RestoreClock } from "../vmm/machine.ts";
import type { RunState } from "../vmm/run-state.ts";
import type { VmmCalls, VmmMessage, VmmRequest } from "./vmm-worker-protocol.ts";

/** The machine's hardware. Both ends of a save and restore must agree on harts, memory and devices. */
export interface MachineHardware extends MachineConfig {
  /** virtio entropy source. Default: false. */
  readonly rng?: boolean | undefined;
}

/** What a machine is made of, and who hears of it. */
export interface MachineOptions extends Omit<MachineHardware, "incoming"> {
  /** A saved machine to resume, in place of a kernel. It runs at once if it ran when it was saved. */
  readonly state?: Blob | undefined;
  /**
   * With `state`: guest time goes on where it stopped (`stop`, the default), or later by as long as the
   * machine was away (`host`). If that cannot be known, `onWarning` hears why.
   */
  readonly clock?: RestoreClock | undefined;
  /**
   * Receives the guest's output on its serial port. If it returns a promise, the output counts as unread
   * until that is settled: with 64 KiB unread the guest's transmitter is busy, as it is while the page is.
   */
  readonly onConsole?: ((bytes: Uint8Array<ArrayBuffer>) => unknown) | undefined;
  /** Called with each new run state. */
  readonly onRunState?: ((state: RunState) => void) | undefined;
  /** Hears of what could not be done as asked, in a sentence. Default: the page's console. */
  readonly onWarning?: ((message: string) => void) | undefined;
}

interface Waiter {
  readonly resolve: (value: never) => void;
  readonly reject: (error: Error) => void;
}

/** Created by `createMachine`. Every call rejects with WherryError. */
export class BrowserMachine {
  /** Resolves when the guest has powered off or has crashed. Never rejects. */
  readonly ended: Promise<GuestEnd>;
  readonly #worker: Worker;
  readonly #waiters = new Map<number, Waiter>();
  #calls = 0;
  #runState: RunState = "prelaunch";
  #gone: Error | undefined;

  private constructor(listeners: Pick<MachineOptions, "onConsole" | "onRunState" | "onWarning">) {
    this.#worker = new Worker(new URL("./vmm-worker.js", import.meta.url), {
      type: "module",
      name: "wherry-vmm",
    });
    this.ended = new Promise((resolve) => {
      this.#worker.addEventListener("error", (event) => {
        const message = `the machine's worker failed: ${event.message || "it could not be loaded"}`;
        this.#fail(new WherryError("browser.worker", message));
        resolve({ kind: "guest-failed", message });
      });
      this.#worker.addEventListener("message", ({ data }: MessageEvent<VmmMessage>) => {
        if (data.kind === "console") void this.#output(data.bytes, listeners.onConsole);
        else if (data.kind === "run-state") {
          this.#runState = data.state;
          listeners.onRunState?.(data.state);
        } else if (data.kind === "warning") {
          // oxlint-disable-next-line eslint/no-console -- a warning that nobody asked for must be seen too
          (listeners.onWarning ?? console.warn)(data.message);
        } else if (data.kind === "ended") resolve(data.end);
        else this.#answered(data);
      });
    });
  }

  /** See createMachine. */
  static async create(options: MachineOptions): Promise<BrowserMachine> {
    if (!crossOriginIsolated) {
      throw new WherryError(
        "browser.isolation",
        "the page has no shared memory: serve it with the headers Cross-Origin-Opener-Policy: same-origin and Cross-Origin-Embedder-Policy: require-corp, over https or from localhost",
      );
    }
    const { state, clock, onConsole, onRunState, onWarning, ...hardware } = options;
    refuseClock(clock, state);
    const machine = new BrowserMachine({ onConsole, onRunState, onWarning });
    try {
      await machine.#call("create", { ...hardware, incoming: state !== undefined });
      if (state !== undefined) await machine.#call("load", state, clock);
      return machine;
    } catch (error) {
      machine.#terminate();
      throw error;
    }
  }

  /** What the machine does, as its worker last reported. */
  get runState(): RunState {
    return this.#runState;
  }

  /** Starts or resumes it. */
  start(): Promise<void> {
    return this.#call("start");
  }
  /** Resolves when all harts have stopped and guest time is frozen. */
  pause(): Promise<void> {
    return this.#call("pause");
  }
  /** A system reset: the kernel boots again. A running machine keeps running. */
  reset(): Promise<void> {
    return this.#call("reset");
  }
  /** Writes input to the guest's serial port: bytes, or text encoded as UTF-8. */
  write(input: string | Uint8Array): Promise<void> {
    return this.#call("write", input);
  }
  /**
   * Returns a snapshot, which `wherry restore` and `createMachine` on any host can load; the machine
   * continues.
   */
  save(): Promise<Blob> {
    return this.#call("save");
  }
  /** Ends the harts. The machine cannot be used afterwards. */
  async close(): Promise<void> {
    if (this.#gone !== undefined) return;
    await this.#call("close").finally(() => this.#terminate());
  }

  #call<K extends keyof VmmCalls>(
    call: K,
    ...args: Parameters<VmmCalls[K]>
  ): Promise<ReturnType<VmmCalls[K]>> {
    return new Promise((resolve, reject) => {
      if (this.#gone !== undefined) {
        reject(this.#gone);
        return;
      }
      const id = ++this.#calls;
      this.#waiters.set(id, { resolve, reject });
      this.#worker.postMessage({ id, call, args } satisfies VmmRequest<K>);
    });
  }

  async #output(bytes: Uint8Array<ArrayBuffer>, onConsole: MachineOptions["onConsole"]): Promise<void> {
    try {
      await onConsole?.(bytes);
    } finally {
      if (this.#gone === undefined) void this.#call("consoleRead").catch(() => {});
    }
  }

  #answered(data: Extract<VmmMessage, { kind: "answer" | "refusal" }>): void {
    const waiter = this.#waiters.get(data.id);
    this.#waiters.delete(data.id);
    if (data.kind === "answer") waiter?.resolve(data.value as never);
    else waiter?.reject(new WherryError(data.code, data.message));
  }

  #terminate(): void {
    this.#worker.terminate();
    this.#fail(new WherryError("browser.closed", "the machine is closed"));
  }

  #fail(error: Error): void {
    this.#gone ??= error;
    for (const waiter of this.#waiters.values()) waiter.reject(error);
    this.#waiters.clear();
  }
}

/**
 * Creates a machine, in its reset state or as saved. Rejects with WherryError: `browser.isolation` if the
 * page may not share memory with its workers, otherwise a fault in the options or the state. Then nothing is
 * left open.
 */
export function createMachine(options: MachineOptions): Promise<BrowserMachine> {
  return BrowserMachine.create(options);
}
