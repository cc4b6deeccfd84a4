// The common part of moves whose other side waits for no GO: a QEMU, a file, a command. The end of the stream
// hands the machine over, so every step that can fail comes before it. qemu-move.ts moves to a QEMU at a
// socket, sink-move.ts to files and commands; docs/migration.md has the states.
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

/** Rejects with MigrationError if the machine, as it is, cannot be what the profile's release loads. */
export async function requireLoadable(profile: QemuProfile): Promise<void> {
  const refusals = await profile.refusals();
  if (refusals.length === 0) return;
  const reasons = refusals.map(({ message, cure }) => `${message}: ${cure}`).join("; ");
  throw new MigrationError("migration.profile", `the machine cannot go to ${profile.name}: ${reasons}`);
}

export abstract class MoveWithoutGo extends OutgoingMove {
  /** Undefined: the stream is in Wherry's own form. */
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
      this.checkOn(undefined);
      return await this.move();
    } catch (error) {
      await this.discard();
      return await this.failed(error);
    }
  }

  /** The move, once it is known that the machine may leave. A rejection leaves the machine here. */
  protected abstract move(): Promise<MigrationResult>;

  /** Removes what was written, after a failure. */
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

  /** All but the end. */
  protected async send(saver: StreamSaver, returnPath: ReturnPath | undefined): Promise<void> {
    const check = () => this.checkOn(returnPath);
    const pending: PageSet = await this.precopy(saver.ram, returnPath);
    check();
    // The guest has gone on: it may use something by now that cannot go there.
    if (this.profile !== undefined) await requireLoadable(this.profile);
    const before = await this.stopGuest(pending);
    if (this.profile?.switchoverStart === true) saver.command(MIG_CMD.SWITCHOVER_START, new Uint8Array(0));
    await saver.ram.pages(QEMU_VM.SECTION_END, pending, check);
    await this.machine.cpus.synchronizeAllStates();
    await saver.devices(before);
  }

  protected doubt(what: string): MigrationResult {
    this.machine.startBlocker = `${what}: the machine may run there`;
    return this.unresolved(
      `${what}. The machine is stopped here and may run there. Look there (QEMU: query-status): if it runs, ` +
        `decide "there"; only if it is certain that it does not and will not run there, decide "here"`,
    );
  }
}
