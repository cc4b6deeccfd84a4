// The machine base: the common part of all boards, used by migration and the monitor. It owns the run state,
// the list of sections, and the order of stop, start and reset.
import { WherryError } from "../base/errors.ts";
import type { GuestMemory, RamBlock } from "../memory/guest-memory.ts";
import type { AcceleratorVm } from "../accelerator/accelerator.ts";
import type { QemuStreams } from "./qemu-profile.ts";
import { type RunState, RunStateHolder } from "./run-state.ts";
import type { Section } from "../state/section.ts";

/** The synchronise hooks that the machine calls; Cpus implements them (see cpus.ts). */
export interface SynchronizeHooks {
  /** Before device state is saved; before reset. */
  synchronizeAllStates(): Promise<void>;
  /** Marks the cached copies authoritative before a load. */
  synchronizeAllPreLoad(): void;
  /** After a load; after machine init. Writes back at level FULL. */
  synchronizeAllPostInit(): void;
  /** After a system reset. Writes back at level RESET. */
  synchronizeAllPostReset(): void;
  /** Architectural reset of the cached copies; marks them dirty. */
  resetAll(): void;
  resumeAll(): void;
  pauseAll(): Promise<void>;
}

/**
 * Guest time of a machine that is restored: it goes on where it stopped, or later by as long as the machine
 * was away on the host's clock.
 */
export type RestoreClock = "stop" | "host";

/** A device or backend that may have requests in flight. */
export interface Quiescable {
  /**
   * The vCPUs have stopped: finishes or parks all requests in flight. After it resolves, guest memory is not
   * written.
   */
  quiesce?(): Promise<void>;
  /** The vCPUs are about to run: polls every queue once and arms timers again. */
  unquiesce?(): void;
  /** System reset. */
  reset?(): void;
}

/** A disk: in a move the source releases it before the destination opens it for writing. */
export interface Ownable {
  /** Flushes, then gives up write access and locks. */
  inactivate(): Promise<void>;
  /**
   * Takes locks and write access. Throws if another process holds them, or if it is not the expected disk.
   */
  activate(): Promise<void>;
  /** It is inactive, and the machine does not run here again: it runs elsewhere, or was closed. */
  left?(how: "moved" | "closed"): void;
  /**
   * Updates what the machine's stream says of its contents. A live move needs no hashes. `check` throws to
   * stop it.
   */
  fingerprint?(isLiveMove: boolean, check?: () => void): Promise<void>;
}

/**
 * Bytes that travel as a RAM block of Wherry's own streams and are not in the guest's address space, such as
 * boot images. A page that is missing in the stream equals the page of guest memory at `guestPage`.
 */
export interface CarriedBlock {
  readonly name: string;
  /** Length in bytes, whole pages; 0: no block is sent. */
  readonly size: number;
  /** What is sent. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Guest-physical address of the page that may have the same contents; undefined: there is none. */
  guestPage(offset: number): number | undefined;
  /**
   * A connection announces a block of `size` bytes: returns memory to be filled. Several may, before one of
   * them brings the machine. Throws WherryError for a bad size.
   */
  receive(size: number): { readonly memory: GuestMemory; readonly block: RamBlock };
  /** All pages of the machine's block have arrived in `memory`, except those at the offsets `missing`. */
  received(memory: GuestMemory, missing: readonly number[]): void;
}

export type MachineEvent =
  | { event: "STOP" }
  | { event: "RESUME" }
  | { event: "RESET"; guest: boolean }
  | { event: "SHUTDOWN"; guest: boolean; reason: string }
  | { event: "POWERDOWN" }
  | { event: "SUSPEND" }
  | { event: "WAKEUP" }
  /** Files that the guest has open in a share are gone: their names, without a bound. */
  | { event: "X_WHERRY_SHARE_STALE"; tag: string; files: readonly string[] }
  | { event: "GUEST_PANICKED"; message: string };

/** The guest is at its end: only a reset makes another beginning. */
const NEEDS_RESET: readonly RunState[] = ["shutdown", "internal-error"];

export class MachineError extends WherryError {}

export interface MachineParts {
  /** Machine type on the wire, such as `virt`. */
  readonly name: string;
  readonly vm: AcceleratorVm;
  readonly memory: GuestMemory;
  readonly cpus: SynchronizeHooks;
}

export class Machine {
  readonly name: string;
  readonly vm: AcceleratorVm;
  readonly memory: GuestMemory;
  readonly cpus: SynchronizeHooks;
  readonly runState = new RunStateHolder();
  /** In registration order; migration sorts them by priority. */
  readonly sections: Section[] = [];
  /** QEMU's releases that this board can be moved to and from. */
  qemu: QemuStreams | undefined;
  readonly devices: Quiescable[] = [];
  readonly drives: Ownable[] = [];
  /** What travels with guest memory. */
  carried: CarriedBlock | undefined;
  /** Restores the loaded kernel, device tree and boot registers; called at reset, after the devices. */
  onReset: () => void = () => {};
  /**
   * A saved state has been loaded (not: a machine has arrived by a live move), which others may load too.
   * Called before the machine can be started. Returns why guest time did not follow `clock`, if so.
   */
  onRestored: (clock: RestoreClock) => string | undefined = () => undefined;
  /** Why this machine must not run now: it is incoming, half loaded, or runs elsewhere. `start` throws it. */
  startBlocker: string | undefined;
  /** Why this machine cannot be reset: it has nothing to boot. `reset` throws it. */
  get resetBlocker(): string | undefined {
    return undefined;
  }
  readonly #listeners: ((event: MachineEvent) => void)[] = [];
  #drivesActive = false;
  /**
   * The last of start, stop and reset: each waits for the one before, whether QMP, a move or the guest
   * requests it.
   */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(parts: MachineParts) {
    this.name = parts.name;
    this.vm = parts.vm;
    this.memory = parts.memory;
    this.cpus = parts.cpus;
  }

