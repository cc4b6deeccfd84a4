// The destination of a live move: loads one machine, then answers RESOLVE. docs/migration.md has the states
// and the action on each failure. It never runs the machine before GO (the end of the stream), and never
// after it has answered `abandoned`.
import { ByteReader } from "../../base/bytes.ts";
import { messageOf } from "../../base/errors.ts";
import { hex } from "../../base/hex.ts";
import type { Machine } from "../../vmm/machine.ts";
import type { Channel } from "../../stream/channel.ts";
import { MigrationError } from "../../stream/migration-error.ts";
import type { StreamCommand } from "../../stream/commands.ts";
import { acceptCommand } from "./qemu-load.ts";
import {
  atMost,
  defaultEnvironment,
  type MigrationEnvironment,
  sleep,
  withTimeout,
} from "../environment/migration-environment.ts";
import { StallWatch, watchReads } from "../environment/stall-watch.ts";
import { StreamLoader } from "./load-stream.ts";
import { MULTIFD_MAGIC } from "../../stream/multifd-packet.ts";
import { foreignPeer } from "../../stream/foreign-peer.ts";
import { HELLO_WAIT_MS, MultifdReceiver } from "../ram/multifd-load.ts";
import { readResolve, type ResolveAnswer, resolveMessage } from "../../stream/resolve.ts";
import { pongMessage, processMessage, shutMessage } from "../../stream/return-path.ts";
import { type Autostart, beginArrival, endArrival, failArrival } from "./arrival.ts";
import { StreamReader } from "../../stream/stream-reader.ts";
import { PING_FINAL, QEMU_VM_FILE_MAGIC, RESOLVE_MAGIC } from "../../stream/wire.ts";

export interface DestinationOptions {
  /** Whether the machine runs once it has arrived. May be changed until then. Default: as at the source. */
  readonly autostart?: Autostart;
  /** How long a destination that lost the connection before GO waits for a RESOLVE. */
  readonly resolveWaitMs?: number;
  /** Number of multifd channels (default 2). With `required`, the source must use multifd. */
  readonly multifd?: { readonly required: boolean; readonly channels: number };
  readonly environment?: MigrationEnvironment;
  /** How long the source may send nothing in its stream; 0: for ever. Called while it is waited for. */
  readonly stallTimeoutMs?: () => number;
  /**
   * The state has changed, or a connection was dropped that was not, or not yet, the machine's: `dropped` is
   * the reason.
   */
  readonly onChange?: (state: DestinationState, dropped?: MigrationError) => void;
}

/** `lost`: all state is loaded, but the connection was lost before GO. */
export type DestinationState = "listening" | "loading" | "ready" | "starting" | "arrived" | "lost" | "failed";

export interface Arrival {
  /** `arrived`: this side owns the machine. `failed`: the machine never runs here. */
  readonly status: "arrived" | "failed";
  readonly error?: MigrationError;
}

/** A connection that begins like a move, until its end. */
interface Connection {
  readonly channel: Channel;
  readonly reader: StreamReader;
  readonly loader: StreamLoader;
  /** The source has opened its return path and waits for SHUT. */
  hasReturnPath: boolean;
  /** Rejects the tasks that wait for data, GO or RESOLVE. */
  abandon: (error: MigrationError) => void;
}

/** Longest wait for a connection's first bytes. */
const FIRST_BYTES_TIMEOUT_MS = 10_000;
const DEFAULT_STALL_TIMEOUT_MS = 30_000;
/** More connections than a source has: the main one and multifd's 255. */
const MAX_UNIDENTIFIED = 512;
/** Codes of errors that end a connection whose source may still exist. */
const LOST: ReadonlySet<string> = new Set(["migration.connection", "migration.cut", "migration.stalled"]);
/** A source that has sent no page for this long gives way to another. */
const SILENT_MS = 2_000;
const LINGER_MS = 2_000;
const SHUT_TIMEOUT_MS = 1_000;
/** The event loop accepts all waiting connections in one turn; the current turn may be past that. */
const ACCEPT_TURNS = 3;
/** QEMU sends the VMDESCRIPTION together with EOF, if at all. */
const VMDESCRIPTION_TIMEOUT_MS = 200;
const ENDING = "this process is ending";
const sourceHangs = () => new MigrationError("migration.timeout", "the source does not read our SHUT");

