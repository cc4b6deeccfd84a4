// The source of a move as QEMU makes one, for those who do not speak Wherry's own protocol: a QEMU that listens at a
// socket (with its return path), a file, a command's standard input. There is no GO that QEMU waits for: the end of the
// stream starts the machine there, so all that can fail is asked for before it. docs/migration.md has the states.
import { messageOf } from "../../base/errors.ts";
import type { Machine } from "../../vmm/machine.ts";
import type { StreamProfile } from "../../vmm/qemu-profile.ts";
import type { Channel, SnapshotSink } from "../../stream/channel.ts";
import { MigrationError } from "../../stream/migration-error.ts";
import { withTimeout } from "../environment/migration-environment.ts";
import {
  type MigrationOptions,
  type MigrationResult,
  MOVED,
  OutgoingMove,
  type RamCapabilities,
} from "./outgoing-move.ts";
import type { PageSet } from "../ram/ram-save.ts";
import { ReturnPath } from "../../stream/return-path.ts";
import { cookieBytes, type StreamForm, StreamSaver } from "./save-stream.ts";
import { refuseToSave } from "./stop-to-save.ts";
import type { StreamWriter } from "../../stream/stream-writer.ts";
import { MIG_CMD, PING_FINAL, PING_SETUP, QEMU_VM } from "../../stream/wire.ts";

/** Where the stream goes. */
export type TradeTarget =
  /** A QEMU that listens. `connect` may throw ConnectError. */
  | { readonly kind: "socket"; readonly connect: () => Promise<Channel> }
  /** The machine may be started here again, by its user, once the file is complete. */
  | { readonly kind: "file"; readonly open: () => Promise<SnapshotSink> }
  /** Whoever is behind the command has the machine once it has got the whole stream. `commit` waits for its end. */
  | { readonly kind: "command"; readonly open: () => Promise<SnapshotSink> };

const QEMU_GAVE_UP = "QEMU has given up or its process has ended; its own messages say why";

/** Rejects with MigrationError if the machine, as it is, cannot be what the profile's release loads. */
export async function refuseToTrade(profile: StreamProfile): Promise<void> {
  const refusals = await profile.refusals();
  if (refusals.length === 0) return;
  const reasons = refusals.map(({ message, cure }) => `${message}: ${cure}`).join("; ");
  throw new MigrationError("migration.trade", `the machine cannot go to ${profile.name}: ${reasons}`);
}

/** Starts a move to `target` with the stream of `profile`'s release, or in Wherry's own form (not to a socket). */
export class TradeSource extends OutgoingMove {
  readonly #target: TradeTarget;
  readonly #profile: StreamProfile | undefined;
  readonly #capabilities: RamCapabilities;
  #sink: SnapshotSink | undefined;
  /** Of a QEMU that was given the end of the stream. */
  #returnPath: ReturnPath | undefined;
  /** The end of the stream was written to its last byte. */
  #isWhole = false;
  /** Whether the command has come to a good end. */
  #commandEnd: Promise<void> | undefined;

  constructor(
    machine: Machine,
    target: TradeTarget,
    profile: StreamProfile | undefined,
    options: MigrationOptions,
  ) {
    super(machine, options);
    this.#target = target;
    this.#profile = profile;
    this.#capabilities = options.capabilities ?? { multifd: false, mappedRam: false };
  }

