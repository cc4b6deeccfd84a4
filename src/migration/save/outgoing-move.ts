// The common part of all outgoing moves: status, progress, cancel, precopy rounds, stopping the guest, and
// resuming it after a failure. move-source.ts implements Wherry's own protocol, move-without-go.ts the
// others. docs/migration.md has the states and the action on each failure.
import { messageOf } from "../../base/errors.ts";
import { PAGE_SIZE } from "../../memory/guest-memory.ts";
import type { Machine } from "../../vmm/machine.ts";
import type { RunState } from "../../vmm/run-state.ts";
import type { Channel } from "../../stream/channel.ts";
import { MigrationError } from "../../stream/migration-error.ts";
import {
  defaultEnvironment,
  type MigrationEnvironment,
  withTimeout,
} from "../environment/migration-environment.ts";
import { StallWatch, watchWrites } from "../environment/stall-watch.ts";
import { MultifdSender } from "../ram/multifd-save.ts";
import { Bandwidth, Convergence, type MigrationProgress, type MigrationStatus } from "./move-progress.ts";
import { addPages, allPages, countPages, type PageSet, type RamWriter } from "../ram/ram-save.ts";
import { RateLimiter } from "./rate-limit.ts";
import type { ReturnPath } from "../../stream/return-path.ts";
import { resumeAs, refuseToSave, stopFor } from "./stop-to-save.ts";
import { type Pace, StreamWriter } from "../../stream/stream-writer.ts";
import { QEMU_VM } from "../../stream/wire.ts";

/** Parameters; they may be changed during the move. */
export interface MigrationParameters {
  /** Longest time that the guest may be stopped for the switchover. */
  downtimeLimitMs: number;
  /** While the guest runs; 0 means no limit. */
  maxBandwidthBytesPerSecond: number;
  /**
   * How long the other side may stand still (0: for ever): at the source, accept no data or not reply before
   * GO, after which the machine resumes here; at the destination, send nothing in the stream.
   */
  stallTimeoutMs: number;
  /** How long the source waits after GO for the destination's SHUT before it sends RESOLVE. */
  startTimeoutMs: number;
  /** How long the source repeats RESOLVE before the user has to decide. */
  resolveTimeoutMs: number;
  /** Rounds without progress before the move reports that it does not converge. It continues. */
  patienceRounds: number;
  /** Number of multifd channels, which must be equal on both sides. The main channel does not count. */
  multifdChannels: number;
  multifdCompression: "none" | "zlib" | "zstd";
}

/** Capabilities multifd and mapped-ram, for QEMU's streams only. */
export interface RamCapabilities {
  /** Pages are sent over several channels. */
  readonly multifd: boolean;
  /** Each page has a fixed offset in the file. */
  readonly mappedRam: boolean;
}

/** QEMU's defaults, where QEMU has the parameter. */
export const defaultParameters: Readonly<MigrationParameters> = {
  downtimeLimitMs: 300,
  maxBandwidthBytesPerSecond: 128 * 1024 * 1024,
  stallTimeoutMs: 30_000,
  startTimeoutMs: 10_000,
  resolveTimeoutMs: 10_000,
  patienceRounds: 2,
  multifdChannels: 2,
  multifdCompression: "none",
};

export type MigrationChange =
  | { readonly event: "status"; readonly status: MigrationStatus }
  | { readonly event: "pass"; readonly pass: number };

export interface MigrationResult {
  /**
   * `completed`: the machine runs at the destination. `failed`, `cancelled`: it resumed here. `unresolved`:
   * it is stopped here, and the user must decide.
   */
  readonly status: "completed" | "failed" | "cancelled" | "unresolved";
  readonly error?: MigrationError;
}

export interface MigrationOptions {
  readonly parameters?: MigrationParameters;
  readonly environment?: MigrationEnvironment;
  readonly onChange?: (change: MigrationChange) => void;
  /** Default: none. */
  readonly capabilities?: RamCapabilities;
}

