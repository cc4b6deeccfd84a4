// A network device's backend over a stream socket, with the framing of QEMU's `-netdev socket` and `-netdev
// stream`: each Ethernet frame as be32 length and bytes. One peer at a time; when it disconnects, a listener
// accepts the next peer, a connector reconnects. Frames sent without a peer are lost, as on a real network.
import { createConnection, createServer, type Server, type Socket } from "node:net";
import { WherryError } from "../base/errors.ts";
import type { NetBackend } from "../devices/virtio/net-backend.ts";
import { listenReason } from "./system-reason.ts";

export class SocketNetError extends WherryError {}

/** QEMU's NET_BUFSIZE: a longer frame is invalid, and the stream cannot be trusted any more. */
const MAX_FRAME = 4096 + 65536;
const HEADER_BYTES = 4;
/** Frames beyond this are dropped if the peer does not read. */
const MAX_UNSENT_BYTES = 4 << 20;
const RETRY_MS = 500;

/** A TCP host and port, or the path of a unix socket. */
export type SocketAddress = { readonly host: string; readonly port: number } | { readonly path: string };

export class SocketNet implements NetBackend {
  readonly #listeners: ((frame: Uint8Array) => void)[] = [];
  #server: Server | undefined;
  #peer: Socket | undefined;
  #retry: NodeJS.Timeout | undefined;
  #closed = false;

  /**
   * Waits for a peer. Rejects if the address is not available. `port` 0 selects any free port: see `port`.
   */
  static async listen(address: SocketAddress): Promise<SocketNet> {
    const net = new SocketNet();
    const server = createServer((socket) => net.#accept(socket));
    net.#server = server;
    await new Promise<void>((resolve, reject) => {
      server.once("error", (cause) => reject(failed("listen on", address, cause)));
      server.listen(address, resolve);
    });
    server.unref();
    return net;
  }

  /** Connects to a listening peer, which may start later. */
  static connect(address: SocketAddress): SocketNet {
    const net = new SocketNet();
    net.#connect(address);
    return net;
  }

  /** The TCP port it listens on. */
  get port(): number | undefined {
    const address = this.#server?.address();
    return typeof address === "object" ? address?.port : undefined;
  }

  get connected(): boolean {
    return this.#peer !== undefined;
  }

  send(frame: Uint8Array): void {
    const peer = this.#peer;
    if (peer === undefined || peer.writableLength > MAX_UNSENT_BYTES) return;
    const packet = Buffer.allocUnsafe(HEADER_BYTES + frame.length);
    packet.writeUInt32BE(frame.length);
    packet.set(frame, HEADER_BYTES);
    peer.write(packet);
  }

  onFrame(listener: (frame: Uint8Array) => void): void {
    this.#listeners.push(listener);
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#retry);
    this.#peer?.destroy();
    this.#server?.close();
  }

  #connect(address: SocketAddress): void {
    const socket = createConnection(address);
    socket.once("connect", () => this.#attach(socket));
    // After "error", "close" follows, as for a lost peer.
    socket.on("error", () => {});
    socket.once("close", () => {
      if (this.#closed) return;
      this.#retry = setTimeout(() => this.#connect(address), RETRY_MS);
      this.#retry.unref();
    });
  }

  #accept(socket: Socket): void {
    if (this.#peer !== undefined) socket.destroy();
    else this.#attach(socket);
  }

  #attach(socket: Socket): void {
    this.#peer = socket;
    if ("setNoDelay" in socket) socket.setNoDelay(true);
    const frames = new FrameReader();
    socket.on("data", (bytes) => {
      const whole = frames.push(bytes);
      if (whole === undefined) return void socket.destroy();
      for (const frame of whole) for (const listener of this.#listeners) listener(frame);
    });
    socket.on("error", () => {});
    socket.once("close", () => {
      if (this.#peer === socket) this.#peer = undefined;
    });
  }
}

/** Splits a byte stream into frames. */
class FrameReader {
  #rest: Buffer = Buffer.alloc(0);

  /** The frames that are complete now; undefined if this is not a stream of frames. */
  push(bytes: Buffer): Uint8Array[] | undefined {
    let rest = this.#rest.length === 0 ? bytes : Buffer.concat([this.#rest, bytes]);
    const frames: Uint8Array[] = [];
    while (rest.length >= HEADER_BYTES) {
      const length = rest.readUInt32BE();
      if (length > MAX_FRAME) return undefined;
      if (rest.length < HEADER_BYTES + length) break;
      frames.push(new Uint8Array(rest.subarray(HEADER_BYTES, HEADER_BYTES + length)));
      rest = rest.subarray(HEADER_BYTES + length);
    }
    this.#rest = rest;
    return frames;
  }
}

function failed(what: string, address: SocketAddress, cause: unknown): SocketNetError {
  const where = "path" in address ? address.path : `${address.host}:${address.port}`;
  return new SocketNetError("socket-net.open", `cannot ${what} ${where}: ${listenReason(cause)}`, { cause });
}
