// The virtio devices of a machine in Node and their backends: disk images, a network connection, entropy,
// shared directories.
import type { CharBackend } from "../devices/char-backend.ts";
import type { SerialPort } from "../devices/virtio/virtio-console.ts";
import type { VirtioParts } from "../embed/virtio-parts.ts";
import type { SavedShare } from "../share/share-state.ts";
import { type FileBlock, openFileBlock } from "./file-block.ts";
import type { ShareSpec } from "./share/host-share.ts";
import { listenReason, systemReason } from "./channels/system-reason.ts";
import { randomBytes } from "./node-runtime.ts";
import type { UserNetwork } from "../usernet/user-network.ts";
import type { NetSpec } from "./net-platform/net-spec.ts";
import { SocketNet } from "./net-platform/socket-net.ts";

/** A disk. */
export interface DriveSpec {
  /** The path of a disk image, or its http: or https: address; its disk's size is a multiple of 512 bytes. */
  readonly file: string;
  /** Default: `auto`, by its first bytes. A raw image that was found so cannot get a qcow2 header. */
  readonly format?: "raw" | "qcow2" | "auto" | undefined;
  /** The guest cannot write to it, and several machines may have it. */
  readonly readonly: boolean;
  /** What the guest writes is kept in a temporary file and forgotten at the end. Default: false. */
  readonly snapshot?: boolean | undefined;
  /** Read it even while another process writes it; only with `readonly`. Default: false. */
  readonly forceShare?: boolean | undefined;
  /** Take QEMU's image lock; without it, nothing keeps others from writing the image. Default: true. */
  readonly locking?: boolean | undefined;
  /** Continue a saved machine even if the disk is not as it was then. Default: false. */
  readonly forceChanged?: boolean | undefined;
}

/** A machine's virtio devices, in the order of their slots. */
export interface VirtioSpec {
  readonly drives: readonly DriveSpec[];
  readonly net: NetSpec | undefined;
  /** An entropy source. */
  readonly rng: boolean;
  /** The console's backend. Default: there is no console. */
  readonly console?: CharBackend | undefined;
  /** Named serial ports, which the guest finds in /dev/virtio-ports. Default: none. */
  readonly serialPorts?: readonly SerialPort[] | undefined;
  /** Shared directories. Default: none. */
  readonly shares?: readonly ShareSpec[] | undefined;
  /** The source of the entropy device. Default: the host's randomness. */
  readonly randomBytes?: ((length: number) => Uint8Array) | undefined;
}

export interface VirtioBackends {
  readonly parts: VirtioParts;
  /** The user network that was opened for the machine. */
  readonly network?: UserNetwork | undefined;
  close(): Promise<void>;
}

/**
 * Opens the devices' backends; rejects with WherryError, and then nothing is left open. The order (drives,
 * network, entropy, console, serial ports, shares) determines the slots, so both ends of a move must agree.
 * `isAwaiting`: a machine is to arrive, whose source may still run.
 */
export async function openVirtio(
  spec: VirtioSpec,
  onWarning?: (message: string) => void,
  isAwaiting = false,
): Promise<VirtioBackends> {
  const drives: FileBlock[] = [];
  const shares: SavedShare[] = [];
  let net: VirtioParts["net"];
  let network: UserNetwork | undefined;
  const open: (() => void | Promise<void>)[] = [];
  const close = async () => {
    const closed = await Promise.allSettled(open.splice(0).map(async (one) => one()));
    for (const one of closed) if (one.status === "rejected") throw one.reason as Error;
  };
  try {
    for (const { file, ...options } of spec.drives) {
      const backend = await openFileBlock({ path: file, ...options });
      open.push(() => backend.close());
      drives.push(backend);
    }
    if (spec.net !== undefined) {
      const opened = await openNet(spec.net, isAwaiting, onWarning);
      open.push(opened.close);
      net = { backend: opened.backend, mac: spec.net.mac, saved: opened.saved };
      network = opened.network;
    }
    for (const share of spec.shares ?? []) {
      // Most machines need none of it.
      const { openShare } = await import("./share/host-share.ts");
      const opened = await openShare(share, systemReason, onWarning);
      open.push(() => opened.server.close());
      shares.push(opened);
    }
  } catch (error) {
    await close();
    throw error;
  }
  const bytes = spec.randomBytes ?? randomBytes;
  const random = spec.rng ? (target: Uint8Array) => target.set(bytes(target.length)) : undefined;
  return {
    parts: { drives, net, random, console: spec.console, serialPorts: spec.serialPorts, shares },
    network,
    close,
  };
}

interface OpenedNet extends Pick<NonNullable<VirtioParts["net"]>, "backend" | "saved"> {
  readonly network?: UserNetwork | undefined;
  readonly close: () => void | Promise<void>;
}

async function openNet(
  spec: NetSpec,
  isAwaiting: boolean,
  onWarning?: (message: string) => void,
): Promise<OpenedNet> {
  const noClose = (): void => {};
  if ("mode" in spec) {
    const address = spec.path === undefined ? { host: spec.host, port: spec.port } : { path: spec.path };
    const backend =
      spec.mode === "listen" ? await SocketNet.listen(address, listenReason) : SocketNet.connect(address);
    return { backend, close: () => backend.close() };
  }
  // Most machines need none of it.
  const { endOf, isUserNetwork, openNetwork } = await import("./user-net.ts");
  if (!("backend" in spec)) return openNetwork(spec, isAwaiting, onWarning);
  const { backend } = spec;
  return isUserNetwork(backend) ? { ...endOf(backend), close: noClose } : { backend, close: noClose };
}
