// The destination of a live move: loads one machine, then answers RESOLVE. docs/migration.md has the states
// and the action on each failure. It never runs the machine before GO (the end of the stream), and never
// after it has answered `abandoned`.
import { ByteReader } from "../../base/bytes.ts";
import { hex } from "../../base/hex.ts";
import type { Machine } from "../../vmm/machine.ts";
import type { Channel } from "../../stream/channel.ts";
import { MigrationError } from "../../stream/migration-error.ts";
import type { StreamCommand } from "../../stream/commands.ts";
import { acceptCommand } from "./qemu-load.ts";
import {
  defaultEnvironment,
  type MigrationEnvironment,
  sleep,
  withTimeout,
} from "../environment/migration-environment.ts";
import { StreamLoader } from "./load-stream.ts";
import { MULTIFD_MAGIC } from "../../stream/multifd-packet.ts";
import { MultifdReceiver } from "../ram/multifd-load.ts";
import { readResolve, type ResolveAnswer, resolveMessage } from "../../stream/resolve.ts";
import { pongMessage, processMessage, shutMessage } from "../../stream/return-path.ts";
import { beginArrival, failArrival } from "./arrival.ts";
import { StreamReader } from "../../stream/stream-reader.ts";
import { PING_FINAL, QEMU_VM_FILE_MAGIC, RESOLVE_MAGIC } from "../../stream/wire.ts";

export interface DestinationOptions {
  /**
   * Whether a machine that ran at the source starts here immediately. May be changed until it has arrived.
   */
  readonly autostart?: boolean;
  /** How long a destination that lost the connection before GO waits for a RESOLVE. */
  readonly resolveWaitMs?: number;
  /** Number of multifd channels (default 2). With `required`, the source must use multifd. */
  readonly multifd?: { readonly required: boolean; readonly channels: number };
  readonly environment?: MigrationEnvironment;
}

/** `lost`: all state is loaded, but the connection was lost before GO. */
export type DestinationState = "listening" | "loading" | "ready" | "starting" | "arrived" | "lost" | "failed";

export interface Arrival {
  /** `arrived`: this side owns the machine. `failed`: the machine never runs here. */
  readonly status: "arrived" | "failed";
  readonly error?: MigrationError;
}

/** Longest wait for a connection's first bytes. */
const FIRST_BYTES_TIMEOUT_MS = 10_000;
const LINGER_MS = 2_000;
const SHUT_TIMEOUT_MS = 1_000;
/** The event loop accepts all waiting connections in one turn; the current turn may be past that. */
const ACCEPT_TURNS = 3;
/** QEMU sends the VMDESCRIPTION together with EOF, if at all. */
const VMDESCRIPTION_TIMEOUT_MS = 200;
const sourceHangs = () => new MigrationError("migration.timeout", "the source does not read our SHUT");

export class MigrationDestination {
  autostart: boolean;
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
  readonly #multifd: MultifdReceiver;
  /** Connections whose first bytes have not arrived. */
  readonly #unidentified = new Set<Promise<void>>();
  #state: DestinationState = "listening";
  #channel: Channel | undefined;
  /** Open connections of the move, and those whose first bytes have not arrived. */
  readonly #channels = new Set<Channel>();
  /** Closes connections that QEMU leaves open. */
  #lingering: { cancel(): void } | undefined;
  #loader: StreamLoader | undefined;
  /** The source has opened its return path and waits for SHUT. */
  #hasReturnPath = false;
  #end: (arrival: Arrival) => void = () => {};
  #release: () => void = () => {};
  /** Rejects the tasks that wait for GO or RESOLVE. */
  #abandoned: (error: MigrationError) => void = () => {};