/** Most that is sent at once, as time at max-bandwidth. */
const PIECE_SECONDS = 0.5;
/** A destination that has stood still for this long is reported. */
const STALL_REPORT_MS = 3_000;

/** Start blocker of a machine that was moved. */
export const MOVED = "the machine was moved and runs at its destination: it must not run here again";

export class Cancelled extends MigrationError {
  constructor() {
    super("migration.cancelled", "the move was cancelled; the machine resumed here");
  }
}

export abstract class OutgoingMove {
  readonly parameters: MigrationParameters;
  /** Never rejects. */
  readonly done: Promise<MigrationResult>;
  protected readonly machine: Machine;
  protected readonly environment: MigrationEnvironment;
  protected channel: Channel | undefined;
  protected stream: StreamWriter | undefined;
  protected ram: RamWriter | undefined;
  /** The multifd channels, if used. */
  protected channels: MultifdSender | undefined;
  /** The end of the stream was sent, at least in part: from now on only the destination knows the outcome. */
  protected committed = false;
  /** Reason of a failed or unresolved move. */
  protected error: MigrationError | undefined;
  readonly #onChange: (change: MigrationChange) => void;
  readonly #startedMs: number;
  readonly #totalBytes: number;
  #status: MigrationStatus = "setup";
  #cancelled = false;
  #isDeciding = false;
  readonly #watch: StallWatch;
  /** When the move is cancelled, rejects all waits for the destination. */
  #interrupt: (error: Error) => void = () => {};
  readonly #interrupted: Promise<never>;
  /** Run state before the guest was stopped for the switchover. */
  #before: RunState | undefined;
  #bandwidth: Bandwidth;
  #rounds = 0;
  #remainingPages = 0;
  #dirtyPagesPerMs = 0;
  #precopyBytes: number | undefined;
  #setupMs: number | undefined;
  #expectedDowntimeMs: number | undefined;
  #stoppedAtMs: number | undefined;
  #downtimeMs: number | undefined;
  #totalMs: number | undefined;
  #advice: string | undefined;
  #pace: Pace = (bytes) => Promise.resolve(bytes);