export class MigrationDestination {
  autostart: Autostart;
  /** Never rejects. */
  readonly done: Promise<Arrival>;
  /**
   * Resolves when no RESOLVE can arrive any more and the listener may close; for a failed destination, after
   * `done`.
   */
  readonly released: Promise<void>;
  readonly #machine: Machine;
  readonly #environment: MigrationEnvironment;
  readonly #resolveWaitMs: number;
  readonly #options: DestinationOptions;
  /** Watches the connections of the move. */
  readonly #watch: StallWatch;
  #multifd: MultifdReceiver;
  /** Connections whose first bytes have not arrived. */
  readonly #unidentified = new Set<Promise<void>>();
  #state: DestinationState = "listening";
  /** The connection whose stream writes this machine's memory, from its list of RAM blocks on. */
  #current: Connection | undefined;
  /** Open connections of the move, and those that are not known to belong to it. */
  readonly #channels = new Set<Channel>();
  /** Closes connections that QEMU leaves open. */
  #lingering: { cancel(): void } | undefined;
  #end: (arrival: Arrival) => void = () => {};
  #release: () => void = () => {};

  constructor(machine: Machine, options: DestinationOptions = {}) {
    this.#machine = machine;
    this.#environment = options.environment ?? defaultEnvironment;
    this.autostart = options.autostart ?? "as-saved";
    this.#resolveWaitMs = options.resolveWaitMs ?? 30_000;
    this.#options = options;
    this.#watch = this.#newWatch();
    this.#multifd = this.#newMultifd();
    this.done = new Promise((resolve) => {
      this.#end = resolve;
    });
    this.released = new Promise((resolve) => {
      this.#release = resolve;
    });
    beginArrival(machine);
  }

  #newWatch(): StallWatch {
    const { stallTimeoutMs = () => DEFAULT_STALL_TIMEOUT_MS } = this.#options;
    return new StallWatch(this.#environment, "source", stallTimeoutMs);
  }

  #newMultifd(): MultifdReceiver {
    const multifd = this.#options.multifd ?? { required: false, channels: 2 };
    const receiver = new MultifdReceiver({
      environment: this.#environment,
      settled: () => this.#settled(),
      ...multifd,
    });
    receiver.failed.catch((error: MigrationError) => this.#current?.abandon(error));
    return receiver;
  }

  get state(): DestinationState {
    return this.#state;
  }

