// QMP, QEMU's machine protocol (docs/interop/qmp-spec), without a transport: a monitor owns the commands and
// broadcasts events; each client has a session with its own negotiation, request order and parser. Left out:
// out-of-band execution; the greeting does not offer it, so clients do not use it.
import { messageOf } from "../base/errors.ts";
import type { MigrationChange } from "../migration/save/outgoing-move.ts";
import type { MachineEvent } from "../vmm/machine.ts";
import {
  isObject,
  type JsonError,
  type JsonObject,
  JsonStream,
  type JsonValue,
  jsonLine,
} from "./qmp-json.ts";
import { blockCommands } from "./block-commands.ts";
import { machineCommands, type QmpTarget, versionInfo } from "./machine-commands.ts";
import { humanMonitor } from "./human-monitor.ts";
import { migrationCommands, migrationEvents, statusWord } from "./migration-commands.ts";
import { perfCommands } from "./perf-commands.ts";
import { any, bool, int, list, oneOf, optional, QmpError, readMembers, str, struct } from "./qapi.ts";
import { action, command, type QmpCommand } from "./qmp-command.ts";
import { qmpSchema } from "./qmp-schema.ts";

/** Events and their data, for query-qmp-schema. */
const EVENTS = {
  STOP: {},
  RESUME: {},
  RESET: { guest: bool, reason: str },
  SHUTDOWN: { guest: bool, reason: str },
  POWERDOWN: {},
  SUSPEND: {},
  WAKEUP: {},
  X_WHERRY_SHARE_STALE: { tag: str, count: int, files: list(str) },
  GUEST_PANICKED: { action: oneOf(["pause"]), "x-wherry-message": optional(str) },
  ...migrationEvents,
};

/** A client is disconnected if an event is too long. */
const MAX_STALE_FILES = 1000;

export interface QmpOptions {
  /** The version in the greeting's `package`. */
  readonly wherryVersion: string;
  readonly wallNs: () => bigint;
}

export class QmpMonitor {
  readonly version: JsonObject;
  readonly commands: ReadonlyMap<string, QmpCommand>;
  readonly #wallNs: () => bigint;
  readonly #sessions = new Set<QmpSession>();

  constructor(target: QmpTarget, options: QmpOptions) {
    this.version = versionInfo(options.wherryVersion);
    this.#wallNs = options.wallNs;
    const table: QmpCommand[] = [
      ...machineCommands(target, options.wherryVersion),
      ...migrationCommands(target.migration, target.machine),
      ...perfCommands(target.perf),
      ...blockCommands(target.disks ?? []),
      command("query-commands", {}, list(struct({ name: str })), () => table.map(({ name }) => ({ name }))),
      // SchemaInfo describes itself in QEMU by variants; its members are in QAPI's documents.
      command("query-qmp-schema", {}, list(any), () => qmpSchema(table, EVENTS)),
      command(
        "human-monitor-command",
        { "command-line": str, "cpu-index": optional(int) },
        str,
        ({ "command-line": line, "cpu-index": cpu = 0 }) => human(line, cpu),
      ),
      // Only for query-commands: the session itself handles this command.
      action("qmp_capabilities", { enable: optional(list(oneOf(["oob"]))) }, () => {
        throw new QmpError(
          "Capabilities negotiation is already complete, command ignored",
          "CommandNotFound",
        );
      }),
      {
        ...action("quit", {}, () => {
          target.machine.emit({ event: "SHUTDOWN", guest: false, reason: "host-qmp-quit" });
        }),
        afterReply: () => target.quit(),
      },
    ];
    const run = async (name: string, args: JsonObject = {}) => this.commands.get(name)!.run(args);
    const human = humanMonitor(target, run, () => target.quit());
    this.commands = new Map(table.map((entry) => [entry.name, entry]));
    target.machine.onEvent((event) => this.#machineEvent(event));
    target.migration.onChange((change) => this.#migrationEvent(change, target.migration.capabilities));
  }

  /** Connects a client. `send` receives whole lines; the greeting is sent before this returns. */
  connect(send: (bytes: Uint8Array<ArrayBuffer>) => void): QmpSession {
    const session = new QmpSession(this, send, () => this.#sessions.delete(session));
    this.#sessions.add(session);
    session.send({ QMP: { version: this.version, capabilities: [] } });
    return session;
  }

  /** Sends an event to every client that has finished its negotiation. */
  broadcast(event: keyof typeof EVENTS, data?: JsonObject): void {
    const us = this.#wallNs() / 1000n;
    const timestamp = { seconds: Number(us / 1_000_000n), microseconds: Number(us % 1_000_000n) };
    const message = data === undefined ? { timestamp, event } : { timestamp, event, data };
    for (const session of this.#sessions) {
      if (session.negotiated) session.send(message);
    }
  }

  #machineEvent(event: MachineEvent): void {
    switch (event.event) {
      case "RESET":
        this.broadcast("RESET", {
          guest: event.guest,
          reason: event.guest ? "guest-reset" : "host-qmp-system-reset",
        });
        return;
      case "SHUTDOWN":
        this.broadcast("SHUTDOWN", { guest: event.guest, reason: event.reason });
        return;
      case "X_WHERRY_SHARE_STALE":
        this.broadcast("X_WHERRY_SHARE_STALE", {
          tag: event.tag,
          count: event.files.length,
          files: event.files.slice(0, MAX_STALE_FILES),
        });
        return;
      case "GUEST_PANICKED":
        this.broadcast("GUEST_PANICKED", { action: "pause", "x-wherry-message": event.message });
        return;
      default:
        this.broadcast(event.event);
    }
  }

  /** As in QEMU, a client receives migration events only if it has switched the capability `events` on. */
  #migrationEvent(change: MigrationChange, capabilities: ReadonlyMap<string, boolean>): void {
    if (capabilities.get("events") !== true) return;
    if (change.event === "pass") this.broadcast("MIGRATION_PASS", { pass: change.pass });
    else this.broadcast("MIGRATION", { status: statusWord(change.status) });
  }
}

/** Limit of queued requests, after which the session stops reading: a client that exceeds it is broken. */
const MAX_QUEUED = 1024;

export class QmpSession {
  readonly #monitor: QmpMonitor;
  readonly #send: (bytes: Uint8Array<ArrayBuffer>) => void;
  readonly #onClose: () => void;
  readonly #stream: JsonStream;
  #negotiated = false;
  #closed = false;
  #queued = 0;
  #turn: Promise<void> = Promise.resolve();

