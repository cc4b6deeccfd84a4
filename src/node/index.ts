/// <reference lib="esnext.disposable" preserve="true" />
// Entry `wherry/node`: machines in a Node process. The calling thread becomes the VMM's: do not block it for
// long.
import {
  type Checks,
  expecting,
  hasMethods,
  HOSTED_CHECKS,
  isBoolean,
  isCharBackend,
  isFunction,
  isListOf,
  isOneOf,
  isOptions,
  isSerialPorts,
  isString,
  isWhole,
} from "../embed/check-options.ts";
import { abortable, type CallOptions, refuseAborted } from "../base/abort.ts";
import { WherryError } from "../base/errors.ts";
import { AGENT_PORT, AgentClient, type AgentOptions } from "../agent/agent-client.ts";
import { abortableByAgent, AgentError } from "../agent/agent-error.ts";
import {
  type ExecOptions,
  type ExecResult,
  Guest,
  type GuestInterface,
  type SpawnOptions,
} from "../agent/guest.ts";
import { randomSource } from "../embed/create-machine.ts";
import {
  closedError,
  HostedMachine,
  type HostedMachineOptions,
  insideOf,
  onlyWherryErrors,
  refuseClock,
} from "../embed/hosted-machine.ts";
import { safeListener } from "../embed/listener.ts";
import type { GuestEnd } from "../embed/machine-end.ts";
import { MemorySink, pieceChannel } from "../embed/memory-snapshot.ts";
import type { UserNetwork } from "../usernet/user-network.ts";
import type { RestoreClock } from "../vmm/machine.ts";
import type { RunState } from "../vmm/run-state.ts";
import { savedHardware, sizeOf } from "../embed/saved-hardware.ts";
import { OWNER_MODELS } from "../share/file-tree.ts";
import type { ShareSpec } from "./share/host-share.ts";
import { type ConsoleStreams, ConsoleTap } from "./guest/console-streams.ts";
import type { DebianChoice, DebianParts } from "./debian/debian-parts.ts";
import { type GuestFiles, guestFiles, type SpawnedCommand, spawnedCommand } from "./guest/guest-api.ts";
import { type GuestNet, guestNet } from "./guest/guest-net.ts";
import { openFileSink, openFileSource } from "./channels/node-channels.ts";
import { packageVersion } from "./channels/package-version.ts";
import { listenReason } from "./channels/system-reason.ts";
import type {
  Arrival,
  ControlParts,
  MachineControl,
  MoveOptions,
  MoveResult,
  QmpEvent,
} from "./control/machine-control.ts";
import { isMachineName, type Registered, registerMachine } from "./names/machine-registry.ts";
import { isNetSpec } from "./net-platform/net-check.ts";
import { nodeNetPlatform } from "./net-platform/node-net-platform.ts";
import { nodePlatform } from "./node-platform.ts";
import { savedFileHardware } from "./saved-file.ts";
import { requireNode } from "./node-version.ts";
import { type DriveSpec, openVirtio, type VirtioBackends, type VirtioSpec } from "./virtio-backends.ts";

