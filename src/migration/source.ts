// The source of a live move (precopy). States and what happens on each failure: docs/migration.md.
// Until GO (the end of the stream) is sent, any failure leaves the machine running here; once the destination
// has said that it runs, the machine never runs here again; in between the destination is asked (RESOLVE).
import { ByteWriter } from "../base/bytes.ts";
import { messageOf } from "../base/errors.ts";
import { PAGE_SIZE } from "../memory/guest-memory.ts";
import type { Machine } from "../vmm/machine.ts";
import type { RunState } from "../vmm/run-state.ts";
import type { Channel } from "./channel.ts";
import { MigrationError } from "./errors.ts";
import { defaultHost, type MigrationHost, sleep, withTimeout } from "./host.ts";
import { Bandwidth, Convergence, type MigrationProgress, type MigrationStatus } from "./progress.ts";
import { addPages, allPages, countPages, type PageSet, type RamWriter } from "./ram-save.ts";
import { RateLimiter } from "./rate-limit.ts";
import { askResolve, type ResolveAnswer } from "./resolve.ts";
import { ReturnPath } from "./return-path.ts";
import { StreamSaver } from "./save-stream.ts";
import { goOn, refuseToSave, stopFor } from "./snapshot.ts";
import { StreamWriter } from "./stream-writer.ts";
import { MIG_CMD, MOVE_ID_SIZE, PING_FINAL, PING_SETUP, QEMU_VM } from "./wire.ts";

/** May be changed while the move is under way. */
export interface MigrationParameters {
  /** How long the guest may stand still at the end. */
  downtimeLimitMs: number;
  /** While the guest runs; 0: no limit. */
  maxBandwidthBytesPerSecond: number;
  /** How long the destination may take to answer before GO; the machine goes on here after that. */
  acknowledgeTimeoutMs: number;
  /** How long the destination may take from GO to saying that it runs, before it is asked. */
  startTimeoutMs: number;
  /** How long to ask what became of the machine before the user has to decide. */
  resolveTimeoutMs: number;
  /** Rounds without progress before the move says so. It goes on. */
  patienceRounds: number;
}

/** QEMU's defaults where it has them. */
export const defaultParameters: Readonly<MigrationParameters> = {
  downtimeLimitMs: 300,
  maxBandwidthBytesPerSecond: 128 * 1024 * 1024,
  acknowledgeTimeoutMs: 30_000,
  startTimeoutMs: 10_000,
  resolveTimeoutMs: 10_000,
  patienceRounds: 8,
};

export type MigrationChange =
  | { readonly event: "status"; readonly status: MigrationStatus }
  | { readonly event: "pass"; readonly pass: number };

export interface MigrationResult {
  /** `completed`: it runs there. `failed`, `cancelled`: it is here, as it was. `unresolved`: stopped here; decide. */
  readonly status: "completed" | "failed" | "cancelled" | "unresolved";
  readonly error?: MigrationError;
}

export interface MigrationOptions {
  readonly parameters?: MigrationParameters;
  readonly host?: MigrationHost;
  readonly onChange?: (change: MigrationChange) => void;
}

/** Start a move: `connect` is called once, and again for each RESOLVE. It may throw ConnectError. */
export function migrateOut(
  machine: Machine,
  connect: () => Promise<Channel>,
  options: MigrationOptions = {},
): MigrationSource {
  return new MigrationSource(machine, connect, options);
}

class Cancelled extends MigrationError {
  constructor() {
    super("migration.cancelled", "the move was cancelled; the machine goes on here");
  }
}

export class MigrationSource {
  readonly parameters: MigrationParameters;
  /** Random; what a RESOLVE asks for. */
  readonly moveId: Uint8Array;
  /** Never rejects. */
  readonly done: Promise<MigrationResult>;
  readonly #machine: Machine;
  readonly #connect: () => Promise<Channel>;
  readonly #host: MigrationHost;
  readonly #onChange: (change: MigrationChange) => void;
  readonly #startedMs: number;
  readonly #totalBytes: number;
  #status: MigrationStatus = "setup";
  #cancelled = false;
  /** Rejects whatever waits for the other side, when the move is cancelled. */
  #interrupt: (error: Error) => void = () => {};
  readonly #interrupted: Promise<never>;
  #channel: Channel | undefined;
  #returnPath: ReturnPath | undefined;
  #stream: StreamWriter | undefined;
  #ram: RamWriter | undefined;
  /** The destination has accepted everything. */
  #isReady = false;
  /** GO is on its way, whole or in part: from here on only the destination's word counts. */
  #committed = false;
  #isAsking = false;
  #logging = false;
  /** What the machine did until it was stopped to be handed over. */
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
  #error: MigrationError | undefined;
  #advice: string | undefined;

