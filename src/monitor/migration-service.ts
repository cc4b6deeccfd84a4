// Migration of one machine: outgoing moves, an arrival, snapshots, and their parameters. The platform injects
// the transport that opens channels; the protocol on a channel is in ../migration.
import { messageOf } from "../base/errors.ts";
import type { Channel, SnapshotSink } from "../stream/channel.ts";
import { type Autostart, endArrival } from "../migration/load/arrival.ts";
import { MigrationDestination } from "../migration/load/move-destination.ts";
import {
  defaultEnvironment,
  type MigrationEnvironment,
} from "../migration/environment/migration-environment.ts";
import { StallWatch, watchReads } from "../migration/environment/stall-watch.ts";
import type { MigrationProgress } from "../migration/save/move-progress.ts";
import { loadSnapshot, saveSnapshot } from "../migration/snapshot/snapshot.ts";
import {
  defaultParameters,
  type MigrationChange,
  type MigrationOptions,
  type RamCapabilities,
  type MigrationParameters,
  type OutgoingMove,
} from "../migration/save/outgoing-move.ts";
import { migrateOut } from "../migration/save/move-source.ts";
import { requireLoadable } from "../migration/save/move-without-go.ts";
import { QemuMove } from "../migration/save/qemu-move.ts";
import { SinkMove } from "../migration/save/sink-move.ts";
import type { Machine, RestoreClock } from "../vmm/machine.ts";
import type { QemuProfile } from "../vmm/qemu-profile.ts";
import type { MigrationAddress } from "./migration-address.ts";
import type {
  ArrivalInfo,
  Decision,
  Explanation,
  MigrationControl,
  SaveProgress,
} from "./migration-control.ts";
import { QmpError } from "./qapi.ts";

export type SocketMigrationAddress = Extract<MigrationAddress, { transport: "tcp" | "unix" }>;
/** Files and commands: one-way streams without replies. */
export type StreamMigrationAddress = Exclude<MigrationAddress, SocketMigrationAddress>;

export interface MigrationListener {
  /** The requested address; port 0 is replaced by the assigned port. */
  readonly address: SocketMigrationAddress;
  close(): Promise<void>;
}

/** The platform's channels. Every method rejects with a WherryError that names the address. */
export interface MigrationTransport {
  connect(address: SocketMigrationAddress): Promise<Channel>;
  listen(address: SocketMigrationAddress, onChannel: (channel: Channel) => void): Promise<MigrationListener>;
  openSource(address: StreamMigrationAddress): Promise<Channel>;
  openSink(address: StreamMigrationAddress): Promise<SnapshotSink>;
}

export interface MigrationServiceOptions {
  readonly transport: MigrationTransport;
  /** The machine waits for its state: `incoming` may be called once. */
  readonly expectsArrival: boolean;
  /** False: a machine stays stopped once it has arrived, unless `decideStart` says otherwise. */
  readonly autostart: boolean;
  /** Guest time of a machine that arrives from a file or command. Default: `stop`. */
  readonly clock?: RestoreClock | undefined;
  /** Hears of what could not be done as asked. */
  readonly onWarning?: (message: string) => void;
  /** The platform's part of a move. Default: the functions that all platforms have. */
  readonly environment?: MigrationEnvironment;
  /**
   * The arrival has ended; without an error, the machine is here. Not called for a failure if the command
   * said `exit-on-error` false.
   */
  readonly onArrival: (error?: Error) => void;
  /** A connection to the listener was dropped; it goes on accepting. */
  readonly onDropped?: (reason: Error) => void;
}