export { AgentError } from "../agent/agent-error.ts";
export type { CallOptions, Signal } from "../base/abort.ts";
export type { AgentOptions } from "../agent/agent-client.ts";
export type {
  ExecOptions,
  ExecResult,
  GuestEntry,
  GuestInterface,
  GuestStat,
  SpawnOptions,
} from "../agent/guest.ts";
export type { TerminalSize } from "../agent/guest-terminal.ts";
export { WherryError } from "../base/errors.ts";
export type { ConsoleStreams } from "./guest/console-streams.ts";
export type { GuestFiles, SpawnedCommand } from "./guest/guest-api.ts";
export type {
  ExposeTarget,
  ForwardOptions,
  GuestConnection,
  GuestNet,
  OpenPort,
} from "./guest/guest-net.ts";
export type { DebianChoice, DebianProgress } from "./debian/debian-parts.ts";
export type { MoveOptions, MoveResult, QmpEvent } from "./control/machine-control.ts";
export type { MigrationProgress, MigrationStatus } from "../migration/save/move-progress.ts";
export type { ByteReadable, ByteWritable } from "./guest/web-streams.ts";
export type { FrameOffload } from "../devices/virtio/frames/frame-segments.ts";
export type { NetBackend, OffloadsTaken } from "../devices/virtio/net-backend.ts";
export type { CharBackend } from "../devices/char-backend.ts";
export type { SerialPort } from "../devices/virtio/virtio-console.ts";
export type { EngineConfig } from "../embed/create-vm.ts";
export type { MachineConfig } from "../embed/create-machine.ts";
export type { EngineKind } from "../hypervisor/shared/engine-kind.ts";
export type { IcountOptions } from "../hypervisor/requests/instruction-clock.ts";
export type { RtcOptions } from "../machines/virt.ts";
export type { OwnerModel } from "../share/file-tree.ts";
export type { ShareSpec } from "./share/host-share.ts";
export type { ConnectionEvent, OnConnection } from "../usernet/connection-log.ts";
export {
  EthernetSwitch,
  type NetworkEnd,
  plug,
  type StallingEnd,
  type SwitchPort,
} from "../usernet/ethernet-switch.ts";
export type {
  AcceptStream,
  NetDatagrams,
  NetListener,
  NetPlatform,
  NetStream,
  ReceiveDatagram,
  StreamEvents,
} from "../usernet/transport/net-platform.ts";
export type { FrameListener, GuestOffloads, TcpOffload } from "../usernet/frame-offload.ts";
export type { Neighbour, UserNetMemory } from "../usernet/saved-network.ts";
export type { DatagramEnds, Ends, ForwardPeer, TcpPosition } from "../usernet/transport/ends.ts";
export type { UserNetConnection, UserNetwork } from "../usernet/user-network.ts";
export type { UserNetOptions } from "../usernet/user-network-options.ts";
export { openUserNetwork, serveSwitch } from "./user-net.ts";
export type {
  BackendNetSpec,
  NetSpec,
  SocketNetSpec,
  SwitchNetSpec,
  UserNetSpec,
} from "./net-platform/net-spec.ts";
export type { DriveSpec, VirtioSpec } from "./virtio-backends.ts";
export type { GuestEnd, HostedMachineOptions, RestoreClock, RunState };

/** Drives, network, entropy, console and shares use the board's eight virtio slots in this order. */
export interface MachineOptions
  extends Omit<HostedMachineOptions, "incoming" | "harts" | "memoryBytes">,
    Partial<Omit<VirtioSpec, "randomBytes">> {
  /** A port for QEMU's guest agent, for `exec`, `spawn` and `fs` (docs/guest-agent.md). Default: false. */
  readonly agent?: boolean | undefined;
  /**
   * Its name for `wherry ps`, and for `wherry exec`, `cp`, `ssh` and `--qmp` of this user, until it is closed
   * or this process ends. No two machines have the same. Default: none.
   */
  readonly name?: string | undefined;
  /** 1 to 32 harts. Default: with `state`, those of the saved machine. */
  readonly harts?: number | undefined;
  /** Bytes of RAM, a multiple of 2 MiB. Default: with `state`, that of the saved machine. */
  readonly memoryBytes?: number | undefined;
  /**
   * A saved machine to resume, Wherry's or (with `firmware`) QEMU's: a path or its bytes. It runs at once if
   * it ran when it was saved.
   */
  readonly state?: string | Uint8Array | undefined;
  /**
   * With `state`: guest time goes on where it stopped (`stop`, the default), or later by as long as the
   * machine was away (`host`). If that cannot be known, `onWarning` hears why, or without it Node's warnings.
   */
  readonly clock?: RestoreClock | undefined;
  /** Ends the creation or the restore, which then rejects with `machine.aborted`. */
  readonly signal?: CallOptions["signal"];
}