  constructor(machine: Machine, connect: () => Promise<Channel>, options: MigrationOptions) {
    this.parameters = options.parameters ?? { ...defaultParameters };
    this.#machine = machine;
    this.#connect = connect;
    this.#host = options.host ?? defaultHost;
    this.#onChange = options.onChange ?? (() => {});
    this.moveId = this.#host.randomBytes(MOVE_ID_SIZE);
    this.#startedMs = this.#host.nowMs();
    this.#bandwidth = new Bandwidth(this.#startedMs);
    this.#remainingPages = countPages(allPages(machine.memory));
    this.#totalBytes = machine.memory.blocks.reduce((sum, block) => sum + block.size, 0);
    this.#interrupted = new Promise((_, reject) => {
      this.#interrupt = reject;
    });
    this.#interrupted.catch(() => {});
    this.done = this.#run();
  }

  /**
   * Give up; the machine goes on here. False if it is too late: the move has ended, or the destination has been
   * told to run.
   */
  cancel(): boolean {
    if (this.#committed || !["setup", "active", "device", "cancelling"].includes(this.#status)) return false;
    this.#cancelled = true;
    this.#setStatus("cancelling");
    const error = new Cancelled();
    this.#interrupt(error);
    this.#channel?.abort(error);
    return true;
  }

  /**
   * The user's word on an unresolved move: the machine runs `there`, or it is gone there and runs `here` again.
   * `ask` asks the destination once more. Resolves with what has become of the move.
   */
  async decide(answer: "there" | "here" | "ask"): Promise<MigrationResult> {
    if (this.#status !== "unresolved") {
      throw new MigrationError("migration.decide", `nothing to decide: the move is ${this.#status}`);
    }
    if (this.#isAsking) {
      throw new MigrationError("migration.decide", "the destination is being asked: wait for its answer");
    }
    if (answer === "there") return this.#complete();
    if (answer === "here") return await this.#back("failed", this.#error);
    this.#isAsking = true;
    try {
      return await this.#resolve(this.#error);
    } finally {
      this.#isAsking = false;
    }
  }

  get progress(): MigrationProgress {
    const now = this.#host.nowMs();
    const taken = this.#stream?.taken ?? 0;
    const rate = this.#bandwidth.at(now, taken);
    const normalPages = this.#ram?.normalPages ?? 0;
    const zeroPages = this.#ram?.zeroPages ?? 0;
    const elapsed = this.#totalMs ?? now - this.#startedMs;
    const ended = this.#status === "completed";
    return {
      status: this.#status,
      totalBytes: this.#totalBytes,
      transferredBytes: taken,
      remainingBytes: ended ? 0 : (this.#remainingPages + (this.#ram?.pagesLeft ?? 0)) * PAGE_SIZE,
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
      error: this.#error?.message,
      advice: this.#advice,
    };
  }

  #setStatus(status: MigrationStatus): void {
    if (status === this.#status) return;
    this.#status = status;
    this.#onChange({ event: "status", status });
  }

  async #run(): Promise<MigrationResult> {
    // The constructor's caller gets its object before anything happens.
    await Promise.resolve();
    let returnPath: ReturnPath | undefined;
    try {
      refuseToSave(this.#machine);
      const channel = await this.#connected();
      returnPath = new ReturnPath(channel);
      this.#returnPath = returnPath;
      const saver = await this.#setup(channel, returnPath);
      this.#logging = true;
      await this.#setLogging(true);
      const last = await this.#precopy(saver, returnPath);
      await this.#handOver(saver, returnPath, last);
    } catch (error) {
      // If only the writing of GO failed, its answer may still come.
      if (this.#committed && returnPath !== undefined) return await this.#afterGo(returnPath);
      this.#channel?.abort(asError(error));
      const status = this.#cancelled ? "cancelled" : "failed";
      return await this.#back(status, this.#cancelled ? undefined : asMigrationError(error));
    }
    return await this.#afterGo(returnPath);
  }

  /** Connects; a cancel does not wait for it. */
  async #connected(): Promise<Channel> {
    const connecting = this.#connect();
    connecting.then(
      (channel) => this.#cancelled && channel.abort(new Cancelled()),
      () => {},
    );
    this.#channel = await Promise.race([connecting, this.#interrupted]);
    return this.#channel;
  }

  /** Throws if the move is to end: cancelled, or the other side is gone. */
  #checkOn(returnPath: ReturnPath): void {
    if (this.#cancelled) throw new Cancelled();
    returnPath.check();
  }

  async #acknowledged(returnPath: ReturnPath, cookie: number): Promise<void> {
    const ms = this.parameters.acknowledgeTimeoutMs;
    await withTimeout(
      this.#host,
      Promise.race([returnPath.pong(cookie), this.#interrupted]),
      ms,
      () => new MigrationError("migration.timeout", `the destination did not answer within ${ms} ms`),
    );
    this.#checkOn(returnPath);
  }

  async #setup(channel: Channel, returnPath: ReturnPath): Promise<StreamSaver> {
    const limiter = new RateLimiter(this.#host);
    const stream = new StreamWriter(channel, async (bytes) => {
      // The guest stands still once it has been stopped: no limit then, as in QEMU.
      const limit = () => (this.#stoppedAtMs === undefined ? this.parameters.maxBandwidthBytesPerSecond : 0);
      await limiter.take(bytes, limit, () => this.#checkOn(returnPath));
      this.#bandwidth.sample(this.#host.nowMs(), stream.taken);
    });
    this.#stream = stream;
    const saver = new StreamSaver(this.#machine, stream, this.#host, this.moveId);
    this.#ram = saver.ram;
    saver.header();
    saver.command(MIG_CMD.OPEN_RETURN_PATH, new Uint8Array(0));
    saver.command(MIG_CMD.PING, cookieBytes(PING_SETUP));
    await saver.startRam();
    await stream.flush();
    await this.#acknowledged(returnPath, PING_SETUP);
    this.#setupMs = this.#host.nowMs() - this.#startedMs;
    return saver;
  }

  async #setLogging(on: boolean): Promise<void> {
    for (const slot of this.#machine.memory.blocks.keys()) await this.#machine.vm.setDirtyLogging(slot, on);
  }

  async #fetchDirty(): Promise<PageSet> {
    const set: PageSet = [];
    for (const slot of this.#machine.memory.blocks.keys()) {
      set.push(await this.#machine.vm.getAndClearDirtyLog(slot));
    }
    return set;
  }

  /** Rounds while the guest runs; returns the pages that are left when the rest fits the downtime limit. */
  async #precopy(saver: StreamSaver, returnPath: ReturnPath): Promise<PageSet> {
    this.#setStatus("active");
    const convergence = new Convergence(this.parameters.patienceRounds);
    const check = () => this.#checkOn(returnPath);
    let since = this.#host.nowMs();
    this.#bandwidth = new Bandwidth(since);
    let pending = allPages(this.#machine.memory);
    for (;;) {
      check();
      this.#rounds++;
      this.#remainingPages = 0;
      this.#onChange({ event: "pass", pass: this.#rounds });
      await saver.ram.pages(QEMU_VM.SECTION_PART, pending, check);
      await this.#stream!.flush();
      pending = await this.#fetchDirty();
      const now = this.#host.nowMs();
      const dirty = countPages(pending);
      this.#dirtyPagesPerMs = dirty / Math.max(now - since, 1);
      since = now;
      this.#remainingPages = dirty;
      const bytesPerMs = this.#bandwidth.at(now, this.#stream!.taken);
      this.#expectedDowntimeMs = (dirty * PAGE_SIZE) / Math.max(bytesPerMs, 0.001);
      const limitMs = this.parameters.downtimeLimitMs;
      if (dirty === 0 || this.#expectedDowntimeMs <= limitMs || !this.#machine.runState.running)
        return pending;
      this.#advice = convergence.round(dirty, limitMs, bytesPerMs);
    }
  }

  /** Stops the guest, sends the rest, waits until the destination has accepted all, lets go of the drives, sends GO. */
  async #handOver(saver: StreamSaver, returnPath: ReturnPath, pending: PageSet): Promise<void> {
    const machine = this.#machine;
    const stream = this.#stream!;
    const check = () => this.#checkOn(returnPath);
    check();
    refuseToSave(machine);
    this.#setStatus("device");
    this.#stoppedAtMs = this.#host.nowMs();
    this.#precopyBytes = stream.offset;
    const before = await stopFor(
      machine,
      "finish-migrate",
      "the machine is being handed over: wait until the move has ended",
    );
    this.#before = before;
    addPages(pending, await this.#fetchDirty());
    this.#remainingPages = 0;
    await saver.ram.pages(QEMU_VM.SECTION_END, pending, check);
    await machine.cpus.synchronizeAllStates();
    await saver.devices(before);
    saver.command(MIG_CMD.PING, cookieBytes(PING_FINAL));
    await stream.drain();
    await this.#acknowledged(returnPath, PING_FINAL);
    this.#isReady = true;
    await machine.inactivateDrives();
    check();
    if (machine.runState.current !== "finish-migrate") {
      throw new MigrationError("migration.state", `the machine is ${machine.runState.current}`);
    }
    this.#committed = true;
    saver.trailer();
    await stream.drain();
  }

  async #afterGo(returnPath: ReturnPath): Promise<MigrationResult> {
    const ms = this.parameters.startTimeoutMs;
    let code: number;
    try {
      code = await withTimeout(
        this.#host,
        returnPath.shut,
        ms,
        () =>
          new MigrationError(
            "migration.timeout",
            `the destination did not say within ${ms} ms whether it runs`,
          ),
      );
    } catch (error) {
      this.#channel?.abort(asError(error));
      return await this.#resolve(asMigrationError(error));
    }
    if (code !== 0) {
      this.#channel?.abort(new Error("refused"));
      return await this.#back("failed", returnPath.ended);
    }
    // An orderly end tells the destination that nobody will ask for the machine.
    await this.#channel?.close().catch(() => {});
    return this.#complete();
  }

  #complete(): MigrationResult {
    const now = this.#host.nowMs();
    this.#totalMs = now - this.#startedMs;
    this.#downtimeMs = now - (this.#stoppedAtMs ?? now);
    this.#error = undefined;
    this.#advice = undefined;
    this.#machine.runState.set("postmigrate");
    this.#machine.startBlocker =
      "the machine was moved and runs at its destination: it must not run here again";
    this.#setStatus("completed");
    return { status: "completed" };
  }

  /** The machine goes on here, as it was. */
  async #back(status: "failed" | "cancelled", error?: MigrationError): Promise<MigrationResult> {
    const machine = this.#machine;
    this.#totalMs = this.#host.nowMs() - this.#startedMs;
    let outcome = error;
    if (this.#logging) await this.#setLogging(false);
    if (this.#before !== undefined) {
      try {
        await goOn(machine, this.#before);
      } catch (cause) {
        if (machine.runState.current === "finish-migrate") machine.runState.set("paused");
        outcome = new MigrationError(
          "migration.go-on",
          `${error?.message ?? "the move was cancelled"}; and the machine, now paused, cannot go on here: ${messageOf(cause)}`,
          { cause },
        );
      }
    }
    // A destination that waits for GO need not wait until it gives up by itself.
    if (this.#isReady && !this.#committed) this.#ask(this.#host.nowMs() + 1000).catch(() => {});
    this.#error = outcome;
    this.#advice = undefined;
    this.#setStatus(status);
    return outcome === undefined ? { status } : { status, error: outcome };
  }

  /** GO was sent and the connection lost before the destination's word: ask it. */
  async #resolve(lost: MigrationError | undefined): Promise<MigrationResult> {
    this.#machine.startBlocker =
      "the connection was lost while the machine was handed over: it may run at its destination";
    const deadline = this.#host.nowMs() + this.parameters.resolveTimeoutMs;
    let last = lost;
    do {
      try {
        const answer = await this.#ask(deadline);
        return answer === "running" ? this.#complete() : await this.#back("failed", lost);
      } catch (error) {
        // That nobody answers proves nothing; that the process which had the machine has ended does.
        if (this.#peerIsGone()) return await this.#back("failed", lost);
        last = asMigrationError(error);
      }
      await sleep(this.#host, Math.min(200, this.parameters.resolveTimeoutMs));
    } while (this.#host.nowMs() < deadline);
    this.#error = new MigrationError(
      "migration.unresolved",
      `the connection was lost while the machine was handed over, and the destination does not answer ` +
        `(${last?.message ?? "no answer"}). The machine is stopped here and may run there. Look there: if it runs, ` +
        `decide "there"; only if it is certain that it does not and will not run there, decide "here"; or ask again`,
    );
    this.#setStatus("unresolved");
    return { status: "unresolved", error: this.#error };
  }

  #peerIsGone(): boolean {
    const identity = this.#returnPath?.peerProcess;
    return identity !== undefined && this.#host.isGone?.(identity) === true;
  }

  async #ask(deadline: number): Promise<ResolveAnswer> {
    const left = () => Math.max(deadline - this.#host.nowMs(), 50);
    const late = () => new MigrationError("migration.timeout", "the destination did not answer RESOLVE");
    const connecting = this.#connect();
    const channel = await withTimeout(this.#host, connecting, left(), late).catch((error: unknown) => {
      connecting.then(
        (c) => c.abort(asError(error)),
        () => {},
      );
      throw error;
    });
    try {
      return await withTimeout(this.#host, askResolve(channel, this.moveId), left(), late);
    } finally {
      channel.abort(new Error("resolved"));
    }
  }
}

function cookieBytes(cookie: number): Uint8Array {
  return new ByteWriter(4).u32(cookie).finish();
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}

function asMigrationError(error: unknown): MigrationError {
  if (error instanceof MigrationError) return error;
  return new MigrationError("migration.failed", messageOf(error), { cause: error });
}
