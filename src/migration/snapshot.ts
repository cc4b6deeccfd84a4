// Snapshots: the machine stopped, written whole, and as it was again; and back from one. A snapshot counts only
// when its sink has committed, so whatever goes wrong, a file that was there before survives and the machine goes on.
import { messageOf } from "../base/errors.ts";
import type { Machine } from "../vmm/machine.ts";
import type { StreamProfile } from "../vmm/profile.ts";
import type { RunState } from "../vmm/run-state.ts";
import type { Channel, SnapshotSink } from "./channel.ts";
import { MigrationError } from "./errors.ts";
import { acceptCommand } from "./foreign-load.ts";
import { isMovable } from "./globalstate.ts";
import { defaultHost, type MigrationHost } from "./host.ts";
import { StreamLoader } from "./load-stream.ts";
import { allPages, countPages } from "./ram-save.ts";
import { StreamSaver } from "./save-stream.ts";
import { StreamReader } from "./stream-reader.ts";
import { StreamWriter } from "./stream-writer.ts";
import { QEMU_VM } from "./wire.ts";

export interface SnapshotResult {
  readonly bytes: number;
  readonly normalPages: number;
  readonly zeroPages: number;
  /** How long the guest stood still. */
  readonly stoppedMs: number;
}

/**
 * Writes `machine` to a sink, as `profile`'s release does (`isMappedRam`: with each page at its place in the file) or in
 * Wherry's own form, and leaves it as it was: running if it ran. Rejects with a MigrationError if it cannot be written;
 * the machine goes on all the same.
 */
export async function saveSnapshot(
  machine: Machine,
  openSink: () => Promise<SnapshotSink>,
  host: MigrationHost = defaultHost,
  onProgress: (donePages: number, totalPages: number) => void = () => {},
  profile?: StreamProfile,
  isMappedRam = false,
): Promise<SnapshotResult> {
  refuseToSave(machine);
  const sink = await openSink();
  const began = host.nowMs();
  try {
    const before = await stopFor(machine, "save-vm", "the machine is being saved: wait until that has ended");
    try {
      const stream = new StreamWriter(sink.channel);
      const saver = new StreamSaver(machine, stream, host, { profile, isMappedRam });
      saver.header();
      const pages = allPages(machine.memory);
      const total = countPages(pages);
      const check = () => onProgress(total - saver.ram.pagesLeft, total);
      await saver.startRam();
      await saver.ram.pages(QEMU_VM.SECTION_END, pages, check);
      await machine.cpus.synchronizeAllStates();
      await saver.devices(before);
      saver.trailer();
      await stream.drain();
      await sink.commit();
      const { normalPages, zeroPages } = saver.ram;
      return { bytes: stream.offset, normalPages, zeroPages, stoppedMs: host.nowMs() - began };
    } finally {
      await goOn(machine, before);
    }
  } catch (error) {
    await sink.discard();
    throw error instanceof MigrationError
      ? error
      : new MigrationError("migration.save", `the snapshot was not written: ${messageOf(error)}`, {
          cause: error,
        });
  }
}

/** Throws if the machine is in no state to be saved or moved. */
export function refuseToSave(machine: Machine): void {
  const state = machine.runState.current;
  const why = machine.startBlocker ?? (isMovable(state) ? undefined : `the machine is ${state}`);
  if (why !== undefined) throw refusal(why);
}

function refusal(why: string): MigrationError {
  return new MigrationError("migration.state", `the machine cannot be saved or moved now: ${why}`);
}

/**
 * Stops the machine for `state` and gives the state it was in; until `goOn` nobody can start it. Rejects with
 * MigrationError if it cannot be stopped for that.
 */
export async function stopFor(
  machine: Machine,
  state: "save-vm" | "finish-migrate",
  why: string,
): Promise<RunState> {
  refuseToSave(machine);
  machine.startBlocker = why;
  try {
    const before = await machine.stop(state);
    // A reset or a power-off that the guest asked for with its last instructions comes before anything is sent.
    await machine.settled();
    const { current } = machine.runState;
    if (current !== state) throw refusal(`it is ${current}`);
    return before;
  } catch (error) {
    machine.startBlocker = undefined;
    throw error;
  }
}

/** Back to what the machine was before `stopFor`, unless something else has become of it. */
export async function goOn(machine: Machine, before: RunState): Promise<void> {
  machine.startBlocker = undefined;
  if (!["finish-migrate", "save-vm"].includes(machine.runState.current)) return;
  if (before === "running") await machine.start();
  else machine.runState.set(before === "io-error" ? "paused" : before);
}

export interface LoadedMachine {
  /** What the machine did when it was saved. */
  readonly runState: RunState;
  readonly bytes: number;
}

/**
 * Loads a snapshot, Wherry's or QEMU's, into a machine that has not run. It does not start it: `machine.start()` does, if the result's
 * run state (or the user) says so. On failure the machine is in `internal-error` and can never be started.
 */
export async function loadSnapshot(machine: Machine, channel: Channel): Promise<LoadedMachine> {
  beginArrival(machine);
  try {
    const stream = new StreamReader(channel);
    // QEMU says in its files too that it switches over.
    const onCommand = async (command: number, data: Uint8Array) => acceptCommand(stream, command, data);
    const loader = new StreamLoader(machine, stream, machine.foreign === undefined ? undefined : onCommand);
    await loader.readState();
    if (loader.isForeign) {
      await loader.readForeignTrailer();
      // What a file has after its end is not ours; a command that the stream comes from is to end well.
      do stream.skip(stream.available);
      while (await stream.more());
    } else await loader.readTrailer(true);
    loader.apply();
    machine.startBlocker = undefined;
    return { runState: loader.runState, bytes: stream.offset };
  } catch (error) {
    throw failArrival(machine, error);
  }
}

/** The machine is about to receive its state: it cannot be started until that is complete. */
export function beginArrival(machine: Machine): void {
  machine.runState.set("inmigrate");
  machine.startBlocker = "the machine has not arrived yet: it can only be started once its state is complete";
}

/** The state is not complete: the machine can never be started. */
export function failArrival(machine: Machine, cause: unknown): MigrationError {
  const error =
    cause instanceof MigrationError
      ? cause
      : new MigrationError("migration.load", `the machine was not loaded: ${messageOf(cause)}`, { cause });
  machine.startBlocker = `the machine is half loaded and can never run: ${error.message}`;
  machine.runState.set("internal-error");
  return error;
}