/** Options of a machine that comes by a move. Both ends must agree on harts, memory and devices. */
export interface IncomingOptions extends Omit<MachineOptions, "state"> {
  /** Hears the address as soon as a source can connect, with the port that was assigned to port 0. */
  readonly onListening?: ((uri: string) => void) | undefined;
}

const { incoming: _, ...COMMON_CHECKS } = HOSTED_CHECKS;
const CHECKS: Checks<MachineOptions> = {
  ...COMMON_CHECKS,
  state: expecting(
    "a saved machine: its path, or its bytes (a Uint8Array)",
    (value) => typeof value === "string" || value instanceof Uint8Array,
  ),
  clock: isOneOf("stop", "host"),
  drives: isListOf(
    isOptions<DriveSpec>(
      {
        file: isString,
        format: isOneOf("raw", "qcow2", "auto"),
        readonly: isBoolean,
        snapshot: isBoolean,
        forceShare: isBoolean,
        locking: isBoolean,
        forceChanged: isBoolean,
      },
      ["file", "readonly"],
    ),
  ),
  net: isNetSpec,
  rng: isBoolean,
  console: isCharBackend,
  serialPorts: isSerialPorts,
  shares: isListOf(
    isOptions<ShareSpec>(
      { path: isString, tag: isString, readonly: isBoolean, uid: isOneOf(...OWNER_MODELS) },
      ["path", "tag"],
    ),
  ),
  agent: isBoolean,
  name: expecting(
    "a name of at most 40 letters, digits, '.', '_' and '-', which starts with a letter or digit",
    (value) => typeof value === "string" && isMachineName(value),
  ),
  signal: hasMethods("addEventListener", "removeEventListener"),
};
const checkOptions = isOptions(CHECKS);
const { state: __, ...INCOMING_CHECKS } = CHECKS;
const checkIncoming = isOptions({ ...INCOMING_CHECKS, onListening: isFunction });

type ControlOptions = Pick<ControlParts, "memoryBytes" | "clock" | "onWarning" | "expectsArrival">;

/** How a snapshot is made. */
export interface SnapshotOptions extends CallOptions {
  /** Flushes and freezes the guest's file systems meanwhile, by the guest's agent. Default: false. */
  readonly freeze?: boolean | undefined;
}

/**
 * Created by `createMachine`. Calls are executed one after the other, in their order. Each rejects (`write`
 * throws) with WherryError only; docs/embedding.md says what each does in each state.
 */
