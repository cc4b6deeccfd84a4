// A move to a QEMU that listens at a socket, with its return path. QEMU waits for no GO: it starts the
// machine at the end of the stream. The source therefore waits for QEMU's last PONG before that end; the SHUT
// after it confirms that the machine runs there.
import { messageOf } from "../../base/errors.ts";
import type { Channel } from "../../stream/channel.ts";
import { MigrationError } from "../../stream/migration-error.ts";
import { ReturnPath } from "../../stream/return-path.ts";
import { MIG_CMD, PING_FINAL, PING_SETUP } from "../../stream/wire.ts";
import type { Machine } from "../../vmm/machine.ts";
import type { QemuProfile } from "../../vmm/qemu-profile.ts";
import { MoveWithoutGo } from "./move-without-go.ts";
import { type MigrationOptions, type MigrationResult, MOVED } from "./outgoing-move.ts";
import { cookieBytes, type StreamSaver } from "./save-stream.ts";

const QEMU_ENDED = "QEMU aborted the migration or its process exited; see its messages for the reason";

/** A move with the stream of `profile`'s release. `connect` may throw ConnectError. */
export class QemuMove extends MoveWithoutGo {
  readonly #connect: () => Promise<Channel>;
  /** Return path to a QEMU that received the end of the stream. */
  #returnPath: ReturnPath | undefined;
  /** The end of the stream was written completely. */
  #isWhole = false;

  constructor(
    machine: Machine,
    connect: () => Promise<Channel>,
    profile: QemuProfile,
    options: MigrationOptions,
  ) {
    super(machine, profile, options);
    this.#connect = connect;
  }

  protected async move(): Promise<MigrationResult> {
    const channel = await this.unlessCancelled(this.#connect(), (late) => late.abort(new Error("too late")));
    const returnPath = new ReturnPath(channel, QEMU_ENDED);
    const stream = this.openStream(channel, returnPath);
    const saver = await this.#withMultifdHint(async () => {
      const channels = this.capabilities.multifd ? await this.openChannels(this.#connect) : undefined;
      const begun = await this.#startStream(this.begin(stream, { channels }), returnPath);
      this.setUp();
      await this.send(begun, returnPath);
      return begun;
    });
    // QEMU answers a PING in stream order: its PONG confirms that everything before was loaded.
    saver.command(MIG_CMD.PING, cookieBytes(PING_FINAL));
    await this.stream!.drain();
    await this.acknowledged(returnPath, PING_FINAL);
    await this.releaseDrives(() => this.throwIfEnded(returnPath));
    this.committed = true;
    this.#returnPath = returnPath;
    saver.trailer();
    // If only the write failed, QEMU may still answer.
    const whole = stream.drain().then(() => (this.#isWhole = true));
    await whole.catch(() => {});
    return await this.#afterEnd(returnPath);
  }

  /** QEMU may have the whole stream: the outcome is unknown until its SHUT arrives. */
  async #afterEnd(returnPath: ReturnPath): Promise<MigrationResult> {
    let code: number;
    try {
      code = await this.shut(returnPath);
    } catch (error) {
      return this.unconfirmed(
        `QEMU received the whole machine and did not confirm that it runs (${messageOf(error)})`,
      );
    }
    // QEMU also reports an error if the machine runs and only the VMDESCRIPTION was truncated.
    if (code !== 0 && !this.#isWhole)
      return this.unconfirmed(
        `the connection broke while QEMU received the end of the machine, and QEMU reports error ${code}`,
      );
    if (code !== 0) return await this.resumeHere("failed", returnPath.ended);
    await this.channels?.close();
    await this.channel?.close().catch(() => {});
    return this.complete(MOVED);
  }

  /** Disconnects, because a QEMU that owns the machine may still send SHUT. */
  protected override onResumed(): void {
    this.channel?.abort(new Error("the machine resumed here"));
    this.channels?.abort(new Error("the machine resumed here"));
  }

  /** Sends the start of the stream, up to the list of RAM blocks. Resolves when QEMU has answered it. */
  async #startStream(saver: StreamSaver, returnPath: ReturnPath): Promise<StreamSaver> {
    saver.command(MIG_CMD.OPEN_RETURN_PATH, new Uint8Array(0));
    saver.command(MIG_CMD.PING, cookieBytes(PING_SETUP));
    await saver.startRam();
    await this.stream!.flush();
    await this.acknowledged(returnPath, PING_SETUP);
    return saver;
  }

  /**
   * Adds a hint on multifd: QEMU does not report missing channels, but waits for them, or drops those that it
   * does not expect.
   */
  async #withMultifdHint<T>(step: () => Promise<T>): Promise<T> {
    try {
      return await step();
    } catch (error) {
      const isLost = !(error instanceof MigrationError) || error.code === "migration.stalled";
      if (!this.capabilities.multifd || !isLost) throw error;
      const { multifdChannels } = this.parameters;
      throw new MigrationError(
        "migration.multifd",
        `${messageOf(error)}: is capability multifd on in the destination, with multifd-channels ${multifdChannels}?`,
        { cause: error },
      );
    }
  }

  protected async queryOutcome(): Promise<MigrationResult> {
    if (this.#returnPath !== undefined && this.#returnPath.ended === undefined)
      return await this.#afterEnd(this.#returnPath);
    throw new MigrationError(
      "migration.decide",
      'QEMU cannot be asked for the outcome: check there, and decide "there" or "here"',
    );
  }
}
