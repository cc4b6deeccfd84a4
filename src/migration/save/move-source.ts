// The source of a live move in Wherry's own protocol. docs/migration.md has the states and the action on each
// failure. Before GO (the end of the stream) is sent, any failure leaves the machine running here. Once the
// destination has confirmed that it runs, the machine never runs here again. In between, the source asks the
// destination (RESOLVE).
import type { Machine } from "../../vmm/machine.ts";
import type { Channel } from "../../stream/channel.ts";
import { MigrationError } from "../../stream/migration-error.ts";
import { sleep, withTimeout } from "../environment/migration-environment.ts";
import {
  asError,
  asMigrationError,
  type MigrationOptions,
  type MigrationResult,
  MOVED,
  OutgoingMove,
} from "./outgoing-move.ts";
import type { PageSet } from "../ram/ram-save.ts";
import { askResolve, type ResolveAnswer } from "../../stream/resolve.ts";
import { ReturnPath } from "../../stream/return-path.ts";
import { cookieBytes, StreamSaver } from "./save-stream.ts";
import { refuseToSave } from "./stop-to-save.ts";
import { MIG_CMD, MOVE_ID_SIZE, PING_FINAL, PING_SETUP, QEMU_VM } from "../../stream/wire.ts";

/** Starts a move. `connect` is called once, and again for each RESOLVE; it may throw ConnectError. */
export function migrateOut(
  machine: Machine,
  connect: () => Promise<Channel>,
  options: MigrationOptions = {},
): MigrationSource {
  return new MigrationSource(machine, connect, options);
}

export class MigrationSource extends OutgoingMove {
  /** Random; identifies the move in a RESOLVE. */
  readonly moveId: Uint8Array;
  readonly #connect: () => Promise<Channel>;
  #returnPath: ReturnPath | undefined;
  /** The destination has accepted all state. */
  #isReady = false;

  constructor(machine: Machine, connect: () => Promise<Channel>, options: MigrationOptions) {
    super(machine, options);
    this.#connect = connect;
    this.moveId = this.environment.randomBytes(MOVE_ID_SIZE);
  }

  protected async run(): Promise<MigrationResult> {
    let returnPath: ReturnPath | undefined;
    try {
      refuseToSave(this.machine);
      const channel = await this.unlessCancelled(this.#connect(), (late) =>
        late.abort(new Error("too late")),
      );
      returnPath = new ReturnPath(channel);
      this.#returnPath = returnPath;
      const saver = await this.#setup(channel, returnPath);
      const last = await this.precopy(saver.ram, returnPath);
      await this.#switchover(saver, returnPath, last);
    } catch (error) {
      // If only the write of GO failed, the destination may still answer.
      if (this.committed && returnPath !== undefined) return await this.#afterGo(returnPath);
      return await this.failed(error);
    }
    return await this.#afterGo(returnPath);
  }

  async #setup(channel: Channel, returnPath: ReturnPath): Promise<StreamSaver> {
    const stream = this.openStream(channel, returnPath);
    const saver = new StreamSaver(this.machine, stream, this.environment, { moveId: this.moveId });
    this.ram = saver.ram;
    saver.header();
    saver.command(MIG_CMD.OPEN_RETURN_PATH, new Uint8Array(0));
    saver.command(MIG_CMD.PING, cookieBytes(PING_SETUP));
    await saver.startRam();
    await stream.flush();
    await this.acknowledged(returnPath, PING_SETUP);
    this.setUp();
    return saver;
  }

  /**
   * Stops the guest, sends the remaining state, waits until the destination has accepted it, releases the
   * drives, sends GO.
   */
  async #switchover(saver: StreamSaver, returnPath: ReturnPath, pending: PageSet): Promise<void> {
    const stream = this.stream!;
    const check = () => this.throwIfEnded(returnPath);
    check();
    const before = await this.stopGuest(pending);
    await saver.ram.pages(QEMU_VM.SECTION_END, pending, check);
    await this.machine.cpus.synchronizeAllStates();
    await saver.devices(before);
    saver.command(MIG_CMD.PING, cookieBytes(PING_FINAL));
    await stream.drain();
    await this.acknowledged(returnPath, PING_FINAL);
    this.#isReady = true;
    await this.releaseDrives(check);
    this.committed = true;
    saver.trailer();
    await stream.drain();
  }

  async #afterGo(returnPath: ReturnPath): Promise<MigrationResult> {
    let code: number;
    try {
      code = await this.shut(returnPath);
    } catch (error) {
      this.channel?.abort(asError(error));
      return await this.#resolve(asMigrationError(error));
    }
    if (code !== 0) {
      this.channel?.abort(new Error("refused"));
      return await this.resumeHere("failed", returnPath.ended);
    }
    // An orderly close tells the destination that no RESOLVE will follow.
    await this.channel?.close().catch(() => {});
    return this.complete(MOVED);
  }

  /** A destination that waits for GO need not wait for its timeout. */
  protected override onResumed(): void {
    if (this.#isReady && !this.committed) this.#sendResolve(this.environment.nowMs() + 1000).catch(() => {});
  }

  protected async queryOutcome(): Promise<MigrationResult> {
    return await this.#resolve(this.error);
  }

  /** The connection was lost after GO and before SHUT: asks the destination for the outcome. */
  async #resolve(lost: MigrationError | undefined): Promise<MigrationResult> {
    this.machine.startBlocker =
      "the connection was lost during switchover: the machine may run at its destination";
    const deadline = this.environment.nowMs() + this.parameters.resolveTimeoutMs;
    let last = lost;
    do {
      try {
        const answer = await this.#sendResolve(deadline);
        return answer === "running" ? this.complete(MOVED) : await this.resumeHere("failed", lost);
      } catch (error) {
        // A missing answer proves nothing; the exit of the destination's process does.
        if (this.#destinationHasExited()) return await this.resumeHere("failed", lost);
        last = asMigrationError(error);
      }
      await sleep(this.environment, Math.min(200, this.parameters.resolveTimeoutMs));
    } while (this.environment.nowMs() < deadline);
    return this.unresolved(
      `the connection was lost during switchover, and the destination does not answer ` +
        `(${last?.message ?? "no answer"}). The machine is stopped here and may run there. Check there: if it runs, ` +
        `decide "there"; only if it is certain that it does not and will not run there, decide "here"; or ask again`,
    );
  }

  #destinationHasExited(): boolean {
    const identity = this.#returnPath?.peerProcess;
    return identity !== undefined && this.environment.hasExited?.(identity) === true;
  }

  async #sendResolve(deadline: number): Promise<ResolveAnswer> {
    const left = () => Math.max(deadline - this.environment.nowMs(), 50);
    const late = () => new MigrationError("migration.timeout", "the destination did not answer RESOLVE");
    const connecting = this.#connect();
    const channel = await withTimeout(this.environment, connecting, left(), late).catch((error: unknown) => {
      connecting.then(
        (c) => c.abort(asError(error)),
        () => {},
      );
      throw error;
    });
    try {
      return await withTimeout(this.environment, askResolve(channel, this.moveId), left(), late);
    } finally {
      channel.abort(new Error("resolved"));
    }
  }
}
