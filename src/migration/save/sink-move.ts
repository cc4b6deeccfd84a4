// A move to a file or to a command's standard input, in the format of a QEMU release or in Wherry's own.
// After a move to a file, the user may start the machine here again. A command owns the machine once it has
// received the whole stream.
import { messageOf } from "../../base/errors.ts";
import type { SnapshotSink } from "../../stream/channel.ts";
import { MigrationError } from "../../stream/migration-error.ts";
import type { Machine } from "../../vmm/machine.ts";
import type { QemuProfile } from "../../vmm/qemu-profile.ts";
import { withTimeout } from "../environment/migration-environment.ts";
import { MoveWithoutGo } from "./move-without-go.ts";
import { type MigrationOptions, type MigrationResult, MOVED } from "./outgoing-move.ts";

export interface SinkTarget {
  readonly kind: "file" | "command";
  /** `commit` of a command's sink waits for the command's exit. */
  readonly open: () => Promise<SnapshotSink>;
}

export class SinkMove extends MoveWithoutGo {
  readonly #target: SinkTarget;
  #sink: SnapshotSink | undefined;
  /** Resolves when the command has exited successfully. */
  #commandEnd: Promise<void> | undefined;

  constructor(
    machine: Machine,
    target: SinkTarget,
    profile: QemuProfile | undefined,
    options: MigrationOptions,
  ) {
    super(machine, profile, options);
    this.#target = target;
  }

  protected override async discard(): Promise<void> {
    await this.#sink?.discard();
  }

  protected override onResumed(): void {
    this.channel?.abort(new Error("the machine resumed here"));
  }

  protected async move(): Promise<MigrationResult> {
    const { kind, open } = this.#target;
    const sink = await this.unlessCancelled(open(), (late) => void late.discard());
    this.#sink = sink;
    const stream = this.openStream(sink.channel, undefined);
    const saver = this.begin(stream, { isMappedRam: this.capabilities.mappedRam });
    await saver.startRam();
    this.setUp();
    await this.send(saver, undefined);
    await stream.drain();
    await this.releaseDrives(() => this.throwIfEnded(undefined));
    if (kind === "file") {
      saver.trailer();
      await this.stream!.drain();
      this.throwIfEnded(undefined);
      this.committed = true;
      await sink.commit();
      return this.complete(undefined);
    }
    this.committed = true;
    saver.trailer();
    this.#commandEnd = this.stream!.drain().then(() => sink.commit());
    return await this.#awaitCommand(this.#commandEnd);
  }

  /** The command may have the whole stream: the outcome is unknown until it has exited successfully. */
  async #awaitCommand(end: Promise<void>): Promise<MigrationResult> {
    const ms = this.parameters.stallTimeoutMs;
    try {
      const late = () => new MigrationError("migration.timeout", `it did not exit within ${ms} ms`);
      await withTimeout(this.environment, end, ms, late);
    } catch (error) {
      return this.unconfirmed(
        `the command received the whole machine and did not succeed (${messageOf(error)})`,
      );
    }
    return this.complete(MOVED);
  }

  protected async queryOutcome(): Promise<MigrationResult> {
    if (this.#commandEnd !== undefined) return await this.#awaitCommand(this.#commandEnd);
    throw new MigrationError(
      "migration.decide",
      'a file or command cannot be asked for the outcome: check there, and decide "there" or "here"',
    );
  }
}