  constructor(machine: Machine, options: DestinationOptions = {}) {
    this.#machine = machine;
    this.#environment = options.environment ?? defaultEnvironment;
    this.autostart = options.autostart ?? true;
    this.#resolveWaitMs = options.resolveWaitMs ?? 30_000;
    const multifd = options.multifd ?? { required: false, channels: 2 };
    this.#multifd = new MultifdReceiver({
      environment: this.#environment,
      settled: () => this.#settled(),
      ...multifd,
    });
    // The source may abort before it has sent anything on its main channel.
    this.#multifd.failed.catch((error: unknown) => {
      if (this.#state === "listening") this.#abandon(error);
    });
    this.done = new Promise((resolve) => {
      this.#end = resolve;
    });
    this.released = new Promise((resolve) => {
      this.#release = resolve;
    });
    beginArrival(machine);
  }

  get state(): DestinationState {
    return this.#state;
  }

  /** Serves one connection until it ends. Never rejects. */
  async accept(channel: Channel): Promise<void> {
    const reader = new StreamReader(channel);
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
      } else if (magic === QEMU_VM_FILE_MAGIC && this.#state === "listening") {
        this.#channel = channel;
        this.#state = "loading";
        await this.#receive(channel, reader);
      } else if (magic === MULTIFD_MAGIC && ["listening", "loading"].includes(this.#state)) {
        await this.#multifd.accept(channel, reader);
      } else {
        this.#drop(channel, new Error("not a stream for this machine"));
      }
    } catch (error) {
      this.#drop(channel, error as Error);
    }
  }

  #drop(channel: Channel, reason: Error): void {
    channel.abort(reason);
    this.#channels.delete(channel);
  }

  /** Closes all connections. */
  #closeAll(reason: Error): void {
    this.#lingering?.cancel();
    for (const channel of this.#channels) this.#drop(channel, reason);
  }

  /**
   * Resolves when all connections made until now have been accepted and have sent their first bytes (or timed
   * out).
   */
  async #settled(): Promise<void> {
    for (let turn = 0; turn < ACCEPT_TURNS; turn++) await this.#environment.yieldToEventLoop();
    await Promise.allSettled(this.#unidentified);
    await this.#environment.yieldToEventLoop();
  }

  /**
   * Called when this process ends: drops a machine that has no GO and closes all connections, even if the
   * source hangs.
   */
  abort(): void {
    const error = new MigrationError("migration.abandoned", "this process is ending");
    if (["listening", "loading", "ready", "lost"].includes(this.#state)) this.#abandon(error);
    // A machine that is acquiring its drives must first send its SHUT.
    if (this.#state === "starting") void this.done.then(() => this.#closeAll(error));
    else this.#closeAll(error);
  }

  async #receive(channel: Channel, reader: StreamReader): Promise<void> {
    reader.endAdvice =
      "the source closed the connection: the move was cancelled or the source's process exited";
    const loader = new StreamLoader(
      this.#machine,
      reader,
      (command) => this.#command(channel, reader, command),
      this.#multifd,
    );
    this.#loader = loader;
    const abandoned = new Promise<never>((_, reject) => {
      this.#abandoned = reject;
    });
    abandoned.catch(() => {});
    try {
      await Promise.race([loader.readState(), abandoned, this.#multifd.failed]);
      if (loader.isQemu) {
        await this.#finishQemu(channel, reader, loader, abandoned);
        return;
      }
      loader.apply();
      this.#state = "ready";
      await Promise.race([loader.command(), abandoned]);
    } catch (error) {
      await this.#refuse(channel, error);
      return;
    }
    try {
      await Promise.race([loader.readTrailer(false), abandoned]);
    } catch (error) {
      await this.#lostBeforeGo(channel, error);
      return;
    }
    // A RESOLVE may have been answered after the last byte of GO arrived.
    if (this.#state === "ready") await this.#start(channel);
  }

  async #command(channel: Channel, reader: StreamReader, { name, data }: StreamCommand): Promise<void> {
    if (name === "OPEN_RETURN_PATH") {
      this.#hasReturnPath = true;
      return;
    }
    if (name !== "PING") {
      acceptCommand(reader, name);
      return;
    }
    const cookie = new ByteReader(data).u32();
    if ((cookie === PING_FINAL) !== (this.#state === "ready")) {
      reader.fail("migration.command", `PING ${hex(cookie)} is out of order`);
    }
    // Only a source that sent a move id knows Wherry's own messages.
    const isNamed = cookie !== PING_FINAL && this.#loader?.moveId !== undefined;
    const identity = isNamed ? this.#environment.ownIdentity?.() : undefined;
    if (identity !== undefined) await channel.write(processMessage(identity));
    await channel.write(pongMessage(cookie));
  }

  /** Marks the load as failed: the machine never runs here. */
  #fail(cause: unknown): MigrationError {
    const error = failArrival(this.#machine, cause);
    this.#state = "failed";
    this.#multifd.close(error);
    return error;
  }

  /** Sends the reason over the return path and closes the connection. */
  async #refuse(channel: Channel, cause: unknown): Promise<void> {
    if (this.#state === "failed") return;
    const error = this.#fail(cause);
    const isQemu = this.#loader?.moveId === undefined;
    try {
      // Without a return path, QEMU notices the failure only when its writes fail: close the connection
      // immediately.
      if (!isQemu || this.#hasReturnPath) {
        await channel.write(isQemu ? shutMessage(1) : shutMessage(1, error.message));
        await this.#lingerUntilClosed(channel);
      }
    } catch {
      // The connection to the source is lost: no message can be sent.
    }
    channel.abort(error);
    this.#end({ status: "failed", error });
    this.#release();
  }

  /**
   * The end of QEMU's stream. QEMU sends no GO: it has released its drives, and the machine runs here once
   * everything is read and applied and the drives are acquired. A source with a return path waits for SHUT,
   * and resumes the machine if the connection ends before.
   */
  async #finishQemu(
    channel: Channel,
    reader: StreamReader,
    loader: StreamLoader,
    abandoned: Promise<never>,
  ): Promise<void> {
    const late = this.#hasReturnPath ? sleep(this.#environment, VMDESCRIPTION_TIMEOUT_MS) : undefined;
    await Promise.race([loader.readQemuTrailer(late), abandoned]);
    await this.#multifd.finish();
    let isDisconnected = false;
    if (this.#hasReturnPath) {
      const disconnected = () => {
        isDisconnected = true;
      };
      void (loader.pendingRead ?? reader.more()).then((hasMore) => hasMore || disconnected(), disconnected);
    }
    loader.apply();
    if (this.#state === "failed") return;
    this.#state = "starting";
    await this.#machine.activateDrives();
    await this.#environment.yieldToEventLoop();
    if (isDisconnected) {
      await this.#machine.inactivateDrives();
      reader.fail("migration.connection", `the connection was lost; ${reader.endAdvice}`);
    }
    if (this.#hasReturnPath) {
      try {
        await withTimeout(this.#environment, channel.write(shutMessage(0)), SHUT_TIMEOUT_MS, sourceHangs);
      } catch (error) {
        // It must not reach QEMU later, after the machine was dropped here.
        channel.abort(error as Error);
        await this.#machine.inactivateDrives();
        throw error;
      }
    }
    this.#state = "arrived";
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
  async #lostBeforeGo(channel: Channel, cause: unknown): Promise<void> {
    if (this.#state === "failed") return;
    const isLost =
      cause instanceof MigrationError && ["migration.connection", "migration.cut"].includes(cause.code);
    if (!isLost) {
      await this.#refuse(channel, cause);
      return;
    }
    channel.abort(cause);
    this.#state = "lost";
    const timer = this.#environment.setTimer(this.#resolveWaitMs, () => this.#abandon(cause));
    await this.released;
    timer.cancel();
  }

  /** Drops the machine for ever. */
  #abandon(cause: unknown): void {
    const error = this.#fail(cause);
    this.#abandoned(error);
    this.#channel?.abort(error);
    this.#end({ status: "failed", error });
    this.#release();
  }

  /** After GO: acquires the drives, sends SHUT, starts the machine. */
  async #start(channel: Channel): Promise<void> {
    const machine = this.#machine;
    this.#state = "starting";
    try {
      await machine.activateDrives();
    } catch (error) {
      await this.#refuse(channel, error);
      return;
    }
    this.#state = "arrived";
    machine.startBlocker = undefined;
    try {
      // SHUT is sent before the machine starts, so the source learns of it even if this process dies now.
      await withTimeout(this.#environment, channel.write(shutMessage(0)), SHUT_TIMEOUT_MS, sourceHangs);
    } catch {
      // The source will send RESOLVE.
    }
    await this.#run(this.#loader!);
    await this.#watchSource(channel);
  }

  /** This side owns the machine: restores its run state from the source. */
  async #run({ runState }: StreamLoader): Promise<void> {
    const machine = this.#machine;
    let error: MigrationError | undefined;
    try {
      if (runState === "running" && this.autostart) await machine.start();
      else machine.runState.set(runState === "running" || runState === "io-error" ? "paused" : runState);
    } catch (cause) {
      error = new MigrationError("migration.start", "the machine has arrived but cannot be started", {
        cause,
      });
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
    const id = this.#loader?.moveId;
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
