// The virtio devices of a machine in Node, by their backends: disk images, a network wire, entropy.
import type { CharBackend } from "../devices/char-backend.ts";
import { VirtioBlk } from "../devices/virtio/virtio-blk.ts";
import { VirtioConsole } from "../devices/virtio/virtio-console.ts";
import { VirtioNet } from "../devices/virtio/virtio-net.ts";
import { VirtioRng } from "../devices/virtio/virtio-rng.ts";
import type { MachineDevices } from "../host/create-machine.ts";
import { type FileBlock, openFileBlock } from "./file-block.ts";
import { randomBytes } from "./node-runtime.ts";
import { SocketNet } from "./socket-net.ts";

export interface DriveSpec {
  /** A raw disk image. */
  readonly file: string;
  readonly readonly: boolean;
}

/** One end of a wire between two guests: Ethernet frames over TCP, as QEMU's `-netdev socket`. */
export interface NetSpec {
  readonly mode: "listen" | "connect";
  readonly host: string;
  readonly port: number;
  /** Six bytes, or undefined for the default. */
  readonly mac?: Uint8Array;
}

export interface VirtioSpec {
  readonly drives: readonly DriveSpec[];
  readonly net: NetSpec | undefined;
  readonly rng: boolean;
  /** What a console is connected to. Default: there is none. */
  readonly console?: CharBackend | undefined;
  /** What the entropy device gives. Default: the host's randomness. */
  readonly randomBytes?: ((length: number) => Uint8Array) | undefined;
}

export interface VirtioBackends {
  readonly devices: Required<Omit<MachineDevices, "serial">>;
  close(): Promise<void>;
}

/** QEMU's default address of the first card; a second guest on the same wire needs another. */
const DEFAULT_MAC = Uint8Array.of(0x52, 0x54, 0x00, 0x12, 0x34, 0x56);

/**
 * Opens what the devices are backed by; rejects with WherryError, and nothing is left open then. The order (drives,
 * network, entropy, console) decides the slots, so both ends of a move must agree.
 */
export async function openVirtio(spec: VirtioSpec): Promise<VirtioBackends> {
  const virtio: VirtioBackends["devices"]["virtio"][number][] = [];
  const drives: FileBlock[] = [];
  const open: (() => void | Promise<void>)[] = [];
  const close = async () => {
    const closed = await Promise.allSettled(open.splice(0).map(async (one) => one()));
    for (const one of closed) if (one.status === "rejected") throw one.reason as Error;
  };
  try {
    for (const { file, readonly } of spec.drives) {
      const backend = await openFileBlock({ path: file, readonly });
      open.push(() => backend.close());
      drives.push(backend);
      virtio.push((host) => new VirtioBlk(host, { backend }));
    }
    if (spec.net !== undefined) {
      const { mode, mac = DEFAULT_MAC, ...address } = spec.net;
      const backend = mode === "listen" ? await SocketNet.listen(address) : SocketNet.connect(address);
      open.push(() => backend.close());
      virtio.push((host) => new VirtioNet(host, { backend, mac }));
    }
  } catch (error) {
    await close();
    throw error;
  }
  if (spec.rng) {
    const bytes = spec.randomBytes ?? randomBytes;
    const random = (target: Uint8Array) => void target.set(bytes(target.length));
    virtio.push((host) => new VirtioRng(host, { random }));
  }
  const { console: backend } = spec;
  if (backend !== undefined) virtio.push((host) => new VirtioConsole(host, { backend }));
  return { devices: { virtio, drives }, close };
}