export class NodeMachine {
  readonly #machine: HostedMachine;
  readonly #virtio: VirtioBackends;
  readonly #agent: AgentClient | undefined;
  readonly #console: ConsoleTap;
  readonly #guest: Guest | undefined;
  readonly #options: ControlOptions;
  /** Files in the guest. */
  readonly fs: GuestFiles = guestFiles(() => this.#agentGuest());
  /** The guest's network. */
  readonly net: GuestNet = guestNet(
    () => this.#userNetwork(),
    (...place) => nodeNetPlatform(listenReason).connect(...place),
  );
  #control: Promise<MachineControl> | undefined;
  #registered: Registered | undefined;
  #closed: Promise<void> | undefined;

  private constructor(
    machine: HostedMachine,
    virtio: VirtioBackends,
    agent: AgentClient | undefined,
    console: ConsoleTap,
    options: ControlOptions,
  ) {
    this.#options = options;
    this.#machine = machine;
    this.#virtio = virtio;
    this.#agent = agent;
    this.#console = console;
    this.#guest = agent && new Guest(agent, nodePlatform.setTimer);
  }

  /** See createMachine; with `arrival`, it comes by a move. */
  static async create(
    options: MachineOptions,
    arrival?: Pick<IncomingOptions, "onListening"> & { readonly uri: string },
  ): Promise<NodeMachine> {
    if (arrival === undefined) checkOptions("options", options);
    const { state, clock, drives = [], net, rng = false, console, agent, onConsole, ...common } = options;
    const { serialPorts = [], shares, signal, name, ...hosted } = common;
    refuseAborted(signal);
    // A name that another machine has is refused before anything is opened.
    const registered = name === undefined ? undefined : registerMachine(name);
    const path = typeof state === "string" ? state : /^file:([^,]*)$/.exec(arrival?.uri ?? "")?.[1];
    if (arrival === undefined) refuseClock(clock, state);
    const hardware = () =>
      path === undefined ? savedHardware(state as Uint8Array) : savedFileHardware(path);
    const size = await sizeOf(common, (state ?? path) === undefined ? undefined : hardware);
    const randomBytes = randomSource(common, nodePlatform);
    const client = agent === true ? new AgentClient(nodePlatform.setTimer) : undefined;
    const agentPort = client === undefined ? [] : [{ name: AGENT_PORT, backend: client.backend }];
    const ports = [...agentPort, ...serialPorts];
    isSerialPorts("serialPorts", ports);
    const onWarning = safeListener("onWarning", hosted.onWarning ?? warn);
    const virtio = await openVirtio(
      { drives, net, rng, console, serialPorts: ports, shares, randomBytes },
      (message) => void onWarning(message),
      arrival !== undefined,
    );
    const tap = new ConsoleTap();
    const output = (bytes: Uint8Array<ArrayBuffer>): unknown => {
      const read = tap.push(bytes);
      const heard = onConsole?.(bytes);
      return read === undefined ? heard : Promise.all([read, heard]);
    };
    try {
      refuseAborted(signal);
      const incoming = state !== undefined || arrival !== undefined;
      const machine = await HostedMachine.create(
        { onWarning: warn, ...hosted, ...size, incoming, onConsole: output },
        virtio.parts,
        nodePlatform,
      );
      try {
        refuseAborted(signal);
        if (state !== undefined) await load(machine, state, options);
        const { memoryBytes } = size;
        const created = new NodeMachine(machine, virtio, client, tap, {
          ...{ memoryBytes, clock, onWarning, expectsArrival: arrival !== undefined },
        });
        if (registered !== undefined) await created.#takeName(registered, size);
        if (arrival !== undefined) await created.#arrive({ ...arrival, signal });
        // A guest that was saved frozen must not stay so.
        if (incoming) created.#guest?.thaw().catch(() => {});
        return created;
      } catch (error) {
        await machine.close();
        throw error;
      }
    } catch (error) {
      await virtio.close();
      throw error;
    }
  }

  /** The user network that the machine was created with (`net: { user }`). */
  get network(): UserNetwork | undefined {
    return this.#virtio.network;
  }

  /** What the machine does now. */
  get runState(): RunState {
    return this.#machine.runState;
  }
  /**
   * Resolves when the guest has powered off or has crashed, or the machine is closed. Never rejects. A reset
   * after the end begins another life, with another end.
   */
  get ended(): Promise<GuestEnd> {
    return this.#machine.ended;
  }

  // Its life. Calls are executed one after the other. A signal ends the wait for a call's turn; a save and a
  // move that have begun are undone, another call goes on.

  /** Starts or resumes it. No effect if it runs. */
  start(options?: CallOptions): Promise<void> {
    return this.#machine.start(options);
  }
  /** Resolves when all harts have stopped and guest time is frozen. No effect if it does not run. */
  pause(options?: CallOptions): Promise<void> {
    return this.#machine.pause(options);
  }
  /** A system reset: the kernel boots again. A running machine keeps running, another waits for `start`. */
  reset(options?: CallOptions): Promise<void> {
    return this.#machine.reset(options);
  }
  /** Writes input to the guest's serial port: bytes, or text encoded as UTF-8. */
  write(input: string | Uint8Array): void {
    this.#machine.write(input);
  }

  /** Returns a snapshot; the machine then continues. It does not contain the disks. */
  async save(options?: CallOptions): Promise<Uint8Array<ArrayBuffer>> {
    const sink = new MemorySink();
    await this.#machine.save(async () => sink, undefined, options);
    return new Uint8Array(await new Blob([...sink.chunks]).arrayBuffer());
  }
  /** Writes a snapshot to a file, which appears complete or not at all. */
  async saveTo(path: string, options?: CallOptions): Promise<void> {
    isString("path", path);
    await this.#machine.save(() => openFileSink(path), undefined, options);
  }

  /**
   * Writes a snapshot to a file, or returns it without a path. With `freeze`, the guest's file systems are
   * flushed and frozen meanwhile; a machine that is restored from it releases them by itself.
   */
  async snapshot(options?: SnapshotOptions): Promise<Uint8Array<ArrayBuffer>>;
  async snapshot(options: SnapshotOptions & { readonly path: string }): Promise<void>;
  async snapshot({
    path,
    freeze = false,
    signal,
  }: SnapshotOptions & { readonly path?: string | undefined } = {}): Promise<Uint8Array<ArrayBuffer> | void> {
    const guest = freeze ? this.#agentGuest() : undefined;
    try {
      await guest?.freeze({ signal });
    } catch (error) {
      // The guest freezes, or will, all the same.
      const isLate =
        error instanceof AgentError && (error.code === "agent.timeout" || error.code === "agent.aborted");
      if (isLate) void guest?.thaw().catch(() => {});
      throw error;
    }
    try {
      return await (path === undefined ? this.save({ signal }) : this.saveTo(path, { signal }));
    } finally {
      await guest?.thaw();
    }
  }

  /**
   * Moves the machine to where `uri` leads: to `Machine.incoming`, `wherry run --incoming` or QEMU by
   * `tcp:HOST:PORT` or `unix:PATH`, into `file:PATH` or `exec:COMMAND`. When this resolves it runs there, and
   * is to be closed here. When this rejects it is here as before, unless the code is `migration.unresolved`
   * (docs/migration.md).
   */
  async migrate(uri: string, options: MoveOptions = {}): Promise<MoveResult> {
    isString("uri", uri);
    const control = await this.#controlled();
    const result = await insideOf(this.#machine).call(() => control.move(uri, options), options.signal);
    this.#agent?.close();
    return result;
  }

  // The monitor.

  /** Executes a QMP command (docs/qmp.md) and returns its result. Rejects with `qmp.error` if it refuses. */
  async qmp(command: string, args: object = {}): Promise<unknown> {
    const control = await this.#controlled();
    return onlyWherryErrors(() => control.execute(command, args));
  }
  /**
   * Serves QMP at `unix:PATH` or `tcp:HOST:PORT` until the machine is closed, for the command line
   * (`--qmp ADDRESS`) and other clients. Resolves with the address.
   */
  async serveQmp(address: string): Promise<string> {
    const control = await this.#controlled();
    return onlyWherryErrors(() => control.serve(address));
  }
  /** Hears of each event of the machine, as QMP has it. Resolves with what ends that. */
  async onEvent(listener: (event: QmpEvent) => unknown): Promise<() => void> {
    isFunction("listener", listener);
    return (await this.#controlled()).onEvent(listener);
  }
  #controlled(): Promise<MachineControl> {
    if (this.#closed !== undefined) return Promise.reject(closedError());
    // Most machines need none of it.
    this.#control ??= import("./control/machine-control.ts").then((module) =>
      this.#newControl(module.MachineControl),
    );
    return this.#control;
  }
  #newControl(Control: typeof MachineControl): MachineControl {
    const { machine, cpus, perf, disks } = insideOf(this.#machine);
    return new Control({
      ...this.#options,
      ...{ created: { machine, cpus, perf }, disks, platform: nodePlatform },
      ...{ network: this.network, agent: this.#agent, version: packageVersion() },
      quit: () => void this.close().catch(() => {}),
    });
  }
  async #arrive(arrival: Arrival): Promise<void> {
    const control = await this.#controlled();
    try {
      await control.arrive(arrival);
    } catch (error) {
      this.#registered?.remove();
      await control.close();
      throw error;
    }
  }
  async #takeName(registered: Registered, size: { readonly harts: number; readonly memoryBytes: number }) {
    const control = await this.#controlled();
    try {
      await control.serve(`unix:${registered.qmp}`);
      registered.publish(size);
      this.#registered = registered;
    } catch (error) {
      await control.close();
      throw error;
    }
  }

  // The guest, by its agent (docs/guest-agent.md).

  /** Runs a command in the guest to its end. Rejects with AgentError. */
  async exec(command: string, options: ExecOptions = {}): Promise<ExecResult> {
    return this.#agentGuest().exec(command, options);
  }
  /** Starts a command in the guest, with streams or on a terminal (`pty`). Rejects with AgentError. */
  async spawn(command: string, options: SpawnOptions = {}): Promise<SpawnedCommand> {
    const process = await this.#agentGuest().spawn(command, options);
    const spawned = spawnedCommand(process, options);
    const { input } = options;
    if (input !== undefined) {
      await process.write(typeof input === "string" ? Buffer.from(input) : input);
      await process.endInput();
    }
    return spawned;
  }
  /**
   * Waits for a command that was started before the machine was saved or moved here, by its pid; `exec` gives
   * its output, unless it was started by `spawn`. Rejects with AgentError.
   */
  async attach(pid: number, options: Pick<ExecOptions, "signal" | "timeoutMs"> = {}): Promise<ExecResult> {
    return this.#agentGuest().attach(pid, options);
  }
  /** Sends one command of the agent's protocol, and returns its result. Rejects with AgentError. */
  async agentCommand(command: string, args: object = {}, options: AgentOptions = {}): Promise<unknown> {
    return this.#agentGuest().agent.execute(command, args, options);
  }
  /** Sets the guest's clocks, after a restore for example. Default: this host's time. */
  async setTime(time: Date = new Date(), options: AgentOptions = {}): Promise<void> {
    await this.#agentGuest().setTime(time.getTime(), options);
  }
  /** The guest's network interfaces and their addresses. */
  async interfaces(options: AgentOptions = {}): Promise<GuestInterface[]> {
    return this.#agentGuest().interfaces(options);
  }
  /** Asks the guest to power off, and resolves when it has. */
  async shutdown(options: AgentOptions = {}): Promise<GuestEnd> {
    const { ended } = this;
    // A guest that obeys does not answer.
    const refused = this.agentCommand("guest-shutdown", { mode: "powerdown" }, options).then(
      () => ended,
      (error: unknown) => {
        const code = error instanceof AgentError ? error.code : "";
        if (code === "agent.restarted" || code === "agent.closed") return ended;
        throw error;
      },
    );
    return abortableByAgent(Promise.race([ended, refused]), options.signal);
  }
  #userNetwork(): UserNetwork {
    if (this.network !== undefined) return this.network;
    throw new WherryError(
      "machine.network",
      "the machine has no user network of its own: create it with net: { user: {} }",
    );
  }
  #agentGuest(): Guest {
    if (this.#guest !== undefined) return this.#guest;
    throw new AgentError(
      "agent.missing",
      "the machine has no port for a guest agent: create it with agent: true",
    );
  }