  constructor(monitor: QmpMonitor, send: (bytes: Uint8Array<ArrayBuffer>) => void, onClose: () => void) {
    this.#monitor = monitor;
    this.#send = send;
    this.#onClose = onClose;
    this.#stream = new JsonStream(
      (value) => this.#enqueue(() => this.#execute(value)),
      (error: JsonError) => this.#enqueue(async () => ({ reply: errorReply(error.message) })),
    );
  }

  get negotiated(): boolean {
    return this.#negotiated;
  }

  /** Bytes from the client, in pieces of any size. */
  receive(bytes: Uint8Array): void {
    if (!this.#closed) this.#stream.feed(bytes);
  }

  /** The client has disconnected. Commands that have begun continue; no more is sent. */
  close(): void {
    this.#closed = true;
    this.#onClose();
  }

  send(message: JsonObject): void {
    if (!this.#closed) this.#send(jsonLine(message));
  }

  /** Requests of one client are handled in order, each after the previous one has finished. */
  #enqueue(answer: () => Promise<Answer>): void {
    if (this.#queued >= MAX_QUEUED) {
      this.send(errorReply(`more than ${MAX_QUEUED} requests are waiting: read the answers first`));
      return;
    }
    this.#queued++;
    this.#turn = this.#turn.then(async () => {
      const { reply, afterReply } = await answer();
      this.#queued--;
      this.send(reply);
      afterReply?.();
    });
  }

  async #execute(request: JsonValue): Promise<Answer> {
    if (!isObject(request)) return { reply: errorReply("QMP input must be a JSON object") };
    const id = request["id"];
    const withId = (reply: JsonObject) => (id === undefined ? reply : { ...reply, id });
    try {
      const { found, args } = this.#lookUp(request);
      const reply = withId({ return: found === undefined ? this.#negotiate(args) : await found.run(args) });
      return { reply, afterReply: found?.afterReply };
    } catch (error) {
      // An exception from a command fails this command only: a client must not bring the machine down.
      return {
        reply: withId(errorReply(messageOf(error), error instanceof QmpError ? error.errorClass : undefined)),
      };
    }
  }

  /** The command and its arguments; undefined for the negotiation command, which the session handles. */
  #lookUp(request: JsonObject): { found: QmpCommand | undefined; args: JsonObject } {
    for (const name of Object.keys(request)) {
      if (!["execute", "arguments", "id"].includes(name)) {
        throw new QmpError(`QMP input member '${name}' is unexpected`);
      }
    }
    const { execute: name, arguments: args = Object.create(null) as JsonObject } = request;
    if (name === undefined) throw new QmpError("QMP input lacks member 'execute'");
    if (typeof name !== "string") throw new QmpError("QMP input member 'execute' must be a string");
    if (!isObject(args)) throw new QmpError("QMP input member 'arguments' must be an object");
    if (!this.#negotiated) {
      if (name === "qmp_capabilities") return { found: undefined, args };
      throw new QmpError("Expecting capabilities negotiation with 'qmp_capabilities'", "CommandNotFound");
    }
    const found = this.#monitor.commands.get(name);
    if (found === undefined) throw new QmpError(`The command ${name} has not been found`, "CommandNotFound");
    return { found, args };
  }

  #negotiate(args: JsonObject): JsonValue {
    const { enable = [] } = readMembers({ enable: optional(list(str)) }, args);
    if (enable.length > 0) throw new QmpError(`This monitor doesn't support capability ${enable.join(", ")}`);
    this.#negotiated = true;
    return {};
  }
}

interface Answer {
  readonly reply: JsonObject;
  readonly afterReply?: (() => void) | undefined;
}

function errorReply(desc: string, errorClass: QmpError["errorClass"] = "GenericError"): JsonObject {
  return { error: { class: errorClass, desc } };
}
