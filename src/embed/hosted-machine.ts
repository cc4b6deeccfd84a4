// A machine for embedders, the same on all platforms: start, pause, console, save, load, end. Moves and QMP
// are not included: the command line connects them to a machine of createMachine itself.
import { WherryError } from "../base/errors.ts";
import { encodeUtf8 } from "../base/text.ts";
import { CharPipe, MAX_UNREAD_OUTPUT } from "../devices/char-backend.ts";
import type { VirtMachine } from "../machines/virt.ts";
import type { Channel, SnapshotSink } from "../stream/channel.ts";
import { endArrival } from "../migration/load/arrival.ts";
import type { MigrationEnvironment } from "../migration/environment/migration-environment.ts";
import { loadSnapshot, type SnapshotResult, saveSnapshot } from "../migration/snapshot/snapshot.ts";
import type { RestoreClock } from "../vmm/machine.ts";
import type { RunState } from "../vmm/run-state.ts";
import { createMachine, type MachineConfig } from "./create-machine.ts";
import { type GuestEnd, stopForGood, watchEnd } from "./machine-end.ts";
import type { Platform } from "./platform.ts";
import { type VirtioParts, virtioDevices } from "./virtio-parts.ts";

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

/** A machine, without what only a monitor needs. Every call rejects with WherryError. */
export class HostedMachine {
  /** Resolves when the guest has powered off or has crashed. Never rejects. */
  readonly ended: Promise<GuestEnd>;
  readonly #machine: VirtMachine;
  readonly #console: CharPipe;
  readonly #platform: Platform;
  readonly #onWarning: ((message: string) => void) | undefined;
  #closed: Promise<void> | undefined;

  private constructor(
    machine: VirtMachine,
    console: CharPipe,
    platform: Platform,
    onWarning: ((message: string) => void) | undefined,
  ) {
    this.#machine = machine;
    this.#console = console;
    this.#platform = platform;
    this.#onWarning = onWarning;
    this.ended = new Promise((resolve) => watchEnd(machine, resolve));
  }

  /** Creates it in its reset state, not started. Rejects with WherryError; then nothing is left open. */
  static async create(
    options: HostedMachineOptions,
    virtio: VirtioParts,
    platform: Platform,
  ): Promise<HostedMachine> {
    const console = consoleOf(options.onConsole);
    const { machine } = await createMachine(options, { ...virtioDevices(virtio), serial: console }, platform);
    machine.runState.onChange((state) => options.onRunState?.(state));
    return new HostedMachine(machine, console, platform, options.onWarning);
  }

  /** What the machine does now. */
  get runState(): RunState {
    return this.#machine.runState.current;
  }

  /** Starts or resumes it. No effect if it runs. */
  start(): Promise<void> {
    return this.#machine.start();
  }
  /** Resolves when all harts have stopped and guest time is frozen. */
  async pause(): Promise<void> {
    if (this.#machine.runState.running) await this.#machine.stop("paused");
  }
  /** A system reset: the kernel boots again. A running machine keeps running. */
  reset(): Promise<void> {
    return this.#machine.reset();
  }

  /** Writes input to the guest's serial port: bytes, or text encoded as UTF-8. */
  write(input: string | Uint8Array): void {
    this.#console.push(typeof input === "string" ? encodeUtf8(input) : input.slice());
  }

  /** Writes a snapshot; the machine then continues as before, even if this rejects with MigrationError. */
  save(openSink: () => Promise<SnapshotSink>, environment?: MigrationEnvironment): Promise<SnapshotResult> {
    return saveSnapshot(this.#machine, openSink, environment);
  }

  /**
   * Loads a snapshot of a machine with the same harts, memory and devices. This machine must have been
   * created with `incoming` and must not have run. Runs it if it ran when it was saved. On failure
   * (MigrationError) it can only be closed.
   */
  async load(channel: Channel, clock: RestoreClock = "stop"): Promise<void> {
    const { runState, warning } = await loadSnapshot(this.#machine, channel, clock);
    if (warning !== undefined) this.#onWarning?.(warning);
    await endArrival(this.#machine, runState, "as-saved");
  }

  /** Ends the harts and releases the disks. The machine cannot be used afterwards. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }
  async #close(): Promise<void> {
    try {
      await stopForGood(this.#machine, this.#platform.setTimer);
    } finally {
      await this.#machine.vm.destroy();
    }
  }
}

function consoleOf(onConsole: HostedMachineOptions["onConsole"]): CharPipe {
  let unread = 0;
  const count = (bytes: number): void => {
    unread += bytes;
    pipe.writable = unread < MAX_UNREAD_OUTPUT;
  };
  const pipe = new CharPipe((bytes) => {
    const { length } = bytes;
    const read = onConsole?.(bytes.slice());
    if (!(read instanceof Promise)) return;
    count(length);
    void read.finally(() => count(-length));
  });
  return pipe;
}
