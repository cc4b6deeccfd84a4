// Saves and loads snapshots. A save stops the machine, writes all of it, and resumes it. A snapshot is valid
// only after its sink has committed: on any failure, a file that existed before is unchanged and the machine
// resumes.
import { messageOf } from "../../base/errors.ts";
import type { Machine, RestoreClock } from "../../vmm/machine.ts";
import type { QemuProfile } from "../../vmm/qemu-profile.ts";
import type { RunState } from "../../vmm/run-state.ts";
import type { Channel, SnapshotSink } from "../../stream/channel.ts";
import type { StreamCommand } from "../../stream/commands.ts";
import { MigrationError } from "../../stream/migration-error.ts";
import { acceptCommand } from "../load/qemu-load.ts";
import { beginArrival, failArrival } from "../load/arrival.ts";
import { resumeAs, refuseToSave, stopFor } from "../save/stop-to-save.ts";
import { defaultEnvironment, type MigrationEnvironment } from "../environment/migration-environment.ts";
import { StreamLoader } from "../load/load-stream.ts";
import { allPages, countPages } from "../ram/ram-save.ts";
import { StreamSaver } from "../save/save-stream.ts";
import { StreamReader } from "../../stream/stream-reader.ts";
import { StreamWriter } from "../../stream/stream-writer.ts";
import { QEMU_VM } from "../../stream/wire.ts";

/** Bytes of the stream, and pages of 4 KiB, non-zero and zero. */
export interface SnapshotResult {
  readonly bytes: number;
  readonly normalPages: number;
  readonly zeroPages: number;
  /** How long the guest was stopped. */
  readonly stoppedMs: number;
}

/**
 * Writes `machine` to a sink, in the format of `profile`'s release (`isMappedRam`: with mapped-ram) or in
 * Wherry's own, and restores its run state. Rejects with MigrationError if the snapshot cannot be written;
 * the machine resumes in any case. While disks are hashed, `check` throws to stop.
 */
export async function saveSnapshot(
  machine: Machine,
  openSink: () => Promise<SnapshotSink>,
  environment: MigrationEnvironment = defaultEnvironment,
  onProgress: (donePages: number, totalPages: number) => void = () => {},
  profile?: QemuProfile,
  isMappedRam = false,
  check?: () => void,
): Promise<SnapshotResult> {
  refuseToSave(machine);
  const sink = await openSink();
  try {
    // While the guest runs, so that little is left to be hashed when it is stopped.
    if (profile === undefined) await machine.fingerprintDrives(false, check);
    const began = environment.nowMs();
    const before = await stopFor(machine, "save-vm", "the machine is being saved: wait until that has ended");
    try {
      const stream = new StreamWriter(sink.channel);
      const saver = new StreamSaver(machine, stream, environment, { profile, isMappedRam });
      saver.header();
      const pages = allPages(machine.memory);
      const total = countPages(pages) + saver.ram.unchangingPages;
      const check = () => onProgress(total - saver.ram.pagesLeft, total);
      await saver.startRam();
      await saver.ram.pages(QEMU_VM.SECTION_END, pages, check);
      await machine.cpus.synchronizeAllStates();
      await saver.devices(before);
      saver.trailer();
      await stream.drain();
      await sink.commit();
      const { normalPages, zeroPages } = saver.ram;
      return { bytes: stream.offset, normalPages, zeroPages, stoppedMs: environment.nowMs() - began };
    } finally {
      await resumeAs(machine, before);
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

export interface LoadedMachine {
  /** Run state when the machine was saved. */
  readonly runState: RunState;
  readonly bytes: number;
  /** What was not done as asked. */
  readonly warning: string | undefined;
}

/** How long a load may keep the thread, in milliseconds. */
const MAX_TURN_MS = 2;

/**
 * The channel with turns of the event loop between its reads. A snapshot in memory is read without any, and
 * other machines of this process would have to wait: for their consoles, and for their own loads.
 */
function inTurns(channel: Channel, environment: MigrationEnvironment): Channel {
  let turn = environment.nowMs();
  return {
    ...channel,
    async read(target) {
      if (environment.nowMs() - turn >= MAX_TURN_MS) {
        await environment.yieldToEventLoop();
        turn = environment.nowMs();
      }
      return await channel.read(target);
    },
  };
}

/**
 * Loads Wherry's or QEMU's snapshot into a machine that has not run. The caller starts it (`machine.start()`)
 * if the saved run state, or the user, says so. On failure the machine is in `internal-error` and can never
 * be started.
 */
export async function loadSnapshot(
  machine: Machine,
  channel: Channel,
  clock: RestoreClock = "stop",
  environment: MigrationEnvironment = defaultEnvironment,
): Promise<LoadedMachine> {
  beginArrival(machine);
  try {
    const stream = new StreamReader(inTurns(channel, environment));
    // QEMU sends SWITCHOVER_START in files, too.
    const onCommand = async ({ name }: StreamCommand) => acceptCommand(stream, name);
    const loader = new StreamLoader(machine, stream, machine.qemu === undefined ? {} : { onCommand });
    await loader.readState();
    if (loader.isQemu) {
      await loader.readQemuTrailer();
      // Reads and ignores bytes after the end, so that a command which writes the stream can exit
      // successfully.
      do stream.skip(stream.available);
      while (await stream.more());
    } else await loader.readTrailer(true);
    loader.apply();
    await machine.activateDrives();
    const why = machine.onRestored(clock);
    machine.startBlocker = undefined;
    const warning = why === undefined ? undefined : `guest time goes on where it stopped: ${why}`;
    return { runState: loader.runState, bytes: stream.offset, warning };
  } catch (error) {
    throw failArrival(machine, error);
  }
}
