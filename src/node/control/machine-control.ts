// Moves and the monitor of a program's machine: what `wherry run` connects to the same parts.
import { abortedCall, type CallOptions, refuseAborted, type Signal } from "../../base/abort.ts";
import { WherryError } from "../../base/errors.ts";
import { closedError } from "../../embed/hosted-machine.ts";
import { safeListener } from "../../embed/listener.ts";
import { MigrationService } from "../../monitor/migration-service.ts";
import { migrationUri, parseMigrationUri } from "../../monitor/migration-address.ts";
import type { MigrationProgress } from "../../migration/save/move-progress.ts";
import type { OutgoingMove } from "../../migration/save/outgoing-move.ts";
import { QmpMonitor, type QmpSession } from "../../monitor/qmp-monitor.ts";
import { type JsonObject, parseJson, stringifyJson } from "../../monitor/qmp-json.ts";
import { QmpError } from "../../monitor/qapi.ts";
import type { RestoreClock } from "../../vmm/machine.ts";
import { migrationTransport } from "../channels/migration-transport.ts";
import { nodeEnvironment } from "../channels/node-environment.ts";
import { serveQmp } from "../channels/qmp-server.ts";
import { parseSocketAddress, type SocketServer, socketAddressText } from "../channels/socket-server.ts";
import { monitorTarget, type MonitoredParts } from "./monitor-target.ts";

/** An event of the machine, as QMP has it: `STOP`, `RESUME`, `RESET`, `SHUTDOWN`, `GUEST_PANICKED`, …. */
export interface QmpEvent {
  readonly event: string;
  readonly data?: Readonly<Record<string, unknown>>;
  readonly timestamp: { readonly seconds: number; readonly microseconds: number };
}

/** How a move is made. */
export interface MoveOptions extends CallOptions {
  /** A release of QEMU that is at the other end, such as `qemu-11.1`. Default: Wherry. */
  readonly profile?: string | undefined;
  /** Longest time for which the guest may stand still, in ms. Default: 300. */
  readonly downtimeLimitMs?: number | undefined;
  /** Bytes a second while the guest runs; 0: no limit. Default: 128 MiB. */
  readonly maxBandwidth?: number | undefined;
  /** Hears of each round and each new status. */
  readonly onProgress?: ((progress: MigrationProgress) => unknown) | undefined;
}

/** A move that has ended well; the machine runs at the other end. */
export interface MoveResult {
  /** From the stop of the guest until the other end said that it runs. */
  readonly downtimeMs: number;
  readonly totalTimeMs: number;
  readonly transferredBytes: number;
  readonly rounds: number;
}

/** Where a machine comes from. */
export interface Arrival extends CallOptions {
  readonly uri: string;
  /** Hears the address as soon as a source can connect, with the port that was assigned to port 0. */
  readonly onListening?: ((uri: string) => void) | undefined;
}

export interface ControlParts extends Omit<MonitoredParts, "migration"> {
  readonly expectsArrival: boolean;
  readonly clock: RestoreClock | undefined;
  readonly version: string;
  /** Never throws. */
  onWarning(message: string): unknown;
}

export class MachineControl {
  readonly #parts: ControlParts;
  readonly #migration: MigrationService;
  readonly #servers: SocketServer[] = [];
  #monitor: QmpMonitor | undefined;
  #events: QmpSession | undefined;
  readonly #listeners = new Set<(event: QmpEvent) => unknown>();
  #arrived: (error?: Error) => void = () => {};
  #onProgress: ((progress: MigrationProgress) => unknown) | undefined;
  #isClosing = false;