  /** The guest's serial console as web streams. */
  get console(): ConsoleStreams {
    return this.#console.streams((input) => this.write(input));
  }

  /** `close`, at the end of an `await using` block. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** After the calls under way: ends the harts, releases disks and network. Only `close` may follow. */
  close(): Promise<void> {
    this.#closed ??= onlyWherryErrors(() => this.#close());
    return this.#closed;
  }
  async #close(): Promise<void> {
    this.#agent?.close();
    this.#registered?.remove();
    // It ends a move under way, for which the machine waits.
    const control = this.#control?.then((one) => one.close());
    try {
      await insideOf(this.#machine).close(control);
      await control;
    } finally {
      this.#console.close();
      await this.#virtio.close();
    }
  }
}

function warn(message: string): void {
  process.emitWarning(message, "WherryWarning");
}

async function load(
  machine: HostedMachine,
  state: string | Uint8Array,
  { clock, signal }: MachineOptions,
): Promise<void> {
  const channel = typeof state === "string" ? await openFileSource(state) : pieceChannel([state]);
  try {
    await machine.load(channel, clock, { signal });
  } finally {
    await channel.close();
  }
}

/**
 * Creates a machine, in its reset state (`start` runs it) or as saved. Rejects with WherryError if the
 * options, the files or the state are wrong; then nothing is left open.
 */