  #become(state: DestinationState): void {
    this.#state = state;
    this.#options.onChange?.(state);
  }

  /** Serves one connection until it ends. Never rejects. */
  async accept(channel: Channel): Promise<void> {
    let watch: StallWatch | undefined;
    const reader = new StreamReader(watchReads(channel, () => watch));
    reader.endAdvice =
      "the source closed the connection: the move was cancelled or the source's process exited";
    this.#makeRoom();
    this.#channels.add(channel);
    try {
      const late = () => new MigrationError("migration.timeout", "the connection sends nothing");
      const greeting = withTimeout(this.#environment, reader.need(4), FIRST_BYTES_TIMEOUT_MS, late);
      this.#unidentified.add(greeting);
      await greeting.finally(() => this.#unidentified.delete(greeting));
      const magic = reader.peekU32();
      if (magic === RESOLVE_MAGIC) {
        const asked = await withTimeout(this.#environment, readResolve(reader), FIRST_BYTES_TIMEOUT_MS, late);
        await this.#answer(channel, asked);
      } else if (magic === QEMU_VM_FILE_MAGIC) {
        const own = this.#newWatch();
        watch = own;
        await this.#receive(channel, reader, () => {
          watch = this.#watch;
        });
        own.stop();
      } else if (magic === MULTIFD_MAGIC && ["listening", "loading"].includes(this.#state)) {
        watch = this.#watch;
        await this.#multifd.accept(channel, reader);
      } else {
        const found = foreignPeer(reader.buffer.subarray(reader.at, reader.end));
        throw new MigrationError("migration.foreign", `expected a migration stream, found ${found}`);
      }
    } catch (error) {
      this.#drop(channel, error as Error);
      if (reader.end > 0) this.#tellDropped(error as MigrationError);
    }
  }

  /** Many silent connections must not take all file descriptors: the oldest goes. */
  #makeRoom(): void {
    if (this.#unidentified.size < MAX_UNIDENTIFIED) return;
    for (const channel of this.#channels) {
      if (channel === this.#current?.channel) continue;
      this.#drop(channel, new MigrationError("migration.connection", "too many connections"));
      return;
    }
  }

  #tellDropped(reason: MigrationError): void {
    this.#options.onChange?.(this.#state, reason);
  }

  #drop(channel: Channel, reason: Error): void {
    channel.abort(reason);
    this.#channels.delete(channel);
  }

  /** Closes all connections. */
  #closeAll(reason: Error): void {
    this.#watch.stop();
    this.#lingering?.cancel();
    for (const channel of this.#channels) this.#drop(channel, reason);
  }

  /**
   * Resolves when all connections made until now have been accepted, and have sent their first bytes or will
   * not.
   */
  async #settled(): Promise<void> {
    for (let turn = 0; turn < ACCEPT_TURNS; turn++) await this.#environment.yieldToEventLoop();
    await atMost(this.#environment, HELLO_WAIT_MS, Promise.allSettled(this.#unidentified));
    await this.#environment.yieldToEventLoop();
  }

  /** Drops a machine that has no GO, and closes all connections. Returns false if it is, or will be, here. */
  giveUp(why: string): boolean {
    if (!["listening", "loading", "ready", "lost"].includes(this.#state)) return false;
    const error = new MigrationError("migration.abandoned", why);
    this.#abandon(error);
    this.#closeAll(error);
    return true;
  }

  /**
   * Called when this process ends: drops a machine that has no GO and closes all connections, even if the
   * source hangs.
   */
  abort(): void {
    if (this.giveUp(ENDING)) return;
    const error = new MigrationError("migration.abandoned", ENDING);
    // A machine that is acquiring its drives must first send its SHUT.
    if (this.#state === "starting") void this.done.then(() => this.#closeAll(error));
    else this.#closeAll(error);
  }

  /** `claimed` is called when the machine is this connection's. */
  async #receive(channel: Channel, reader: StreamReader, claimed: () => void): Promise<void> {
    const loader = new StreamLoader(this.#machine, reader, {
      onCommand: (command) => this.#command(connection, command),
      channels: {
        begin: (targets) => this.#multifd.begin(targets),
        synchronize: (isMarked) => this.#multifd.synchronize(isMarked),
      },
      onRam: async () => {
        await this.#claim(connection);
        claimed();
        if (loader.moveId === undefined || this.#options.multifd?.required !== true) return;
        throw new MigrationError(
          "migration.multifd",
          "this side expects multifd channels, which a move between two Wherrys does not have: " +
            "start it without --multifd",
        );
      },
    });
    let isAbandoned = false;
    let abandon: (error: MigrationError) => void = () => {};
    const abandoned = new Promise<never>((_, reject) => {
      abandon = (error) => {
        isAbandoned = true;
        reject(error);
      };
    });
    abandoned.catch(() => {});
    const connection: Connection = { channel, reader, loader, hasReturnPath: false, abandon };
    try {
      await Promise.race([loader.readState(), abandoned]);
      if (loader.isQemu) {
        await this.#finishQemu(connection, abandoned);
        return;
      }
      loader.apply();
      this.#become("ready");
      await Promise.race([loader.command(), abandoned]);
    } catch (error) {
      // The loader of an abandoned stream may still be at work.
      await this.#refuse(connection, error, !isAbandoned);
      return;
    }
    try {
      await Promise.race([loader.readTrailer(false), abandoned]);
    } catch (error) {
      await this.#lostBeforeGo(connection, error);
      return;
    }
    // A RESOLVE may have been answered after the last byte of GO arrived.
    if (this.#state === "ready") await this.#start(connection);
  }

  /**
   * Gives the machine to a connection whose list of RAM blocks fits it: the first that comes so far, unless
   * it has gone silent before its first page.
   */
  async #claim(connection: Connection): Promise<void> {
    if (this.#current === connection) return;
    if (this.#state === "loading" && this.#current?.loader.isUntouched === true) {
      const why = "it had sent no page, and another source has come";
      this.#watch.giveUp(SILENT_MS, (silent) => new MigrationError("migration.stalled", `${silent}; ${why}`));
      for (let turn = 0; turn < ACCEPT_TURNS; turn++) await this.#environment.yieldToEventLoop();
    }
    if (this.#state !== "listening") {
      const why =
        this.#state === "arrived"
          ? "a machine has already arrived here"
          : this.#state === "failed"
            ? "a load has failed here, and nothing can be loaded any more"
            : "another source is moving its machine here: wait until that has ended";
      throw new MigrationError("migration.busy", `${why}; or start another destination`);
    }
    this.#current = connection;
    this.#become("loading");
  }

  async #command(connection: Connection, { name, data }: StreamCommand): Promise<void> {
    const { channel, reader, loader } = connection;
    if (name === "OPEN_RETURN_PATH") {
      connection.hasReturnPath = true;
      return;
    }
    if (name !== "PING") {
      acceptCommand(reader, name);
      return;
    }
    const cookie = new ByteReader(data).u32();
    const isReady = this.#state === "ready" && this.#current === connection;
    if ((cookie === PING_FINAL) !== isReady) {
      reader.fail("migration.command", `PING ${hex(cookie)} is out of order`);
    }
    // Only a source that sent a move id knows Wherry's own messages.
    const isNamed = cookie !== PING_FINAL && loader.moveId !== undefined;
    const identity = isNamed ? this.#environment.ownIdentity?.() : undefined;
    if (identity !== undefined) await channel.write(processMessage(identity));
    await channel.write(pongMessage(cookie));
  }

  /** Marks the load as failed: the machine never runs here. */
  #fail(cause: unknown): MigrationError {
    const error = failArrival(this.#machine, cause);
    this.#become("failed");
    this.#multifd.close(error);
    return error;
  }

  /**
   * Sends the reason over the return path and closes the connection. The machine goes on waiting for another
   * source if this one has changed nothing.
   */
  async #refuse(connection: Connection, cause: unknown, mayGoOn: boolean): Promise<void> {
    const { channel, loader, hasReturnPath } = connection;
    const isCurrent = this.#current === connection;
    if (isCurrent && this.#state === "failed") return;
    const goesOn = !isCurrent || (mayGoOn && this.#state === "loading" && loader.isUntouched);
    const found = cause instanceof MigrationError ? cause : undefined;
    // Only QEMU's moves, and only those that got so far, have channels.
    const hint = loader.facts.machine === undefined || loader.moveId !== undefined ? "" : this.#multifd.hint;
    const told =
      found === undefined || hint === ""
        ? cause
        : new MigrationError(found.code, found.message + hint, { cause });
    const error = goesOn ? asMigrationError(told) : this.#fail(told);
    if (goesOn) this.#listenAgain(connection, error);
    const isQemu = loader.moveId === undefined;
    const tell = async () => {
      await channel.write(isQemu ? shutMessage(1) : shutMessage(1, error.message));
      await this.#lingerUntilClosed(channel);
    };
    // Without a return path, QEMU notices the failure only when its writes fail: close the connection
    // immediately. If the connection to the source is lost or stalled, no message can be sent.
    if (!isQemu || hasReturnPath) await atMost(this.#environment, LINGER_MS, tell());
    this.#drop(channel, error);
    if (goesOn) return;
    this.#end({ status: "failed", error });
    this.#release();
  }

  /** The channels of a source that was refused must not be taken for the next one's. */
  #listenAgain(connection: Connection, error: MigrationError): void {
    if (this.#current === connection) {
      this.#current = undefined;
      this.#state = "listening";
    }
    if (this.#state === "listening") {
      this.#multifd.close(error);
      this.#multifd = this.#newMultifd();
    }
    this.#tellDropped(error);
  }

  /**
   * The end of QEMU's stream. QEMU sends no GO: it has released its drives, and the machine runs here once
   * everything is read and applied and the drives are acquired. A source with a return path waits for SHUT,
   * and resumes the machine if the connection ends before.
   */
  async #finishQemu(connection: Connection, abandoned: Promise<never>): Promise<void> {
    const { channel, reader, loader, hasReturnPath } = connection;
    const late = hasReturnPath ? sleep(this.#environment, VMDESCRIPTION_TIMEOUT_MS) : undefined;
    await Promise.race([loader.readQemuTrailer(late), abandoned]);
    await this.#multifd.finish();
    let isDisconnected = false;
    if (hasReturnPath) {
      const disconnected = () => {
        isDisconnected = true;
      };
      void (loader.pendingRead ?? reader.more()).then((hasMore) => hasMore || disconnected(), disconnected);
    }
    loader.apply();
    if (this.#state === "failed") return;
    this.#become("starting");
    await this.#machine.activateDrives();
    await this.#environment.yieldToEventLoop();
    if (isDisconnected) {
      await this.#machine.inactivateDrives();
      reader.fail("migration.connection", `the connection was lost; ${reader.endAdvice}`);
    }
    if (hasReturnPath) {
      try {
        await withTimeout(this.#environment, channel.write(shutMessage(0)), SHUT_TIMEOUT_MS, sourceHangs);
      } catch (error) {
        // It must not reach QEMU later, after the machine was dropped here.
        channel.abort(error as Error);
        await this.#machine.inactivateDrives();
        throw error;
      }
    }
    this.#become("arrived");
    this.#machine.startBlocker = undefined;
    channel.close().catch(() => {});
    const over = () => this.#closeAll(new MigrationError("migration.connection", "the move is over"));
    this.#lingering = this.#environment.setTimer(LINGER_MS, over);
    await this.#run(loader);
    this.#release();
  }

  /**
   * Reads until the source closes, up to a limit: closing with unread bytes could destroy our last message.
   */
  async #lingerUntilClosed(channel: Channel): Promise<void> {
    const drain = async () => {
      const sink = new Uint8Array(65536);
      while ((await channel.read(sink)) > 0);
    };
    await withTimeout(this.#environment, drain(), LINGER_MS, () => new Error("the source does not close"));
  }

  /** The stream ended after the final PONG and before GO. */
  async #lostBeforeGo(connection: Connection, cause: unknown): Promise<void> {
    if (this.#state === "failed") return;
    const isLost = cause instanceof MigrationError && LOST.has(cause.code);
    if (!isLost) {
      await this.#refuse(connection, cause, false);
      return;
    }
    connection.channel.abort(cause);
    this.#become("lost");
    const timer = this.#environment.setTimer(this.#resolveWaitMs, () => this.#abandon(cause));
    await this.released;
    timer.cancel();
  }

  /** Drops the machine for ever. */
  #abandon(cause: unknown): void {
    const error = this.#fail(cause);
    this.#current?.abandon(error);
    this.#current?.channel.abort(error);
    this.#end({ status: "failed", error });
    this.#release();
  }

  /** After GO: acquires the drives, sends SHUT, starts the machine. */
  async #start(connection: Connection): Promise<void> {
    const machine = this.#machine;
    const { channel } = connection;
    this.#become("starting");
    try {
      await machine.activateDrives();
    } catch (error) {
      await this.#refuse(connection, error, false);
      return;
    }
    this.#become("arrived");
    machine.startBlocker = undefined;
    try {
      // SHUT is sent before the machine starts, so the source learns of it even if this process dies now.
      await withTimeout(this.#environment, channel.write(shutMessage(0)), SHUT_TIMEOUT_MS, sourceHangs);
    } catch {
      // The source will send RESOLVE.
    }
    await this.#run(connection.loader);
    await this.#watchSource(channel);
  }

  /** This side owns the machine: restores its run state from the source. */
  async #run({ runState }: StreamLoader): Promise<void> {
    let error: MigrationError | undefined;
    try {
      await endArrival(this.#machine, runState, this.autostart);
    } catch (cause) {
      const why = `the machine has arrived but cannot be started: ${messageOf(cause)}`;
      error = new MigrationError("migration.start", why, { cause });
    }
    this.#end(error === undefined ? { status: "arrived" } : { status: "arrived", error });
  }

  /** Waits for the source's orderly close, which confirms that it received SHUT. */
  async #watchSource(channel: Channel): Promise<void> {
    try {
      if ((await channel.read(new Uint8Array(1))) === 0) {
        await channel.close();
        this.#release();
        return;
      }
    } catch {
      // The connection was lost: the source will send RESOLVE.
    }
    channel.abort(new Error("the source disconnected"));
  }

  async #answer(channel: Channel, asked: Uint8Array): Promise<void> {
    const id = this.#current?.loader.moveId;
    let answer: ResolveAnswer = "unknown";
    if (id !== undefined && id.length === asked.length && id.every((byte, i) => byte === asked[i])) {
      if (this.#state === "starting") await this.#started();
      if (this.#state === "arrived") {
        answer = "running";
      } else {
        answer = "abandoned";
        if (this.#state !== "failed") {
          this.#abandon(new MigrationError("migration.abandoned", "the source resumed the machine"));
        }
      }
    }
    await channel.write(resolveMessage(answer));
    await channel.close();
    await this.#lingerUntilClosed(channel).catch(() => {});
    this.#drop(channel, new Error("answered"));
    if (answer === "running") this.#release();
  }

  async #started(): Promise<void> {
    while (this.#state === "starting") await this.#environment.yieldToEventLoop();
  }
}

function asMigrationError(cause: unknown): MigrationError {
  if (cause instanceof MigrationError) return cause;
  return new MigrationError("migration.load", messageOf(cause), { cause });
}