  constructor(parts: ControlParts) {
    this.#parts = parts;
    this.#migration = new MigrationService(parts.created.machine, {
      transport: migrationTransport,
      environment: nodeEnvironment,
      expectsArrival: parts.expectsArrival,
      autostart: true,
      clock: parts.clock,
      onWarning: (message) => void parts.onWarning(message),
      onArrival: (error) => this.#arrived(error),
      onDropped: ({ message }) =>
        void parts.onWarning(
          `a connection to the machine's address was dropped, others are accepted: ${message}`,
        ),
    });
    this.#migration.onChange(() => {
      const { outgoing } = this.#migration;
      if (outgoing !== undefined) this.#onProgress?.(outgoing.progress);
    });
  }

  get #qmp(): QmpMonitor {
    const { version, platform } = this.#parts;
    this.#monitor ??= new QmpMonitor(monitorTarget({ ...this.#parts, migration: this.#migration }), {
      wherryVersion: version,
      wallNs: platform.clock.wallNs,
    });
    return this.#monitor;
  }

  /** Executes a QMP command. Rejects with WherryError. */
  async execute(name: string, args: object = {}): Promise<unknown> {
    const { commands } = this.#qmp;
    const command = commands.get(name);
    if (command === undefined)
      throw new QmpError(`The command ${name} has not been found`, "CommandNotFound");
    let given: JsonObject;
    try {
      given = parseJson(JSON.stringify(args)) as JsonObject;
    } catch (cause) {
      throw new WherryError("options.value", "arguments: expected what JSON can say", { cause });
    }
    const result: unknown = JSON.parse(stringifyJson(await command.run(given)));
    command.afterReply?.();
    return result;
  }

  /** Serves QMP to other programs until the machine is closed. Returns the address. */
  async serve(address: string): Promise<string> {
    const server = await serveQmp(parseSocketAddress(address), this.#qmp);
    if (this.#isClosing) {
      await server.close();
      throw closedError();
    }
    this.#servers.push(server);
    return socketAddressText(server.address);
  }

  /** Returns what ends it. */
  onEvent(listener: (event: QmpEvent) => unknown): () => void {
    const safe = safeListener("onEvent", listener);
    this.#listeners.add(safe);
    if (this.#events === undefined) {
      this.#migration.setCapability("events", true);
      const session = this.#qmp.connect((line) => {
        const message = JSON.parse(new TextDecoder().decode(line)) as Partial<QmpEvent>;
        if (message.event !== undefined) for (const each of this.#listeners) each(message as QmpEvent);
      });
      session.receive(new TextEncoder().encode('{"execute": "qmp_capabilities"}'));
      this.#events = session;
    }
    return () => void this.#listeners.delete(safe);
  }

  /** Moves it. Rejects with WherryError: it is here then, unless the code is migration.unresolved. */
  async move(uri: string, options: MoveOptions): Promise<MoveResult> {
    const { signal, profile, downtimeLimitMs, maxBandwidth, onProgress } = options;
    if (this.#isClosing) throw closedError();
    // What is given is for this move; what a monitor has set stays for others.
    const before = { ...this.#migration.parameters };
    try {
      await this.execute("migrate-set-parameters", {
        "downtime-limit": downtimeLimitMs,
        "max-bandwidth": maxBandwidth,
      });
      refuseAborted(signal);
      this.#onProgress = safeListener("onProgress", onProgress);
      await this.execute("migrate", { uri, "x-wherry-profile": profile });
      const { outgoing } = this.#migration;
      if (outgoing === undefined) throw new WherryError("machine.internal", "a move without an end");
      return await moved(outgoing, signal);
    } finally {
      this.#onProgress = undefined;
      if (downtimeLimitMs !== undefined)
        this.#migration.setParameters({ downtimeLimitMs: before.downtimeLimitMs });
      const { maxBandwidthBytesPerSecond } = before;
      if (maxBandwidth !== undefined) this.#migration.setParameters({ maxBandwidthBytesPerSecond });
    }
  }

  /**
   * Waits for the machine. Rejects with WherryError; then it can only be closed. An abort that comes too late
   * to leave it at its source has no effect.
   */
  async arrive({ uri, signal, onListening }: Arrival): Promise<void> {
    const arrived = new Promise<void>((resolve, reject) => {
      this.#arrived = (error) => (error === undefined ? resolve() : reject(error));
    });
    // Of a failure that comes while `incoming` is under way.
    arrived.catch(() => {});
    await this.#migration.incoming(parseMigrationUri(uri));
    const listening = safeListener("onListening", onListening);
    const at = this.#migration.query();
    if (at !== undefined && "listening" in at) void listening(migrationUri(at.listening));
    await orGivenUp(arrived, signal, () => this.#migration.giveUpArrival());
  }

  async close(): Promise<void> {
    this.#isClosing = true;
    this.#events?.close();
    await this.#migration.close();
    await Promise.all(this.#servers.splice(0).map((server) => server.close()));
  }
}

/** The end of a move; the signal cancels it. */
async function moved(outgoing: OutgoingMove, signal: Signal | undefined): Promise<MoveResult> {
  const cancel = (): void => void outgoing.cancel();
  signal?.addEventListener("abort", cancel);
  if (signal?.aborted === true) cancel();
  const { status, error } = await outgoing.done;
  signal?.removeEventListener("abort", cancel);
  if (status === "cancelled" && signal?.aborted === true) throw abortedCall(signal);
  if (status !== "completed")
    throw error ?? new WherryError("migration.cancelled", "the move was cancelled; the machine is here");
  const { downtimeMs = 0, totalTimeMs, transferredBytes, rounds } = outgoing.progress;
  return { downtimeMs, totalTimeMs, transferredBytes, rounds };
}

/** `work`; if `stop` makes it fail, the reason is the signal. */
async function orGivenUp(
  work: Promise<void>,
  signal: Signal | undefined,
  stop: () => Promise<void>,
): Promise<void> {
  if (signal === undefined) return work;
  let abort = (): void => {};
  const aborted = new Promise<"aborted">((resolve) => {
    abort = () => resolve("aborted");
  });
  signal.addEventListener("abort", abort);
  if (signal.aborted) abort();
  try {
    if ((await Promise.race([work, aborted])) !== "aborted") return;
    await stop();
    await work.catch(() => {
      throw abortedCall(signal);
    });
  } finally {
    signal.removeEventListener("abort", abort);
  }
}