export async function createMachine(options: MachineOptions): Promise<NodeMachine> {
  requireNode();
  return onlyWherryErrors(() => NodeMachine.create(options));
}

/** A machine with Debian. Default: one hart, 512 MiB, an agent, entropy, a user network. */
export interface DebianOptions
  extends DebianChoice,
    Omit<MachineOptions, "state" | "clock" | "kernel" | "initrd" | "firmware"> {}

const DEBIAN_CHECKS: Checks<DebianChoice> = {
  ...{ root: isOneOf("disk", "ramdisk"), include: isListOf(isString), disk: isString },
  ...{ diskBytes: isWhole(1 << 20, Number.MAX_SAFE_INTEGER), suite: isString, mirror: isString },
  ...{ cache: isString, onProgress: isFunction },
};

async function createDebian(options: DebianOptions): Promise<NodeMachine> {
  isOptions({ ...CHECKS, ...DEBIAN_CHECKS })("options", options);
  const { root, include, disk, diskBytes, suite, mirror, cache, onProgress, ...machine } = options;
  const { debianParts } = await import("./debian/debian-parts.ts");
  const choice = { root, include, disk, diskBytes, suite, mirror, cache, onProgress };
  const { signal, append, drives = [] } = machine;
  const parts = await debianParts(choice, (once) => bootOnce(once, signal), signal);
  return createMachine({
    ...{ agent: true, rng: true, net: { user: {} } },
    ...machine,
    ...{ harts: machine.harts ?? 1, memoryBytes: machine.memoryBytes ?? 512 << 20 },
    ...{ kernel: parts.kernel, initrd: parts.initrd },
    append: append === undefined ? parts.append : `${parts.append} ${append}`,
    drives: [...(parts.disk === undefined ? [] : [{ ...parts.disk, readonly: false }]), ...drives],
  });
}

