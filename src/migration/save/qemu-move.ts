// A move to a QEMU that listens at a socket, with its return path. QEMU waits for no GO: it starts the
// machine at the end of the stream. Its last PONG is therefore awaited before that end, and the SHUT after it
// says whether the machine runs there.
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

const QEMU_GAVE_UP = "QEMU has given up or its process has ended; its own messages say why";

/** Starts a move with the stream of `profile`'s release. `connect` may throw ConnectError. */
export class QemuMove extends MoveWithoutGo {
  readonly #connect: () => Promise<Channel>;
  /** Of a QEMU that was given the end of the stream. */
  #returnPath: ReturnPath | undefined;
  /** The end of the stream was written to its last byte. */
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
    const returnPath = new ReturnPath(channel, QEMU_GAVE_UP);
    const stream = this.openStream(channel, returnPath);
    const saver = await this.#hinted(async () => {
      const channels = this.capabilities.multifd ? await this.openChannels(this.#connect) : undefined;
      const begun = await this.#greet(this.begin(stream, { channels }), returnPath);
      this.setUp();
      await this.send(begun, returnPath);
      return begun;
    });
    // QEMU answers a PING in its turn: its PONG says that all before it was loaded.
    saver.command(MIG_CMD.PING, cookieBytes(PING_FINAL));
    await this.stream!.drain();
    await this.acknowledged(returnPath, PING_FINAL);
    await this.releaseDrives(() => this.checkOn(returnPath));
    this.committed = true;
    this.#returnPath = returnPath;
    saver.trailer();
    // If only the writing failed, the answer may still come.
    const whole = stream.drain().then(() => (this.#isWhole = true));
    await whole.catch(() => {});
    return await this.#afterEnd(returnPath);
  }

  /** QEMU has the whole stream, or will have it: it is in doubt until its SHUT comes. */
  async #afterEnd(returnPath: ReturnPath): Promise<MigrationResult> {
    let code: number;
    try {
      code = await this.shut(returnPath);
    } catch (error) {
      return this.doubt(
        `QEMU was given the whole machine and did not say that it runs (${messageOf(error)})`,
      );
    }
    // QEMU also says so when it runs and only the VMDESCRIPTION has not come whole.
    if (code !== 0 && !this.#isWhole)
      return this.doubt(`QEMU was given the machine by a connection that broke, and says error ${code}`);
    if (code !== 0) return await this.resumeHere("failed", returnPath.ended);
    await this.channels?.close();
    await this.channel?.close().catch(() => {});
    return this.complete(MOVED);
  }

  /** A QEMU that has the machine or may yet say so is not listened to any more. */
  protected override onResumed(): void {
    this.channel?.abort(new Error("the machine is here"));
    this.channels?.abort(new Error("the machine is here"));
  }

  /** The start of the stream, up to the list of RAM blocks, which QEMU has answered when this resolves. */
  async #greet(saver: StreamSaver, returnPath: ReturnPath): Promise<StreamSaver> {
    saver.command(MIG_CMD.OPEN_RETURN_PATH, new Uint8Array(0));
    saver.command(MIG_CMD.PING, cookieBytes(PING_SETUP));
    await saver.startRam();
    await this.stream!.flush();
    await this.acknowledged(returnPath, PING_SETUP);
    return saver;
  }

  /** QEMU does not say what it misses: it waits for more channels, or drops those that it does not expect. */
  async #hinted<T>(step: () => Promise<T>): Promise<T> {
    try {
      return await step();
    } catch (error) {
      const isLost = !(error instanceof MigrationError) || error.code === "migration.timeout";
      if (!this.capabilities.multifd || !isLost) throw error;
      const { multifdChannels } = this.parameters;
      throw new MigrationError(
        "migration.multifd",
        `${messageOf(error)}: is capability multifd on in the destination, with multifd-channels ${multifdChannels}?`,
        { cause: error },
      );
    }
  }

  protected async ask(): Promise<MigrationResult> {
    if (this.#returnPath !== undefined && this.#returnPath.ended === undefined)
      return await this.#afterEnd(this.#returnPath);
    throw new MigrationError(
      "migration.decide",
      'QEMU cannot be asked what became of the machine: look there, and decide "there" or "here"',
    );
  }
}
