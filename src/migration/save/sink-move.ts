// A move to a file or to a command's standard input, as a QEMU release writes it or in Wherry's own format.
// The user may start the file's machine here again. A command owns the machine once it has the whole stream.
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
  /** `commit` of a command's sink waits for the command's end. */
  readonly open: () => Promise<SnapshotSink>;
}

export class SinkMove extends MoveWithoutGo {
  readonly #target: SinkTarget;
  #sink: SnapshotSink | undefined;
  /** Whether the command has come to a good end. */
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
    this.channel?.abort(new Error("the machine is here"));
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
    await this.releaseDrives(() => this.checkOn(undefined));
    if (kind === "file") {
      saver.trailer();
      await this.stream!.drain();
      this.checkOn(undefined);
      this.committed = true;
      await sink.commit();
      await this.endLogging();
      return this.complete(undefined);
    }
    this.committed = true;
    saver.trailer();
    this.#commandEnd = this.stream!.drain().then(() => sink.commit());
    return await this.#afterCommand(this.#commandEnd);
  }

  /** The command has the whole stream, or will have it: it is in doubt until the command has ended well. */
  async #afterCommand(end: Promise<void>): Promise<MigrationResult> {
    const ms = this.parameters.acknowledgeTimeoutMs;
    try {
      const late = () => new MigrationError("migration.timeout", `it has not ended within ${ms} ms`);
      await withTimeout(this.environment, end, ms, late);
    } catch (error) {
      return this.doubt(`the command was given the whole machine and did not end well (${messageOf(error)})`);
    }
    return this.complete(MOVED);
  }

  protected async ask(): Promise<MigrationResult> {
    if (this.#commandEnd !== undefined) return await this.#afterCommand(this.#commandEnd);
    throw new MigrationError(
      "migration.decide",
      'a file or command cannot be asked what became of the machine: look there, and decide "there" or "here"',
    );
  }
}
