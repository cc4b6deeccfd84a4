// A machine in this page: a handle of the worker that runs it. All that blocks or computes is in workers, so
// the page stays responsive. Left out: disks and the network. A browser's machine has a console, memory,
// entropy and files.
import { messageOf, WherryError } from "../base/errors.ts";
import type { ByteSource } from "../inspect/read/byte-source.ts";
import {
  checkInput,
  type Checks,
  expecting,
  HOSTED_CHECKS,
  isBoolean,
  isBytes,
  isListOf,
  isOneOf,
  isOptions,
  isString,
} from "../embed/check-options.ts";
import { closedError, onlyWherryErrors, refuseClock } from "../embed/hosted-machine.ts";
import { safeListener } from "../embed/listener.ts";
import { savedHardware, sizeOf } from "../embed/saved-hardware.ts";
import { Ending } from "../embed/machine-end.ts";
import type { MachineConfig } from "../embed/create-machine.ts";
import type { GuestEnd } from "../embed/machine-end.ts";
import type { RestoreClock } from "../vmm/machine.ts";
import type { RunState } from "../vmm/run-state.ts";
import type { VmmCalls, VmmMessage, VmmRequest } from "./vmm-worker-protocol.ts";

/** The machine's hardware. Both ends of a save and restore must agree on harts, memory and devices. */
export interface MachineHardware extends MachineConfig {
  /** virtio entropy source. Default: false. */
  readonly rng?: boolean | undefined;
  /** Files for the guest, which mounts them by virtio-9p (docs/sharing.md). Default: none. */
  readonly shares?: readonly MemoryShare[] | undefined;
}

/** Files in the page's memory: of `files`, or, read-only, those of an archive. */
export interface MemoryShare {
  /** The name by which the guest mounts it. */
  readonly tag: string;
  /** Contents by path: bytes, or text encoded as UTF-8. The guest's changes stay in the machine. */
  readonly files?: Readonly<Record<string, Uint8Array | string>> | undefined;
  /** A tar archive, not compressed. */
  readonly tar?: Uint8Array | undefined;
  /** A zip archive. */
  readonly zip?: Uint8Array | undefined;
}

/** What a machine is made of, and who hears of it. */
export interface MachineOptions extends Omit<MachineHardware, "incoming" | "harts" | "memoryBytes"> {
  /** 1 to 32 harts. Default: with `state`, those of the saved machine. */
  readonly harts?: number | undefined;
  /** Bytes of RAM, a multiple of 2 MiB. Default: with `state`, that of the saved machine. */
  readonly memoryBytes?: number | undefined;
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

const { incoming: _, ...COMMON_CHECKS } = HOSTED_CHECKS;
const CHECKS: Checks<MachineOptions> = {
  ...COMMON_CHECKS,
  rng: isBoolean,
  shares: isListOf(
    isOptions<MemoryShare>(
      {
        tag: isString,
        files: expecting("files by their paths", (value) => typeof value === "object" && value !== null),
        tar: isBytes,
        zip: isBytes,
      },
      ["tag"],
    ),
  ),
  clock: isOneOf("stop", "host"),
  state: expecting("a saved machine: a Blob or a File", (value) => value instanceof Blob),
};
const checkOptions = isOptions(CHECKS);

const COULD_NOT_LOAD =
  "it could not be loaded: is dist/browser served with the page? (docs/embedding.md, Bundlers)";

function blobSource(blob: Blob): ByteSource {
  const read = async (offset: number, into: Uint8Array) => {
    const bytes = new Uint8Array(await blob.slice(offset, offset + into.length).arrayBuffer());
    into.set(bytes);
    return bytes.length;
  };
  return { size: blob.size, read };
}

interface Waiter {
  readonly resolve: (value: never) => void;
  readonly reject: (error: Error) => void;
}

/**
 * Created by `createMachine`. Calls are executed one after the other, in their order. Each rejects with
 * WherryError only; docs/embedding.md says what each does in each state.
 */
export class BrowserMachine {
  readonly #worker: Worker;
  readonly #waiters = new Map<number, Waiter>();
  readonly #ending = new Ending();
  #calls = 0;
  #runState: RunState = "prelaunch";
  #closed: Promise<void> | undefined;
  #gone: WherryError | undefined;

