// A machine's virtio devices by what is behind each: disks, a network card, an entropy source, a console,
// named serial ports, shares. The order here decides their slots, so both sides of a move must have the same
// parts.
import { WherryError } from "../base/errors.ts";
import type { CharBackend } from "../devices/char-backend.ts";
import type { BlockBackend } from "../devices/virtio/block-backend.ts";
import type { NetBackend } from "../devices/virtio/net-backend.ts";
import { VirtioBlk } from "../devices/virtio/virtio-blk.ts";
import { type SerialPort, VirtioConsole } from "../devices/virtio/virtio-console.ts";
import { VirtioNet } from "../devices/virtio/virtio-net.ts";
import { VirtioRng } from "../devices/virtio/virtio-rng.ts";
import { type Service9p, Virtio9p } from "../devices/virtio/virtio-9p.ts";
import { forgottenNetwork } from "../usernet/saved-network.ts";
import type { SavedPart, VirtBackends, VirtShare } from "../machines/virt.ts";

/** The backends of a machine's virtio devices. At most eight devices, in the order of these properties. */
export interface VirtioParts {
  /** One disk each. */
  readonly drives?: readonly BlockBackend[] | undefined;
  /** A network card; `mac`: its address, six bytes. Default: QEMU's, or that of the state that is loaded. */
  readonly net?: NetPart | undefined;
  /** An entropy source: fills `target` with unpredictable bytes. */
  readonly random?: ((target: Uint8Array) => void) | undefined;
  /** What a console is connected to. */
  readonly console?: CharBackend | undefined;
  /** Named serial ports, which the guest finds in /dev/virtio-ports: one device for all, 30 at most. */
  readonly serialPorts?: readonly SerialPort[] | undefined;
  /** Shared directories. */
  readonly shares?: readonly SharePart[] | undefined;
}

/** What a network card is connected to, and what of it is saved with the machine. */
export interface NetPart {
  readonly backend: NetBackend;
  readonly mac?: Uint8Array | undefined;
  readonly saved?: SavedPart | undefined;
}

/** A share's server, and what of it is saved with the machine. */
export interface SharePart extends VirtShare {
  readonly server: Service9p;
}

/** A disk that can grow while its guest runs. */
export interface LiveDisk {
  /** As QEMU names it: `virtio0` is the first. */
  readonly name: string;
  readonly sizeBytes: number;
  /** Changes the size and tells the guest. Rejects with WherryError if the backend cannot. */
  resize(sizeBytes: number): Promise<void>;
}

/** What is plugged into a board besides its serial port. */
export type VirtioDevices = Pick<VirtBackends, "virtio" | "drives" | "shares" | "network"> & {
  readonly disks: readonly LiveDisk[];
};

export function virtioDevices(parts: VirtioParts): VirtioDevices {
  const { drives = [], net, random, console, serialPorts = [], shares = [] } = parts;
  const virtio: NonNullable<VirtioDevices["virtio"]>[number][] = [];
  const disks = drives.map((backend, i) => {
    let device: VirtioBlk | undefined;
    virtio.push((board) => (device = new VirtioBlk(board, { backend })));
    return liveDisk(`virtio${i}`, backend, () => device?.resized());
  });
  if (net !== undefined) virtio.push((board) => new VirtioNet(board, net));
  if (random !== undefined) virtio.push((board) => new VirtioRng(board, { random }));
  if (console !== undefined) virtio.push((board) => new VirtioConsole(board, { backend: console }));
  if (serialPorts.length > 0) virtio.push((board) => new VirtioConsole(board, { ports: serialPorts }));
  for (const { server } of shares) virtio.push((board) => new Virtio9p(board, server));
  const network = net && { section: net.saved?.section ?? forgottenNetwork(), owned: net.saved };
  return { virtio, drives, shares, network, disks };
}

const liveDisk = (name: string, backend: BlockBackend, resized: () => void): LiveDisk => ({
  name,
  get sizeBytes() {
    return backend.sizeBytes;
  },
  async resize(sizeBytes) {
    if (backend.resize === undefined) {
      throw new WherryError("machine.disk", `${name}: what is behind this disk cannot change its size`);
    }
    await backend.resize(sizeBytes);
    resized();
  },
});
