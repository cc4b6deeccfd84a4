// Entry `wherry/node`: machines in a Node process. The calling thread becomes the VMM's: do not block it for
// long. Moves and QMP belong to the command line (`wherry run --qmp …`).
import {
  type Checks,
  expecting,
  HOSTED_CHECKS,
  isBoolean,
  isCharBackend,
  isListOf,
  isOneOf,
  isOptions,
  isSerialPorts,
  isString,
} from "../embed/check-options.ts";
import { randomSource } from "../embed/create-machine.ts";
import {
  HostedMachine,
  type HostedMachineOptions,
  onlyWherryErrors,
  refuseClock,
} from "../embed/hosted-machine.ts";
import type { GuestEnd } from "../embed/machine-end.ts";
import { MemorySink, pieceChannel } from "../embed/memory-snapshot.ts";
import type { UserNetwork } from "../usernet/user-network.ts";
import type { RestoreClock } from "../vmm/machine.ts";
import type { RunState } from "../vmm/run-state.ts";
import { savedHardware, sizeOf } from "../embed/saved-hardware.ts";
import { OWNER_MODELS } from "../share/file-tree.ts";
import type { ShareSpec } from "./share/host-share.ts";
import { openFileSink, openFileSource } from "./node-channels.ts";
import { isNetSpec } from "./net-platform/net-check.ts";
import { nodePlatform } from "./node-platform.ts";
import { savedFileHardware } from "./saved-file.ts";
import { requireNode } from "./node-version.ts";
import { type DriveSpec, openVirtio, type VirtioBackends, type VirtioSpec } from "./virtio-backends.ts";

export { WherryError } from "../base/errors.ts";
export type { NetBackend } from "../devices/virtio/net-backend.ts";
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
} from "../usernet/net-platform.ts";
export type { Neighbour } from "../usernet/guest-link.ts";
export type { UserNetConnection, UserNetMemory, UserNetwork } from "../usernet/user-network.ts";
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
};
const checkOptions = isOptions(CHECKS);

/**
 * Created by `createMachine`. Calls are executed one after the other, in their order. Each rejects (`write`
 * throws) with WherryError only; docs/embedding.md says what each does in each state.
 */
export class NodeMachine {
  readonly #machine: HostedMachine;
  readonly #virtio: VirtioBackends;
  #closed: Promise<void> | undefined;

  private constructor(machine: HostedMachine, virtio: VirtioBackends) {
    this.#machine = machine;
    this.#virtio = virtio;
  }

  /** See createMachine. */
  static async create(options: MachineOptions): Promise<NodeMachine> {
    checkOptions("options", options);
    const { state, clock, drives = [], net, rng = false, console, serialPorts, shares, ...common } = options;
    refuseClock(clock, state);
    const hardware = () =>
      typeof state === "string" ? savedFileHardware(state) : savedHardware(state as Uint8Array);
    const size = await sizeOf(common, state === undefined ? undefined : hardware);
    const randomBytes = randomSource(common, nodePlatform);
    const { onWarning = warn } = common;
    const virtio = await openVirtio(
      { drives, net, rng, console, serialPorts, shares, randomBytes },
      (message) => onWarning(message),
    );
    try {
      const incoming = state !== undefined;
      const machine = await HostedMachine.create(
        { onWarning: warn, ...common, ...size, incoming },
        virtio.parts,
        nodePlatform,
      );
      try {
        if (state !== undefined) await load(machine, state, clock);
        return new NodeMachine(machine, virtio);
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

  /** Starts or resumes it. No effect if it runs. */
  start(): Promise<void> {
    return this.#machine.start();
  }
  /** Resolves when all harts have stopped and guest time is frozen. No effect if it does not run. */
  pause(): Promise<void> {
    return this.#machine.pause();
  }
  /** A system reset: the kernel boots again. A running machine keeps running, another waits for `start`. */
  reset(): Promise<void> {
    return this.#machine.reset();
  }
  /** Writes input to the guest's serial port: bytes, or text encoded as UTF-8. */
  write(input: string | Uint8Array): void {
    this.#machine.write(input);
  }

  /** Returns a snapshot; the machine then continues. It does not contain the disks. */
  async save(): Promise<Uint8Array<ArrayBuffer>> {
    const sink = new MemorySink();
    await this.#machine.save(async () => sink);
    return new Uint8Array(await new Blob([...sink.chunks]).arrayBuffer());
  }
  /** Writes a snapshot to a file, which appears complete or not at all. */
  async saveTo(path: string): Promise<void> {
    isString("path", path);
    await this.#machine.save(() => openFileSink(path));
  }

  /** After the calls under way: ends the harts, releases disks and network. Only `close` may follow. */
  close(): Promise<void> {
    this.#closed ??= onlyWherryErrors(() => this.#close());
    return this.#closed;
  }
  async #close(): Promise<void> {
    try {
      await this.#machine.close();
    } finally {
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
  clock: RestoreClock | undefined,
): Promise<void> {
  const channel = typeof state === "string" ? await openFileSource(state) : pieceChannel([state]);
  try {
    await machine.load(channel, clock);
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