export class MigrationService implements MigrationControl {
  readonly parameters: MigrationParameters = { ...defaultParameters };
  saving: SaveProgress | undefined;
  readonly #machine: Machine;
  readonly #options: MigrationServiceOptions;
  readonly #environment: MigrationEnvironment;
  readonly #listeners: ((change: MigrationChange) => void)[] = [];
  readonly #capabilities = new Map([
    ["events", false],
    ["return-path", true],
    ["multifd", false],
    ["mapped-ram", false],
  ]);
  #source: OutgoingMove | undefined;
  #profile: QemuProfile | undefined;
  #destination: MigrationDestination | undefined;
  #arrival: ArrivalInfo | undefined;
  #autostart: Autostart;
  #exitOnError = true;
  #listener: MigrationListener | undefined;
  /** The channel of the snapshot under way, in or out. */
  #file: Channel | undefined;
  #fileWork: Promise<unknown> = Promise.resolve();
  #closing: Error | undefined;

  constructor(machine: Machine, options: MigrationServiceOptions) {
    this.#machine = machine;
    this.#options = options;
    this.#environment = options.environment ?? defaultEnvironment;
    this.#autostart = options.autostart ? "as-saved" : "never";
  }

  decideStart(runs: boolean): void {
    this.#autostart = runs ? "always" : "never";
    if (this.#destination !== undefined) this.#destination.autostart = this.#autostart;
  }

  /** The return path carries the acknowledgement that every move needs: it cannot be switched off. */
  get capabilities(): ReadonlyMap<string, boolean> {
    return this.#capabilities;
  }
  setCapability(name: string, on: boolean): void {
    if (name === "return-path" && !on) throw new QmpError(`Capability ${name} is always on`);
    this.#capabilities.set(name, on);
  }
  #has(capability: string): boolean {
    return this.#capabilities.get(capability) === true;
  }

  setParameters(parameters: Partial<MigrationParameters>): void {
    Object.assign(this.parameters, parameters);
  }

  query(): MigrationProgress | ArrivalInfo | undefined {
    return this.#source?.progress ?? this.#arrival;
  }

  /** The last move from here. */
  get outgoing(): OutgoingMove | undefined {
    return this.#source;
  }

  onChange(listener: (change: MigrationChange) => void): void {
    this.#listeners.push(listener);
  }
  #changed(change: MigrationChange): void {
    for (const listener of this.#listeners) listener(change);
  }

  get profiles(): readonly string[] {
    return this.#machine.qemu?.names ?? [];
  }
  get profile(): string | undefined {
    return this.#profile?.name;
  }
  set profile(name: string | undefined) {
    this.#profile = name === undefined ? undefined : this.#profileNamed(name);
  }
  #profileNamed(name: string): QemuProfile {
    if (!this.profiles.includes(name) || this.#machine.qemu === undefined) {
      throw new QmpError(`There is no profile '${name}': expected ${this.profiles.join(", ") || "none"}`);
    }
    return this.#machine.qemu.profile(name);
  }

  async explain(name: string): Promise<Explanation> {
    const profile = this.#profileNamed(name);
    return { refusals: await profile.refusals(), ...profile.commandLines() };
  }

  async start(address: MigrationAddress, profileName?: string): Promise<void> {
    await this.#start(address, profileName, this.parameters);
  }
  async #start(
    address: MigrationAddress,
    profileName: string | undefined,
    parameters: MigrationParameters,
  ): Promise<void> {
    const profile = profileName === undefined ? this.#profile : this.#profileNamed(profileName);
    const capabilities = { multifd: this.#has("multifd"), mappedRam: this.#has("mapped-ram") };
    refuseCapabilities(capabilities, address, profile);
    const options: MigrationOptions = {
      capabilities,
      parameters,
      environment: this.#environment,
      onChange: (change) => this.#changed(change),
    };
    const { transport } = this.#options;
    if (profile !== undefined) await requireLoadable(profile);
    this.#refuseClosing();
    if (isSocket(address)) {
      const connect = () => transport.connect(address);
      this.#source =
        profile === undefined
          ? migrateOut(this.#machine, connect, options)
          : new QemuMove(this.#machine, connect, profile, options);
    } else {
      const kind = address.transport === "file" ? "file" : "command";
      const target = { kind, open: () => transport.openSink(address) } as const;
      this.#source = new SinkMove(this.#machine, target, profile, options);
    }
    this.#changed({ event: "status", status: "setup" });
  }

  cancel(): void {
    this.#source?.cancel();
  }

  async decide(decision: Decision): Promise<void> {
    if (this.#source === undefined)
      throw new QmpError("No migration has been started: there is nothing to decide");
    const { error, status } = await this.#source.decide(decision);
    if (status === "unresolved") throw new QmpError(error?.message ?? "The move is still not resolved");
  }

  async save(path: string, profileName?: string, mappedRam?: boolean): Promise<void> {
    const profile = profileName === undefined ? undefined : this.#profileNamed(profileName);
    const isMappedRam = mappedRam ?? this.#has("mapped-ram");
    if (isMappedRam) refuseMappedRam(profile);
    if (this.saving !== undefined) throw new QmpError("The machine is being saved already");
    this.#refuseClosing();
    this.saving = { donePages: 0, totalPages: 0 };
    const openSink = async () => {
      const sink = await this.#options.transport.openSink({ transport: "file", path, offset: 0 });
      this.#file = sink.channel;
      if (this.#closing !== undefined) sink.channel.abort(this.#closing);
      return sink;
    };
    const progress = (donePages: number, totalPages: number) => {
      this.saving = { donePages, totalPages };
    };
    const work = async () => {
      if (profile !== undefined) await requireLoadable(profile);
      await saveSnapshot(this.#machine, openSink, this.#environment, progress, profile, isMappedRam);
    };
    this.#fileWork = work().finally(() => {
      this.saving = undefined;
    });
    await this.#fileWork;
  }

  /**
   * Moves the machine into a file, as fast as that goes: it is stopped after the first round. Rejects with
   * MigrationError; then it runs here.
   */
  async store(path: string): Promise<void> {
    const parameters = { ...this.parameters, downtimeLimitMs: Infinity, maxBandwidthBytesPerSecond: 0 };
    await this.#start({ transport: "file", path, offset: 0 }, undefined, parameters);
    const { status, error } = await (this.#source as OutgoingMove).done;
    if (status !== "completed") throw error ?? new Error(`the move into ${path} is ${status}`);
  }

  async incoming(address: MigrationAddress, exitOnError = true): Promise<void> {
    if (!this.#options.expectsArrival)
      throw new QmpError("'-incoming' was not specified on the command line");
    if (this.#arrival !== undefined) throw new QmpError("The incoming migration has already been started");
    this.#refuseClosing();
    if (isSocket(address) && this.#options.clock === "host")
      throw new QmpError("--clock host is for a saved machine: a live move has no time to add");
    this.#arrival = { status: "setup", listening: address };
    this.#exitOnError = exitOnError;
    try {
      if (isSocket(address)) await this.#receive(address);
      else {
        const channel = await this.#options.transport.openSource(address);
        this.#file = channel;
        if (this.#closing !== undefined) channel.abort(this.#closing);
        this.#fileWork = this.#load(channel, address);
      }
    } catch (error) {
      // Nothing has started: another address may be tried.
      this.#arrival = undefined;
      throw error;
    }
  }

  async #load(channel: Channel, listening: MigrationAddress): Promise<void> {
    this.#arriving("active", listening);
    const source = listening.transport === "exec" ? this.#watchCommand(channel) : channel;
    try {
      const { clock, onWarning } = this.#options;
      const { runState, warning } = await loadSnapshot(this.#machine, source, clock);
      if (warning !== undefined) onWarning?.(warning);
      await channel.close();
      await endArrival(this.#machine, runState, this.#autostart);
      this.#arriving("completed", listening);
    } catch (error) {
      channel.abort(error instanceof Error ? error : new Error(String(error)));
      this.#arriving("failed", listening, error);
    }
  }

  /** A command may wait as long as it likes for its first byte: for a password, or for its own peer. */
  #watchCommand(channel: Channel): Channel {
    let watch: StallWatch | undefined;
    const limit = () => this.parameters.stallTimeoutMs;
    const read = async (target: Uint8Array) => {
      const length = await channel.read(target);
      watch ??= new StallWatch(this.#environment, "command", limit);
      return length;
    };
    return watchReads({ ...channel, read }, () => watch);
  }

  async #receive(address: SocketMigrationAddress): Promise<void> {
    const destination = new MigrationDestination(this.#machine, {
      autostart: this.#autostart,
      environment: this.#environment,
      multifd: { required: this.#has("multifd"), channels: this.parameters.multifdChannels },
      stallTimeoutMs: () => this.parameters.stallTimeoutMs,
      onChange: (state, dropped) => {
        const status = state === "listening" ? "setup" : state === "loading" ? "active" : undefined;
        if (status !== undefined && status !== this.#arrival?.status)
          this.#arriving(status, listener.address);
        if (dropped === undefined) return;
        if (state === "listening")
          this.#arrival = { status: "setup", listening: listener.address, error: dropped.message };
        this.#options.onDropped?.(dropped);
      },
    });
    this.#destination = destination;
    const listener = await this.#options.transport.listen(
      address,
      (channel) => void destination.accept(channel),
    );
    if (this.#closing !== undefined) {
      await listener.close();
      throw this.#closing;
    }
    this.#listener = listener;
    this.#arriving("setup", listener.address);
    void destination.done.then(({ status, error }) => {
      this.#arriving(status === "arrived" ? "completed" : "failed", listener.address, error);
    });
    void destination.released.then(() => this.#stopListening());
  }

  #arriving(status: ArrivalInfo["status"], listening: MigrationAddress, error?: unknown): void {
    this.#arrival = { status, listening, ...(error === undefined ? {} : { error: messageOf(error) }) };
    this.#changed({ event: "status", status });
    if (status === "completed") {
      if (error !== undefined) this.#options.onWarning?.(messageOf(error));
      this.#options.onArrival();
    } else if (status === "failed" && this.#exitOnError) {
      this.#options.onArrival(error instanceof Error ? error : new Error(messageOf(error)));
    }
  }

  /** Ends an arrival, which then fails, unless the machine is here, or will be: that is waited for. */
  async giveUpArrival(): Promise<void> {
    const why = "the arrival was given up";
    this.#file?.abort(new Error(why));
    await this.#fileWork.catch(() => {});
    if (this.#destination?.giveUp(why) === true) await this.#stopListening();
    else await this.#destination?.done;
  }

  #refuseClosing(): void {
    if (this.#closing !== undefined) throw new QmpError("The machine is being closed");
  }

  /**
   * This process is about to end. Aborts what is under way and leaves no half-written file, and no machine at
   * a destination while the source resumes, or the reverse. Never rejects.
   */
  async close(): Promise<void> {
    this.#closing = new Error("this process is ending");
    this.#autostart = "never";
    this.#file?.abort(this.#closing);
    await this.#fileWork.catch(() => {});
    if (this.#source?.cancel() === true) await this.#source.done;
    this.#destination?.abort();
    await this.#stopListening();
  }

  async #stopListening(): Promise<void> {
    await this.#listener?.close();
    this.#listener = undefined;
  }
}

function isSocket(address: MigrationAddress): address is SocketMigrationAddress {
  return address.transport === "tcp" || address.transport === "unix";
}

/**
 * Refuses capabilities that do not apply to the profile and address. Wherry's own protocol has neither: it
 * hashes its pages in one stream.
 */
function refuseCapabilities(
  { multifd, mappedRam }: RamCapabilities,
  address: MigrationAddress,
  profile: QemuProfile | undefined,
): void {
  if (mappedRam) {
    if (address.transport !== "file") throw new QmpError("Migration requires seekable transport (e.g. file)");
    refuseMappedRam(profile);
  } else if (multifd) {
    if (profile === undefined) throw new QmpError(`Capability multifd ${FOR_QEMU}`);
    if (!isSocket(address)) throw new QmpError("Capability multifd needs tcp: or unix:, or mapped-ram too");
  }
}

function refuseMappedRam(profile: QemuProfile | undefined): void {
  if (profile === undefined) throw new QmpError(`Capability mapped-ram ${FOR_QEMU}`);
  if (!profile.switchoverStart)
    throw new QmpError(`Capability mapped-ram is not known to ${profile.name}: it came with 9.0`);
}

const FOR_QEMU = "is for QEMU: name the release it is to load in as x-wherry-profile";