  private constructor(listeners: Pick<MachineOptions, "onConsole" | "onRunState" | "onWarning">) {
    const onConsole = safeListener("onConsole", listeners.onConsole);
    const onRunState = safeListener("onRunState", listeners.onRunState);
    // oxlint-disable-next-line eslint/no-console -- a warning that nobody asked for must be seen too
    const onWarning = safeListener("onWarning", listeners.onWarning ?? console.warn);
    this.#worker = new Worker(new URL("./vmm-worker.js", import.meta.url), {
      type: "module",
      name: "wherry-vmm",
    });
    this.#worker.addEventListener("error", (event) => {
      const message = `the machine's worker failed: ${event.message || COULD_NOT_LOAD}`;
      this.#worker.terminate();
      this.#runState = "internal-error";
      this.#fail(new WherryError("browser.worker", message));
      this.#ending.end({ kind: "guest-failed", message });
    });
    this.#worker.addEventListener("message", ({ data }: MessageEvent<VmmMessage>) => {
      if (data.kind === "console") void this.#output(data.bytes, onConsole);
      else if (data.kind === "run-state") {
        this.#runState = data.state;
        void onRunState(data.state);
      } else if (data.kind === "warning") void onWarning(data.message);
      else if (data.kind === "ended") this.#ending.end(data.end);
      else this.#answered(data);
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
    checkOptions("options", options);
    const { state, clock, onConsole, onRunState, onWarning, ...hardware } = options;
    refuseClock(clock, state);
    const size = await sizeOf(hardware, state && (() => savedHardware(blobSource(state))));
    const machine = new BrowserMachine({ onConsole, onRunState, onWarning });
    try {
      await machine.#call("create", { ...hardware, ...size, incoming: state !== undefined });
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
  /**
   * Resolves when the guest has powered off or has crashed, or the machine is closed. Never rejects. A reset
   * after the end begins another life, with another end.
   */
  get ended(): Promise<GuestEnd> {
    return this.#ending.promise;
  }

  /** Starts or resumes it. No effect if it runs. */
  start(): Promise<void> {
    return this.#call("start");
  }
  /** Resolves when all harts have stopped and guest time is frozen. No effect if it does not run. */
  pause(): Promise<void> {
    return this.#call("pause");
  }
  /** A system reset: the kernel boots again. A running machine keeps running, another waits for `start`. */
  async reset(): Promise<void> {
    await this.#call("reset");
    this.#ending.renew();
  }
  /** Writes input to the guest's serial port: bytes, or text encoded as UTF-8. */
  async write(input: string | Uint8Array): Promise<void> {
    checkInput(input);
    return this.#call("write", input);
  }
  /**
   * Returns a snapshot, which `wherry restore` and `createMachine` on any host can load; the machine
   * continues.
   */
  save(): Promise<Blob> {
    return this.#call("save");
  }
  /** After the calls under way: ends the harts. Then only `close` may be called. */
  close(): Promise<void> {
    this.#closed ??= this.#gone === undefined ? this.#close() : Promise.resolve();
    return this.#closed;
  }
  async #close(): Promise<void> {
    const closing = this.#call("close");
    // Calls from now on come too late.
    this.#gone ??= closedError();
    await closing.finally(() => this.#terminate());
  }

  #call<K extends keyof VmmCalls>(
    call: K,
    ...args: Parameters<VmmCalls[K]>
  ): Promise<ReturnType<VmmCalls[K]>> {
    const answer = new Promise<ReturnType<VmmCalls[K]>>((resolve, reject) => {
      if (this.#gone !== undefined) {
        reject(this.#gone);
        return;
      }
      const id = ++this.#calls;
      try {
        this.#worker.postMessage({ id, call, args } satisfies VmmRequest<K>);
      } catch (cause) {
        const why = `what was given to ${call} cannot be sent to the machine's worker: ${messageOf(cause)}`;
        reject(new WherryError("options.value", why, { cause }));
        return;
      }
      this.#waiters.set(id, { resolve, reject });
    });
    return onlyWherryErrors(() => answer);
  }

  async #output(
    bytes: Uint8Array<ArrayBuffer>,
    onConsole: (bytes: Uint8Array<ArrayBuffer>) => Promise<unknown> | undefined,
  ): Promise<void> {
    await onConsole(bytes);
    if (this.#gone === undefined) void this.#call("consoleRead").catch(() => {});
  }

  #answered(data: Extract<VmmMessage, { kind: "answer" | "refusal" }>): void {
    const waiter = this.#waiters.get(data.id);
    this.#waiters.delete(data.id);
    if (data.kind === "answer") waiter?.resolve(data.value as never);
    else waiter?.reject(new WherryError(data.code, data.message));
  }

  #terminate(): void {
    this.#worker.terminate();
    this.#runState = "shutdown";
    this.#fail(closedError());
    this.#ending.close();
  }

  #fail(error: WherryError): void {
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
  return onlyWherryErrors(() => BrowserMachine.create(options));
}
