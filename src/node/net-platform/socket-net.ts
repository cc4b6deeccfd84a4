// A network device's backend over a stream socket, with the framing of QEMU's `-netdev socket` and `-netdev
// stream`: each Ethernet frame as be32 length and bytes. One peer at a time; when it disconnects, a listener
// accepts the next peer, a connector reconnects. Frames sent without a peer are lost, as on a real network.
// To a peer that does not read none are lost: the sender's queue waits, as with QEMU.
import { createConnection, createServer, type Server, type Socket } from "node:net";
import { messageOf, WherryError } from "../../base/errors.ts";
import type { NetBackend } from "../../devices/virtio/net-backend.ts";

export class SocketNetError extends WherryError {}

/** QEMU's NET_BUFSIZE: a longer frame is invalid, and the stream cannot be trusted any more. */
const MAX_FRAME = 4096 + 65536;
const HEADER_BYTES = 4;
/** So many bytes of frames at most are sent with one call: some of the usual size, or one of the largest. */
const BATCH_BYTES = HEADER_BYTES + MAX_FRAME;
/** So many bytes that the peer has not read make the network full. */
const MAX_UNSENT_BYTES = 256 << 10;
const RETRY_MS = 500;

/** A TCP host and port, or the path of a unix socket. */
export type SocketAddress = { readonly host: string; readonly port: number } | { readonly path: string };

export class SocketNet implements NetBackend {
  readonly #listeners: ((frame: Uint8Array) => void)[] = [];
  readonly #roomy: (() => void)[] = [];
  readonly #frames = new FrameReader();
  /** Frames to be sent at the end of this turn. */
  #batch = Buffer.allocUnsafeSlow(BATCH_BYTES);
  #batched = 0;
  #writable = true;
  #receiving = true;
  #isDelivering = false;
  #server: Server | undefined;
  #peer: Socket | undefined;
  #retry: NodeJS.Timeout | undefined;
  #closed = false;

  /**
   * Waits for a peer. Rejects if the address is not available; `reason` says why the system refused. `port` 0
   * selects any free port: see `port`.
   */
  static async listen(
    address: SocketAddress,
    reason: (error: unknown) => string = messageOf,
  ): Promise<SocketNet> {
    const net = new SocketNet();
    const server = createServer((socket) => net.#accept(socket));
    net.#server = server;
    await new Promise<void>((resolve, reject) => {
      server.once("error", (cause) => reject(failed("listen on", address, cause, reason)));
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

  /** One end of a connection that exists; `onGone` is called once it is lost. */
  static over(socket: Socket, onGone: () => void): SocketNet {
    const net = new SocketNet();
    net.#attach(socket);
    socket.once("close", onGone);
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
    if (peer === undefined || frame.length > MAX_FRAME) return;
    const end = this.#batched + HEADER_BYTES + frame.length;
    if (end > BATCH_BYTES) {
      this.#flush();
      return this.send(frame);
    }
    // The frames of one turn go to the kernel with one call.
    if (this.#batched === 0) queueMicrotask(() => this.#flush());
    this.#batch.writeUInt32BE(frame.length, this.#batched);
    this.#batch.set(frame, this.#batched + HEADER_BYTES);
    this.#batched = end;
  }

  #flush(): void {
    const peer = this.#peer;
    const bytes = this.#batch.subarray(0, this.#batched);
    this.#batched = 0;
    if (peer === undefined || bytes.length === 0) return;
    const waits = peer.writableLength > 0;
    peer.write(waits ? Buffer.from(bytes) : bytes);
    if (peer.writableLength === 0) return;
    // The kernel has not taken it all: the socket keeps what it was given.
    if (!waits) this.#batch = Buffer.allocUnsafeSlow(BATCH_BYTES);
    if (peer.writableLength >= MAX_UNSENT_BYTES) this.#writable = false;
  }

  get writable(): boolean {
    return this.#writable;
  }
  onWritable(listener: () => void): void {
    this.#roomy.push(listener);
  }

  onFrame(listener: (frame: Uint8Array) => void): void {
    this.#listeners.push(listener);
  }
  setReceiving(on: boolean): void {
    if (on === this.#receiving) return;
    this.#receiving = on;
    if (on) this.#deliver();
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
    this.#frames.clear();
    if ("setNoDelay" in socket) socket.setNoDelay(true);
    // A peer whose host is gone must not keep its successor out.
    if ("setKeepAlive" in socket) socket.setKeepAlive(true, 5000);
    socket.on("data", (bytes) => {
      this.#frames.push(bytes);
      this.#deliver();
    });
    socket.on("drain", () => this.#unblock());
    socket.on("error", () => {});
    socket.once("close", () => {
      if (this.#peer === socket) this.#peer = undefined;
      this.#unblock();
    });
  }

  #unblock(): void {
    if (this.#writable) return;
    this.#writable = true;
    for (const listener of this.#roomy) listener();
  }

  /** Passes on the frames that have arrived, as long as the guest has room; TCP makes the peer wait. */
  #deliver(): void {
    const peer = this.#peer;
    // A listener that makes room again is in the loop below.
    if (peer === undefined || this.#isDelivering) return;
    this.#isDelivering = true;
    try {
      while (this.#receiving) {
        const frame = this.#frames.next();
        if (frame === "invalid") return void peer.destroy();
        if (frame === undefined) break;
        for (const listener of this.#listeners) listener(frame);
      }
    } finally {
      this.#isDelivering = false;
    }
    if (this.#receiving) peer.resume();
    else peer.pause();
  }
}

/** Splits a byte stream into frames. A frame is a part of the bytes that arrived, unless these split it. */
class FrameReader {
  /** Bytes that arrived and what was read of them. */
  #bytes: Buffer = Buffer.alloc(0);
  #at = 0;

  push(bytes: Buffer): void {
    const rest = this.#bytes.subarray(this.#at);
    this.#bytes = rest.length === 0 ? bytes : Buffer.concat([rest, bytes]);
    this.#at = 0;
  }

  clear(): void {
    this.push(Buffer.alloc(0));
  }

  /** The next frame if it is complete; `invalid` if this is not a stream of frames. */
  next(): Uint8Array | "invalid" | undefined {
    const start = this.#at + HEADER_BYTES;
    if (this.#bytes.length < start) return undefined;
    const length = this.#bytes.readUInt32BE(this.#at);
    if (length > MAX_FRAME) return "invalid";
    if (this.#bytes.length < start + length) return undefined;
    this.#at = start + length;
    return this.#bytes.subarray(start, this.#at);
  }
}

function failed(
  what: string,
  address: SocketAddress,
  cause: unknown,
  reason: (error: unknown) => string,
): SocketNetError {
  const where = "path" in address ? address.path : `${address.host}:${address.port}`;
  return new SocketNetError("socket-net.open", `cannot ${what} ${where}: ${reason(cause)}`, { cause });
}