  protected async run(): Promise<MigrationResult> {
    const target = this.#target;
    try {
      refuseToSave(this.machine);
      if (this.#profile !== undefined) await refuseToTrade(this.#profile);
      this.checkOn(undefined);
      if (target.kind === "socket") return await this.#toSocket(target.connect);
      return await this.#toSink(target.kind, target.open);
    } catch (error) {
      await this.#sink?.discard();
      return await this.failed(error);
    }
  }

  async #toSocket(connect: () => Promise<Channel>): Promise<MigrationResult> {
    const channel = await this.unlessCancelled(connect(), (late) => late.abort(new Error("too late")));
    const returnPath = new ReturnPath(channel, QEMU_GAVE_UP);
    const stream = this.openStream(channel, returnPath);
    const saver = await this.#hinted(async () => {
      const channels = this.#capabilities.multifd ? await this.openChannels(connect) : undefined;
      const begun = await this.#greet(this.#begin(stream, { channels }), returnPath);
      this.setUp();
      await this.#send(begun, returnPath);
      return begun;
    });
    // QEMU answers a PING in its turn: its PONG says that all before it was loaded.
    saver.command(MIG_CMD.PING, cookieBytes(PING_FINAL));
    await this.stream!.drain();
    await this.acknowledged(returnPath, PING_FINAL);
    await this.letGo(() => this.checkOn(returnPath));
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
      return this.#doubt(
        `QEMU was given the whole machine and did not say that it runs (${messageOf(error)})`,
      );
    }
    // QEMU also says so when it runs and only the VMDESCRIPTION has not come whole.
    if (code !== 0 && !this.#isWhole)
      return this.#doubt(`QEMU was given the machine by a connection that broke, and says error ${code}`);
    if (code !== 0) return await this.back("failed", returnPath.ended);
    await this.channels?.close();
    await this.channel?.close().catch(() => {});
    return this.complete(MOVED);
  }

  /** A QEMU that has the machine or may yet say so is not listened to any more. */
  protected override takenBack(): void {
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
      if (!this.#capabilities.multifd || !isLost) throw error;
      const { multifdChannels } = this.parameters;
      throw new MigrationError(
        "migration.multifd",
        `${messageOf(error)}: is capability multifd on in the destination, with multifd-channels ${multifdChannels}?`,
        { cause: error },
      );
    }
  }

  async #toSink(kind: "file" | "command", open: () => Promise<SnapshotSink>): Promise<MigrationResult> {
    const sink = await this.unlessCancelled(open(), (late) => void late.discard());
    this.#sink = sink;
    const stream = this.openStream(sink.channel, undefined);
    const saver = this.#begin(stream, { isMappedRam: this.#capabilities.mappedRam });
    await saver.startRam();
    this.setUp();
    await this.#send(saver, undefined);
    await stream.drain();
    await this.letGo(() => this.checkOn(undefined));
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
      await withTimeout(this.host, end, ms, late);
    } catch (error) {
      return this.#doubt(
        `the command was given the whole machine and did not end well (${messageOf(error)})`,
      );
    }
    return this.complete(MOVED);
  }

  #begin(stream: StreamWriter, form: StreamForm): StreamSaver {
    const saver = new StreamSaver(this.machine, stream, this.host, { ...form, profile: this.#profile });
    this.ram = saver.ram;
    saver.header();
    return saver;
  }

  /** All but the end. */
  async #send(saver: StreamSaver, returnPath: ReturnPath | undefined): Promise<void> {
    const check = () => this.checkOn(returnPath);
    const pending: PageSet = await this.precopy(saver.ram, returnPath);
    check();
    // The guest has gone on: it may use something by now that cannot go there.
    if (this.#profile !== undefined) await refuseToTrade(this.#profile);
    const before = await this.stopGuest(pending);
    if (this.#profile?.switchoverStart === true) saver.command(MIG_CMD.SWITCHOVER_START, new Uint8Array(0));
    await saver.ram.pages(QEMU_VM.SECTION_END, pending, check);
    await this.machine.cpus.synchronizeAllStates();
    await saver.devices(before);
  }

  #doubt(what: string): MigrationResult {
    this.machine.startBlocker = `${what}: the machine may run there`;
    return this.unresolved(
      `${what}. The machine is stopped here and may run there. Look there (QEMU: query-status): if it runs, ` +
        `decide "there"; only if it is certain that it does not and will not run there, decide "here"`,
    );
  }

  protected async ask(): Promise<MigrationResult> {
    if (this.#commandEnd !== undefined) return await this.#afterCommand(this.#commandEnd);
    if (this.#returnPath !== undefined && this.#returnPath.ended === undefined)
      return await this.#afterEnd(this.#returnPath);
    throw new MigrationError(
      "migration.decide",
      'QEMU cannot be asked what became of the machine: look there, and decide "there" or "here"',
    );
  }
}
