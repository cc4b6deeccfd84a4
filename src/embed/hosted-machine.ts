// A machine for embedders, the same on all platforms: start, pause, console, save, load, end. Moves and QMP
// are not included: the command line connects them to a machine of createMachine itself.
import { abortable, type CallOptions, refuseAborted, type Signal, stoppable } from "../base/abort.ts";
import { messageOf, WherryError } from "../base/errors.ts";
import { encodeUtf8 } from "../base/text.ts";
import { CharPipe, MAX_UNREAD_OUTPUT } from "../devices/char-backend.ts";
import type { VirtMachine } from "../machines/virt.ts";
import type { Channel, SnapshotSink } from "../stream/channel.ts";
import { endArrival } from "../migration/load/arrival.ts";
import type { MigrationEnvironment } from "../migration/environment/migration-environment.ts";
import { loadSnapshot, type SnapshotResult, saveSnapshot } from "../migration/snapshot/snapshot.ts";
import type { RestoreClock } from "../vmm/machine.ts";
import type { RunState } from "../vmm/run-state.ts";
import { type CreatedMachine, createMachine, type MachineConfig } from "./create-machine.ts";
import { checkHosted, checkInput } from "./check-options.ts";
import { safeListener } from "./listener.ts";
import { Ending, type GuestEnd, stopForGood, watchEnd } from "./machine-end.ts";
import type { Platform } from "./platform.ts";
import { type LiveDisk, type VirtioParts, virtioDevices } from "./virtio-parts.ts";

/** What a machine is made of, and what hears of it. */
export interface HostedMachineOptions extends MachineConfig {
  /**
   * Receives the guest's output on its serial port. If it returns a promise, the output counts as unread
   * until that is settled: with 64 KiB unread the guest's transmitter is busy.
   */
  readonly onConsole?: ((bytes: Uint8Array<ArrayBuffer>) => unknown) | undefined;
  /** Called with each new run state. */
  readonly onRunState?: ((state: RunState) => void) | undefined;
  /** Hears of what could not be done as asked, in a sentence. */
  readonly onWarning?: ((message: string) => void) | undefined;
}

/** Throws WherryError if `clock` is given for a machine that is not restored. */
export function refuseClock(clock: RestoreClock | undefined, state: unknown): void {
  if (clock === undefined || state !== undefined) return;
  throw new WherryError("options.value", "clock is for a saved machine: give its state as well");
}

/** What a monitor and moves need of a machine. */
export interface MachineInside extends CreatedMachine {
  readonly disks: readonly LiveDisk[];
  /**
   * Runs `work` in its turn among the machine's calls. A signal ends the wait for that turn; `work` itself
   * only if it listens.
   */
  call<T>(work: () => Promise<T>, signal?: Signal): Promise<T>;
  /** As the machine's `close`, after `first` too; it is closed for calls at once. */
  close(first: Promise<unknown> | undefined): Promise<void>;
}

/** For the platforms; not part of the API. */
export let insideOf: (machine: HostedMachine) => MachineInside;

/**
 * A machine, without what only a monitor needs. Calls are executed one after the other, in their order. Each
 * rejects (`write` throws) with WherryError only; docs/embedding.md says what each does in each state.
 */
export class HostedMachine {
  readonly #machine: VirtMachine;
  readonly #console: CharPipe;
  readonly #platform: Platform;
  readonly #onWarning: (message: string) => unknown;
  readonly #ending = new Ending();
  /** The last call; it never rejects. */
  #turn: Promise<unknown> = Promise.resolve();
  #closed: Promise<void> | undefined;

  readonly #inside: MachineInside;

  static {
    insideOf = (machine) => machine.#inside;
  }
  private constructor(
    created: CreatedMachine,
    disks: readonly LiveDisk[],
    console: CharPipe,
    platform: Platform,
    onWarning: ((message: string) => void) | undefined,
  ) {
    const { machine } = created;
    this.#inside = {
      ...created,
      disks,
      call: (work, signal) => this.#call(work, signal, true),
      close: (first) => this.#closeAfter(first),
    };
    this.#machine = machine;
    this.#console = console;
    this.#platform = platform;
    this.#onWarning = safeListener("onWarning", onWarning);
    watchEnd(machine, (end) => this.#ending.end(end));
  }

  /** Creates it in its reset state, not started. Rejects with WherryError; then nothing is left open. */
  static async create(
    options: HostedMachineOptions,
    virtio: VirtioParts,
    platform: Platform,
  ): Promise<HostedMachine> {
    return onlyWherryErrors(() => HostedMachine.#create(options, virtio, platform));
  }
  static async #create(
    options: HostedMachineOptions,
    virtio: VirtioParts,
    platform: Platform,
  ): Promise<HostedMachine> {
    checkHosted(options, virtio);
    const console = consoleOf(options.onConsole);
    const devices = virtioDevices(virtio);
    const created = await createMachine(options, { ...devices, serial: console }, platform);
    const onRunState = safeListener("onRunState", options.onRunState);
    created.machine.runState.onChange((state) => void onRunState(state));
    return new HostedMachine(created, devices.disks, console, platform, options.onWarning);
  }

  /** What the machine does now. */
  get runState(): RunState {
    return this.#machine.runState.current;
  }