/** Runs a guest that powers off by itself, and returns its console's output. */
async function bootOnce({ disk, ...parts }: DebianParts, signal: CallOptions["signal"]): Promise<string> {
  let text = "";
  await using machine = await createMachine({
    ...{ harts: 2, memoryBytes: 1 << 30, rng: true, ...parts, signal },
    drives: disk === undefined ? [] : [{ ...disk, format: "raw", readonly: false }],
    onConsole: (bytes) => void (text += Buffer.from(bytes).toString("latin1")),
  });
  await machine.start();
  await abortable(machine.ended, signal);
  return text.replaceAll("\r", "");
}

/** Ways to get a machine. */
export const Machine: {
  /** See createMachine. */
  create(options: MachineOptions): Promise<NodeMachine>;
  /** From a snapshot: its path or its bytes. Its devices are those that it was created with. */
  restore(state: string | Uint8Array, options?: Omit<MachineOptions, "state">): Promise<NodeMachine>;
  /**
   * Waits for a machine at `tcp:HOST:PORT` or `unix:PATH`, which `migrate` sends, or reads it from
   * `file:PATH` or `exec:COMMAND`. Resolves when it has arrived.
   */
  incoming(uri: string, options: IncomingOptions): Promise<NodeMachine>;
  /**
   * Debian for riscv64, not started: from the cache, or fetched from a mirror and built at the first use,
   * which takes seconds for `ramdisk` and minutes for `disk`.
   */
  debian(options?: DebianOptions): Promise<NodeMachine>;
} = {
  create: createMachine,
  restore: (state, options = {}) => createMachine({ ...options, state }),
  async debian(options = {}) {
    requireNode();
    return onlyWherryErrors(() => createDebian(options));
  },
  async incoming(uri, options) {
    requireNode();
    return onlyWherryErrors(async () => {
      isString("uri", uri);
      checkIncoming("options", options);
      const { onListening, ...machine } = options;
      return NodeMachine.create(machine, { uri, onListening });
    });
  },
};
