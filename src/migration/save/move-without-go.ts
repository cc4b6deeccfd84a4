// The common part of moves without GO: to a QEMU, a file, a command. The end of the stream is the switchover,
// so every step that can fail precedes it. qemu-move.ts moves to a QEMU at a socket, sink-move.ts to files
// and commands; docs/migration.md has the states.
import type { Machine } from "../../vmm/machine.ts";
import type { QemuProfile } from "../../vmm/qemu-profile.ts";
import { MigrationError } from "../../stream/migration-error.ts";
import type { ReturnPath } from "../../stream/return-path.ts";
import type { StreamWriter } from "../../stream/stream-writer.ts";
import { MIG_CMD, QEMU_VM } from "../../stream/wire.ts";
import type { PageSet } from "../ram/ram-save.ts";
import {
  type MigrationOptions,
  type MigrationResult,
  OutgoingMove,
  type RamCapabilities,
} from "./outgoing-move.ts";
import { type StreamKind, StreamSaver } from "./save-stream.ts";
import { refuseToSave } from "./stop-to-save.ts";

/** Rejects with MigrationError if the profile's QEMU release cannot load the machine in its present state. */
export async function requireLoadable(profile: QemuProfile): Promise<void> {
  const refusals = await profile.refusals();
  if (refusals.length === 0) return;
  const reasons = refusals.map(({ message, cure }) => `${message}: ${cure}`).join("; ");
  throw new MigrationError("migration.profile", `the machine cannot be moved to ${profile.name}: ${reasons}`);
}

export abstract class MoveWithoutGo extends OutgoingMove {
  /** Undefined for a stream in Wherry's own format. */
  protected readonly profile: QemuProfile | undefined;
  protected readonly capabilities: RamCapabilities;

  constructor(machine: Machine, profile: QemuProfile | undefined, options: MigrationOptions) {
    super(machine, options);
    this.profile = profile;
    this.capabilities = options.capabilities ?? { multifd: false, mappedRam: false };
  }

  protected async run(): Promise<MigrationResult> {
    try {
      refuseToSave(this.machine);
      if (this.profile !== undefined) await requireLoadable(this.profile);
      this.throwIfEnded(undefined);
      return await this.move();
    } catch (error) {
      await this.discard();
      return await this.failed(error);
    }
  }

  /** Moves the machine after the checks. If it rejects, the machine resumes here. */
  protected abstract move(): Promise<MigrationResult>;

  /** Removes a partly written file after a failure. */
  protected discard(): Promise<void> {
    return Promise.resolve();
  }

  protected begin(stream: StreamWriter, kind: StreamKind): StreamSaver {
    const saver = new StreamSaver(this.machine, stream, this.environment, {
      ...kind,
      profile: this.profile,
    });
    this.ram = saver.ram;
    saver.header();
    return saver;
  }

  /** Sends everything except the end of the stream. */
  protected async send(saver: StreamSaver, returnPath: ReturnPath | undefined): Promise<void> {
    const check = () => this.throwIfEnded(returnPath);
    // While the guest runs, so that little is left to be hashed when it is stopped.
    if (this.profile === undefined) await this.machine.fingerprintDrives(false, check);
    const pending: PageSet = await this.precopy(saver.ram, returnPath);
    check();
    // The guest has run since the first check: it may now use features that the release lacks.
    if (this.profile !== undefined) await requireLoadable(this.profile);
    const before = await this.stopGuest(pending);
    if (this.profile?.switchoverStart === true) saver.command(MIG_CMD.SWITCHOVER_START, new Uint8Array(0));
    await saver.ram.pages(QEMU_VM.SECTION_END, pending, check);
    await this.machine.cpus.synchronizeAllStates();
    await saver.devices(before);
  }

  protected unconfirmed(what: string): MigrationResult {
    this.machine.startBlocker = `${what}: the machine may run there`;
    return this.unresolved(
      `${what}. The machine is stopped here and may run there. Check there (QEMU: query-status): if it runs, ` +
        `decide "there"; only if it is certain that it does not and will not run there, decide "here"`,
    );
  }
}