  onEvent(listener: (event: MachineEvent) => void): () => void {
    this.#listeners.push(listener);
    return () => {
      const i = this.#listeners.indexOf(listener);
      if (i >= 0) this.#listeners.splice(i, 1);
    };
  }
  emit(event: MachineEvent): void {
    for (const listener of [...this.#listeners]) listener(event);
  }

  addSection(section: Section): void {
    if (this.sections.some((s) => s.idstr === section.idstr && s.instanceId === section.instanceId)) {
      throw new MachineError(
        "machine.section",
        `section ${section.idstr}/${section.instanceId} is registered twice`,
      );
    }
    this.sections.push(section);
  }

  get drivesActive(): boolean {
    return this.#drivesActive;
  }
  async activateDrives(): Promise<void> {
    if (this.#drivesActive) return;
    const done: Ownable[] = [];
    try {
      for (const drive of this.drives) {
        await drive.activate();
        done.push(drive);
      }
    } catch (error) {
      for (const drive of done) await drive.inactivate();
      throw error;
    }
    this.#drivesActive = true;
  }
  async inactivateDrives(): Promise<void> {
    if (!this.#drivesActive) return;
    this.#drivesActive = false;
    for (const drive of this.drives) await drive.inactivate();
  }

  /** Inactive, it does not run here again. */
  left(how: "moved" | "closed"): void {
    for (const drive of this.drives) drive.left?.(how);
  }

  async fingerprintDrives(isLiveMove: boolean, check?: () => void): Promise<void> {
    for (const drive of this.drives) await drive.fingerprint?.(isLiveMove, check);
  }

  /** Machine init: resets everything; the hypervisor half takes the vCPU states at level FULL. */
  async initialize(): Promise<void> {
    await this.cpus.synchronizeAllStates();
    this.#resetParts();
    this.cpus.synchronizeAllPostInit();
  }

  #resetParts(): void {
    for (const device of this.devices) device.reset?.();
    this.vm.resetIrqchip();
    this.cpus.resetAll();
    this.onReset();
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(work);
    this.#turn = done.catch(() => {});
    return done;
  }

  /** Starts or resumes. Activates the drives first; if that fails, nothing has changed. */
  start(): Promise<void> {
    return this.#inTurn(() => this.#start());
  }
  async #start(): Promise<void> {
    if (this.runState.running) return;
    if (this.startBlocker !== undefined) throw new MachineError("machine.blocked", this.startBlocker);
    await this.vm.started;
    this.#refuseDead();
    if (NEEDS_RESET.includes(this.runState.current)) {
      const message = `the machine is ${this.runState.current}: reset it first, then start it`;
      throw new MachineError("machine.ended", message);
    }
    await this.activateDrives();
    this.runState.set("running");
    for (const device of this.devices) device.unquiesce?.();
    this.vm.clock.start();
    this.cpus.resumeAll();
    this.emit({ event: "RESUME" });
  }

  /**
   * Parks all vCPUs outside the guest, freezes guest time, quiesces devices, then sets `state`. Returns the
   * previous state.
   */
  stop(state: RunState = "paused"): Promise<RunState> {
    return this.#inTurn(() => this.#stop(state));
  }
  async #stop(state: RunState): Promise<RunState> {
    const before = this.runState.current;
    if (before !== "running") {
      this.runState.set(state);
      return before;
    }
    await this.cpus.pauseAll();
    this.vm.clock.stop();
    for (const device of this.devices) await device.quiesce?.();
    this.runState.set(state);
    this.emit({ event: "STOP" });
    return before;
  }

  /** The guest has suspended itself. The machine runs, so that an interrupt can wake it. */
  get isSuspended(): boolean {
    return this.vm.isSuspended;
  }
  /** Wakes a suspended guest, as an interrupt does. */
  wakeUp(): void {
    this.vm.wakeUp();
  }

  #refuseDead(): void {
    const { failure } = this.vm;
    if (failure === undefined) return;
    throw new MachineError("machine.dead", `the machine cannot run again, create another one: ${failure}`);
  }

  /** Resolves when all earlier calls of start, stop and reset have completed. */
  settled(): Promise<void> {
    return this.#inTurn(async () => {});
  }

  /**
   * System reset. A running machine keeps running, a stopped one becomes `prelaunch`. `guest` is true if the
   * guest requested it. Rejects with MachineError, and nothing has changed, if nothing can be booted, or if a
   * user's request comes while the machine is saved, moved or not here.
   */
  reset(guest = false): Promise<void> {
    return this.#inTurn(() => this.#reset(guest));
  }
  async #reset(guest: boolean): Promise<void> {
    const blocker = (guest ? undefined : this.startBlocker) ?? this.resetBlocker;
    if (blocker !== undefined) throw new MachineError("machine.reset", blocker);
    this.#refuseDead();
    const was = this.runState.running;
    if (was) {
      await this.cpus.pauseAll();
      for (const device of this.devices) await device.quiesce?.();
    }
    await this.cpus.synchronizeAllStates();
    this.#resetParts();
    this.cpus.synchronizeAllPostReset();
    this.emit({ event: "RESET", guest });
    if (was) {
      for (const device of this.devices) device.unquiesce?.();
      this.cpus.resumeAll();
    } else if (this.startBlocker === undefined) this.runState.set("prelaunch");
  }
}