  /**
   * Resolves when the guest has powered off or has crashed, or the machine is closed. Never rejects. A reset
   * after the end begins another life, with another end.
   */
  get ended(): Promise<GuestEnd> {
    return this.#ending.promise;
  }

  /** Starts or resumes it. No effect if it runs. */
  start({ signal }: CallOptions = {}): Promise<void> {
    return this.#call(() => this.#machine.start(), signal);
  }
  /** Resolves when all harts have stopped and guest time is frozen. No effect if it does not run. */
  pause({ signal }: CallOptions = {}): Promise<void> {
    return this.#call(async () => {
      if (this.#machine.runState.running) await this.#machine.stop("paused");
    }, signal);
  }
  /** A system reset: the kernel boots again. A running machine keeps running, another waits for `start`. */
  reset({ signal }: CallOptions = {}): Promise<void> {
    return this.#call(async () => {
      await this.#machine.reset();
      this.#ending.renew();
    }, signal);
  }

  /** Writes input to the guest's serial port: bytes, or text encoded as UTF-8. It waits for its guest. */
  write(input: string | Uint8Array): void {
    this.#refuseClosed();
    checkInput(input);
    this.#console.push(typeof input === "string" ? encodeUtf8(input) : input.slice());
  }

  /**
   * Writes a snapshot; the machine then continues as before, even if this rejects. An abort discards it.
   */
  save(
    openSink: () => Promise<SnapshotSink>,
    environment?: MigrationEnvironment,
    { signal }: CallOptions = {},
  ): Promise<SnapshotResult> {
    const work = (onAbort: (stop: (reason: Error) => void) => void) => {
      let stopped: Error | undefined;
      const open = async (): Promise<SnapshotSink> => {
        const sink = await openSink();
        onAbort((reason) => {
          stopped = reason;
          sink.channel.abort(reason);
        });
        return sink;
      };
      const check = (): void => {
        if (stopped !== undefined) throw stopped;
      };
      return saveSnapshot(this.#machine, open, environment, undefined, undefined, false, check);
    };
    return this.#call(() => stoppable(signal, work), signal, true);
  }

  /**
   * Loads a snapshot of a machine with the same harts, memory and devices. This machine must have been
   * created with `incoming` and must not have run. Runs it if it ran when it was saved. On failure
   * (MigrationError, or an abort) it can only be closed.
   */
  load(channel: Channel, clock: RestoreClock = "stop", { signal }: CallOptions = {}): Promise<void> {
    const work = async (onAbort: (stop: (reason: Error) => void) => void): Promise<void> => {
      onAbort((reason) => channel.abort(reason));
      const { runState, warning } = await loadSnapshot(this.#machine, channel, clock);
      if (warning !== undefined) this.#onWarning(warning);
      await endArrival(this.#machine, runState, "as-saved");
      if (runState === "shutdown")
        this.#ending.end({ kind: "shutdown", message: "the guest had ended before it was saved" });
    };
    return this.#call(() => stoppable(signal, work), signal, true);
  }

  /** After the calls under way: ends the harts, releases the disks. Then only `close` may be called. */
  close(): Promise<void> {
    return this.#closeAfter(undefined);
  }
  #closeAfter(first: Promise<unknown> | undefined): Promise<void> {
    this.#closed ??= Promise.allSettled([this.#turn, first]).then(() =>
      onlyWherryErrors(() => this.#close()),
    );
    return this.#closed;
  }
  async #close(): Promise<void> {
    try {
      await stopForGood(this.#machine, this.#platform.setTimer);
    } finally {
      await this.#machine.vm.destroy();
      this.#ending.close();
    }
  }

  #refuseClosed(): void {
    if (this.#closed !== undefined) throw closedError();
  }
  /** `isStoppable`: an abort stops work that has begun, and is waited for; other work goes on. */
  async #call<T>(work: () => Promise<T>, signal?: Signal, isStoppable = false): Promise<T> {
    this.#refuseClosed();
    const begun = this.#turn.then(() => refuseAborted(signal));
    const done = begun.then(() => onlyWherryErrors(work));
    this.#turn = done.catch(() => {});
    if (signal === undefined) return done;
    await abortable(begun, signal);
    return isStoppable ? done : abortable(done, signal);
  }
}

export function closedError(): WherryError {
  return new WherryError("machine.closed", "the machine is closed: create another one");
}

/** Any other error is a fault of Wherry or of a backend; its cause has the place. */
export async function onlyWherryErrors<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    if (cause instanceof WherryError) throw cause;
    throw new WherryError("machine.internal", `a fault inside wherry: ${messageOf(cause)}`, { cause });
  }
}

function consoleOf(onConsole: HostedMachineOptions["onConsole"]): CharPipe {
  const listener = safeListener("onConsole", onConsole);
  let unread = 0;
  const count = (bytes: number): void => {
    unread += bytes;
    pipe.writable = unread < MAX_UNREAD_OUTPUT;
  };
  const pipe = new CharPipe((bytes) => {
    const { length } = bytes;
    const read = listener(bytes.slice());
    if (read === undefined) return;
    count(length);
    void read.finally(() => count(-length));
  });
  return pipe;
}