  constructor(machine: Machine, options: MigrationOptions) {
    this.parameters = options.parameters ?? { ...defaultParameters };
    this.machine = machine;
    this.environment = options.environment ?? defaultEnvironment;
    this.#onChange = options.onChange ?? (() => {});
    this.#watch = new StallWatch(this.environment, "destination", () =>
      this.committed ? this.parameters.startTimeoutMs : this.parameters.stallTimeoutMs,
    );
    this.#startedMs = this.environment.nowMs();
    this.#bandwidth = new Bandwidth(this.#startedMs);
    this.#remainingPages = countPages(allPages(machine.memory));
    this.#totalBytes = machine.memory.blocks.reduce((sum, block) => sum + block.size, 0);
    this.#interrupted = new Promise((_, reject) => {
      this.#interrupt = reject;
    });
    this.#interrupted.catch(() => {});
    // The constructor's caller gets the object before the move starts.
    this.done = Promise.resolve().then(() => this.run());
  }

  /** The whole move. Never rejects. */
  protected abstract run(): Promise<MigrationResult>;

  /** Called when the machine has resumed here. */
  protected onResumed(): void {}

  protected get cancelled(): boolean {
    return this.#cancelled;
  }

  /**
   * Aborts; the machine resumes here. Returns false if it is too late: the move has ended, or the destination
   * has been told to run.
   */
  cancel(): boolean {
    if (this.committed || !["setup", "active", "device", "cancelling"].includes(this.#status)) return false;
    this.#cancelled = true;
    this.setStatus("cancelling");
    const error = new Cancelled();
    this.#interrupt(error);
    this.channel?.abort(error);
    this.channels?.abort(error);
    return true;
  }

  /**
   * The user's decision on an unresolved move: the machine runs `there`, or it is certain not to run there
   * and resumes `here`; `ask` sends the request to the destination again. Resolves to the new outcome.
   */
  async decide(answer: "there" | "here" | "ask"): Promise<MigrationResult> {
    if (this.#status !== "unresolved") {
      throw new MigrationError("migration.decide", `nothing to decide: the move is ${this.#status}`);
    }
    // Two concurrent answers could both take effect: the machine would run on both sides.
    if (this.#isDeciding) {
      throw new MigrationError(
        "migration.decide",
        "a request to the destination is pending: wait for its answer",
      );
    }
    this.#isDeciding = true;
    try {
      if (answer === "there") return this.complete(MOVED);
      if (answer === "here") return await this.resumeHere("failed", this.error);
      return await this.queryOutcome();
    } finally {
      this.#isDeciding = false;
    }
  }

  /** Asks the destination for the outcome once more. Rejects if that is impossible. */
  protected abstract queryOutcome(): Promise<MigrationResult>;

  get progress(): MigrationProgress {
    const now = this.environment.nowMs();
    const taken = this.#acceptedBytes;
    const rate = this.#bandwidth.at(now, taken);
    const normalPages = this.ram?.normalPages ?? 0;
    const zeroPages = this.ram?.zeroPages ?? 0;
    const elapsed = this.#totalMs ?? now - this.#startedMs;
    const ended = this.#status === "completed";
    return {
      status: this.#status,
      totalBytes: this.#totalBytes,
      transferredBytes: taken,
      multifdBytes: this.channels?.acceptedBytes ?? 0,
      remainingBytes: ended ? 0 : (this.#remainingPages + (this.ram?.pagesLeft ?? 0)) * PAGE_SIZE,
      normalPages,
      zeroPages,
      rounds: this.#rounds,
      dirtyPagesPerSecond: this.#dirtyPagesPerMs * 1000,
      megabitsPerSecond: (rate * 8) / 1000,
      pagesPerSecond: ((normalPages + zeroPages) * 1000) / Math.max(elapsed, 1),
      precopyBytes: this.#precopyBytes ?? taken,
      downtimeBytes: this.#precopyBytes === undefined ? 0 : taken - this.#precopyBytes,
      totalTimeMs: elapsed,
      setupTimeMs: this.#setupMs,
      expectedDowntimeMs: this.#expectedDowntimeMs,
      downtimeMs: this.#downtimeMs,
      error: this.error?.message,
      advice: this.#stall ?? this.#advice,
    };
  }

  /** What a user should know of a destination that stands still. */
  get #stall(): string | undefined {
    const what = this.#watch.report(STALL_REPORT_MS);
    if (what === undefined) return undefined;
    const guest = this.#stoppedAtMs === undefined ? "runs on here" : "is stopped";
    const limitMs = this.parameters.stallTimeoutMs;
    const end = this.committed || limitMs === 0 ? "" : `; after ${limitMs / 1000} s the move fails`;
    return `${what}; the guest ${guest} meanwhile${end}`;
  }

  /** Bytes that all channels have accepted. */
  get #acceptedBytes(): number {
    return (this.stream?.acceptedBytes ?? 0) + (this.channels?.acceptedBytes ?? 0);
  }

  protected setStatus(status: MigrationStatus): void {
    if (status === this.#status) return;
    this.#status = status;
    this.#onChange({ event: "status", status });
  }

  /**
   * Settles as `connecting` does, or rejects when the move is cancelled. `drop` then receives a late result.
   */
  protected async unlessCancelled<T>(connecting: Promise<T>, drop: (late: T) => void): Promise<T> {
    connecting.then(
      (late) => this.#cancelled && drop(late),
      () => {},
    );
    return await Promise.race([connecting, this.#interrupted]);
  }

  /** Throws if the move was cancelled or the destination has ended it. */
  protected throwIfEnded(returnPath: ReturnPath | undefined): void {
    if (this.#cancelled) throw new Cancelled();
    returnPath?.check();
  }

  protected async acknowledged(returnPath: ReturnPath, cookie: number): Promise<void> {
    const answer = this.#watch.during(returnPath.pong(cookie), "has not answered");
    await Promise.race([answer, this.#interrupted]);
    this.throwIfEnded(returnPath);
  }

  /** Resolves to the code of the destination's SHUT. Rejects if it is late or the connection is lost. */
  protected shut(returnPath: ReturnPath): Promise<number> {
    const ms = this.parameters.startTimeoutMs;
    const text = `the destination did not confirm within ${ms} ms that the machine runs`;
    return withTimeout(
      this.environment,
      returnPath.shut,
      ms,
      () => new MigrationError("migration.timeout", text),
    );
  }

  /**
   * Opens a stream on `channel`, with the rate limit while the guest runs. Writes are watched, except to a
   * file: a slow disk is no peer.
   */
  protected openStream(channel: Channel, returnPath: ReturnPath | undefined): StreamWriter {
    this.channel = channel;
    const watched = channel.writeAt === undefined ? watchWrites(channel, this.#watch) : channel;
    const limiter = new RateLimiter(this.environment);
    this.#pace = async (bytes) => {
      // No limit in the set-up, and once the guest is stopped, as in QEMU.
      const isLimited = () => this.#setupMs !== undefined && this.#stoppedAtMs === undefined;
      const limit = () => (isLimited() ? this.parameters.maxBandwidthBytesPerSecond : 0);
      const piece = limit() === 0 ? bytes : Math.min(bytes, Math.max(1, Math.ceil(limit() * PIECE_SECONDS)));
      await limiter.take(piece, limit, () => this.throwIfEnded(returnPath));
      this.#bandwidth.sample(this.environment.nowMs(), this.#acceptedBytes);
      return piece;
    };
    this.stream = new StreamWriter(watched, this.#pace);
    return this.stream;
  }

  /** Opens the multifd channels of an open stream. */
  protected async openChannels(connect: () => Promise<Channel>): Promise<MultifdSender> {
    const { multifdChannels: channels, multifdCompression: compression } = this.parameters;
    const { environment } = this;
    const watched = async () => watchWrites(await connect(), this.#watch);
    const opening = MultifdSender.open(watched, {
      environment,
      channels,
      compression,
      level: 1,
      pace: this.#pace,
    });
    this.channels = await this.unlessCancelled(opening, (late) => late.abort(new Error("too late")));
    return this.channels;
  }

  /** The destination has answered, and the list of RAM blocks was sent. */
  protected setUp(): void {
    this.#setupMs = this.environment.nowMs() - this.#startedMs;
  }

  async #fetchDirty(): Promise<PageSet> {
    const set: PageSet = [];
    for (const slot of this.machine.memory.blocks.keys()) {
      set.push(await this.machine.vm.getAndClearDirtyLog(slot));
    }
    return set;
  }

  /**
   * Sends rounds of dirty pages while the guest runs. Resolves to the remaining pages once they fit the
   * downtime limit.
   */
  protected async precopy(ram: RamWriter, returnPath: ReturnPath | undefined): Promise<PageSet> {
    // The first round sends all that was written before.
    await this.#fetchDirty();
    this.setStatus("active");
    const convergence = new Convergence(this.parameters.patienceRounds);
    const check = () => this.throwIfEnded(returnPath);
    const stream = this.stream!;
    let since = this.environment.nowMs();
    this.#bandwidth = new Bandwidth(since);
    let pending = allPages(this.machine.memory);
    for (;;) {
      check();
      this.#rounds++;
      this.#remainingPages = 0;
      this.#onChange({ event: "pass", pass: this.#rounds });
      await ram.pages(QEMU_VM.SECTION_PART, pending, check);
      await stream.flush();
      pending = await this.#fetchDirty();
      const now = this.environment.nowMs();
      const dirty = countPages(pending);
      this.#dirtyPagesPerMs = dirty / Math.max(now - since, 1);
      since = now;
      this.#remainingPages = dirty;
      const bytesPerMs = this.#bandwidth.at(now, this.#acceptedBytes);
      this.#expectedDowntimeMs = (dirty * PAGE_SIZE) / Math.max(bytesPerMs, 0.001);
      const limitMs = this.parameters.downtimeLimitMs;
      if (dirty === 0 || this.#expectedDowntimeMs <= limitMs || !this.machine.runState.running)
        return pending;
      this.#advice = convergence.round(dirty, this.#dirtyPagesPerMs, bytesPerMs, this.parameters);
    }
  }

  /**
   * Stops the guest for the switchover and adds its last dirty pages to `pending`. Resolves to the run state
   * before.
   */
  protected async stopGuest(pending: PageSet): Promise<RunState> {
    refuseToSave(this.machine);
    this.setStatus("device");
    this.#advice = undefined;
    this.#stoppedAtMs = this.environment.nowMs();
    this.#precopyBytes = this.stream!.queuedBytes + (this.channels?.acceptedBytes ?? 0);
    const before = await stopFor(
      this.machine,
      "finish-migrate",
      "the machine is in switchover: wait until the move has ended",
    );
    this.#before = before;
    addPages(pending, await this.#fetchDirty());
    this.#remainingPages = 0;
    return before;
  }

  /**
   * Releases the drives once the destination has accepted everything, and checks that the machine is still
   * stopped.
   */
  protected async releaseDrives(check: () => void): Promise<void> {
    await this.machine.inactivateDrives();
    check();
    const { current } = this.machine.runState;
    if (current !== "finish-migrate") {
      throw new MigrationError("migration.state", `the machine is ${current}`);
    }
  }

  /**
   * The destination owns the machine. `blocker` says why it must not run here again; undefined if the user
   * may start it.
   */
  protected complete(blocker: string | undefined): MigrationResult {
    const now = this.environment.nowMs();
    this.#totalMs = now - this.#startedMs;
    this.#downtimeMs = now - (this.#stoppedAtMs ?? now);
    this.error = undefined;
    this.#advice = undefined;
    this.#watch.stop();
    this.machine.runState.set("postmigrate");
    this.machine.startBlocker = blocker;
    if (blocker !== undefined) this.machine.left("moved");
    this.setStatus("completed");
    return { status: "completed" };
  }

  /** Ends a move that was not committed: the machine resumes here. */
  protected async failed(error: unknown): Promise<MigrationResult> {
    this.channel?.abort(asError(error));
    this.channels?.abort(asError(error));
    if (this.#cancelled) return await this.resumeHere("cancelled");
    return await this.resumeHere("failed", asMigrationError(error));
  }

  /** The machine resumes here as it was. */
  protected async resumeHere(
    status: "failed" | "cancelled",
    error?: MigrationError,
  ): Promise<MigrationResult> {
    const { machine } = this;
    this.#totalMs = this.environment.nowMs() - this.#startedMs;
    let outcome = error;
    this.#watch.stop();
    if (this.#before !== undefined) {
      try {
        await resumeAs(machine, this.#before);
      } catch (cause) {
        if (machine.runState.current === "finish-migrate") machine.runState.set("paused");
        outcome = new MigrationError(
          "migration.go-on",
          `${error?.message ?? "the move was cancelled"}; and the machine, now paused, cannot resume here: ${messageOf(cause)}`,
          { cause },
        );
      }
    }
    this.onResumed();
    this.error = outcome;
    this.#advice = undefined;
    this.setStatus(status);
    return outcome === undefined ? { status } : { status, error: outcome };
  }

  /** The outcome is unknown: the machine stays stopped here until the user decides. */
  protected unresolved(message: string): MigrationResult {
    this.error = new MigrationError("migration.unresolved", message);
    this.setStatus("unresolved");
    return { status: "unresolved", error: this.error };
  }
}

export function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}

export function asMigrationError(error: unknown): MigrationError {
  if (error instanceof MigrationError) return error;
  return new MigrationError("migration.failed", messageOf(error), { cause: error });
}
