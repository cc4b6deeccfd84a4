// The user network's platform in Node: TCP by node:net, UDP by node:dgram, names by the host's resolvers.
import { randomBytes } from "node:crypto";
import { createSocket, type Socket as UdpSocket } from "node:dgram";
import { readFileSync } from "node:fs";
import { createServer, connect, type Socket } from "node:net";
import { networkInterfaces } from "node:os";
import type {
  AcceptStream,
  NetDatagrams,
  NetListener,
  NetPlatform,
  NetStream,
  ReceiveDatagram,
  StreamEvents,
} from "../../usernet/transport/net-platform.ts";
import { ipText } from "../../usernet/wire/ip-address.ts";
import { type DnsServer, resolveMessage } from "./host-resolver.ts";

/** Smaller pieces are copied together: each has a cost of its own in a stream's queue. */
const SMALL = 4096;
const OWN_ADDRESSES_MS = 2000;
/** As many datagrams as a socket's own buffer may hold in this process. */
const MAX_UNSENT_DATAGRAM_BYTES = 1 << 20;

/** Says why the system refused to listen. */
type Reason = (error: unknown) => string;

/** `servers`: DNS servers instead of the host's. */
export function nodeNetPlatform(reason: Reason, servers?: readonly DnsServer[]): NetPlatform {
  let own: ReadonlySet<string> = new Set();
  let ownUntil = 0;
  const nowMs = (): number => performance.now();
  return {
    connect: (address, port, events) => {
      const socket = connect({ host: address, port, allowHalfOpen: true, noDelay: true });
      const stream = new SocketStream(socket);
      stream.listen(events);
      socket.once("connect", () => events.connected());
      return stream;
    },
    listen: (address, port, accept) => listenStreams(address, port, accept, reason),
    datagrams: (family, receive, port) => {
      const socket = createSocket(`udp${family}`);
      const made = new Datagrams(socket, receive);
      // One that another process has is not needed: the socket gets another when it sends.
      if (port !== undefined && port > 0) socket.bind({ port, exclusive: true });
      return made;
    },
    bindDatagrams: (address, port, receive) => bindDatagrams(address, port, receive, reason),
    resolve: (query) => resolveMessage(query, servers),
    ownAddresses: () => {
      if (nowMs() >= ownUntil) {
        own = new Set([
          ...Object.values(networkInterfaces()).flatMap((all) => all?.map(({ address }) => address) ?? []),
          ...kernelAddresses(),
        ]);
        ownUntil = nowMs() + OWN_ADDRESSES_MS;
      }
      return own;
    },
    nowMs,
    setTimer: (delayMs, fire) => {
      if (delayMs === 0) {
        const soon = setImmediate(fire);
        return { cancel: () => clearImmediate(soon) };
      }
      const timer = setTimeout(fire, delayMs);
      timer.unref();
      return { cancel: () => clearTimeout(timer) };
    },
    randomBytes: (length) => randomBytes(length),
  };
}

/**
 * Linux's own list. Node leaves out interfaces without a carrier (a bridge without guests, an unplugged
 * cable), whose addresses are the host's all the same.
 */
function kernelAddresses(): string[] {
  const lines = (path: string): string[] => {
    try {
      return readFileSync(path, "latin1").split("\n");
    } catch {
      return [];
    }
  };
  const found: string[] = [];
  let leaf: string | undefined;
  for (const line of lines("/proc/net/fib_trie")) {
    leaf = /\|-- ([\d.]+)$/.exec(line)?.[1] ?? leaf;
    if (leaf !== undefined && line.endsWith("/32 host LOCAL")) found.push(leaf);
  }
  for (const line of [...lines("/proc/net/if_inet6"), ...lines("/proc/net/anycast6")]) {
    const [address] = /\b[\da-f]{32}\b/.exec(line) ?? [];
    if (address !== undefined) found.push(ipText(Uint8Array.from(Buffer.from(address, "hex"))));
  }
  return found;
}

/** A socket; all that is written in one turn goes to the system with one call. */
class SocketStream implements NetStream {
  readonly #socket: Socket;
  unsent = 0;
  #waiting: Uint8Array[] = [];
  /** Bytes in use of the last piece, if it is ours to append to. */
  #filled: number | undefined;
  #isWriting = false;
  #isScheduled = false;
  #isEnding = false;
  #events: StreamEvents | undefined;
  #error: string | undefined;

  constructor(socket: Socket) {
    this.#socket = socket;
    // One that reports no error after its end still emits "close".
    socket.on("error", (error: NodeJS.ErrnoException) => {
      this.#error = error.code ?? error.message;
    });
  }

  listen(events: StreamEvents): void {
    this.#events = events;
    const socket = this.#socket;
    socket.on("data", (bytes: Buffer) =>
      events.data(new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length)),
    );
    socket.once("end", () => events.ended());
    socket.once("close", () => {
      const error = this.#error;
      this.#events = undefined;
      events.closed(error);
    });
  }

  write(bytes: Uint8Array): void {
    this.unsent += bytes.length;
    let rest = bytes;
    const last = this.#waiting.at(-1);
    if (this.#filled !== undefined && last !== undefined) {
      const n = Math.min(rest.length, last.length - this.#filled);
      last.set(rest.subarray(0, n), this.#filled);
      this.#filled += n;
      rest = rest.subarray(n);
      if (rest.length > 0) this.#filled = undefined;
    }
    if (rest.length >= SMALL) this.#waiting.push(rest);
    else if (rest.length > 0) {
      const piece = new Uint8Array(SMALL);
      piece.set(rest);
      this.#filled = rest.length;
      this.#waiting.push(piece);
    }
    this.#schedule();
  }
  end(): void {
    this.#isEnding = true;
    this.#schedule();
  }
  reset(): void {
    this.#events = undefined;
    this.#waiting = [];
    const { connecting, writableEnded, writableFinished } = this.#socket;
    // One that still connects would be kept until it has; one whose end is under way is not reset by the
    // system library (EINVAL), and would stay open for ever.
    if (connecting || (writableEnded && !writableFinished)) this.#socket.destroy();
    else this.#socket.resetAndDestroy();
  }
  setReading(on: boolean): void {
    if (on) this.#socket.resume();
    else this.#socket.pause();
  }

  #schedule(): void {
    if (this.#isScheduled || this.#isWriting) return;
    this.#isScheduled = true;
    queueMicrotask(() => this.#flush());
  }

  #flush(): void {
    this.#isScheduled = false;
    const pieces = this.#waiting;
    if (this.#socket.destroyed) return;
    if (pieces.length === 0) {
      if (this.#isEnding && !this.#socket.writableEnded) this.#socket.end();
      return;
    }
    if (this.#filled !== undefined) pieces.push(pieces.pop()!.subarray(0, this.#filled));
    this.#filled = undefined;
    this.#waiting = [];
    this.#isWriting = true;
    const total = pieces.reduce((sum, { length }) => sum + length, 0);
    this.#socket.cork();
    for (const [i, piece] of pieces.entries())
      this.#socket.write(piece, i < pieces.length - 1 ? undefined : () => this.#wrote(total));
    this.#socket.uncork();
  }

  #wrote(bytes: number): void {
    this.#isWriting = false;
    this.unsent -= bytes;
    this.#flush();
    this.#events?.sent();
  }
}

async function listenStreams(
  address: string,
  port: number,
  accept: AcceptStream,
  reason: Reason,
): Promise<NetListener> {
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    const stream = new SocketStream(socket);
    const events = accept(stream, socket.remoteAddress ?? "", socket.remotePort ?? 0);
    if (events === undefined) stream.reset();
    else stream.listen(events);
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", (cause) => reject(new Error(reason(cause), { cause })));
    server.listen(port, address, resolve);
  });
  server.on("error", () => {});
  server.unref();
  const bound = server.address();
  return {
    port: typeof bound === "object" && bound !== null ? bound.port : port,
    close: () => server.close(),
  };
}

async function bindDatagrams(
  address: string,
  port: number,
  receive: ReceiveDatagram,
  reason: Reason,
): Promise<NetDatagrams & NetListener> {
  const socket = createSocket(address.includes(":") ? "udp6" : "udp4");
  await new Promise<void>((resolve, reject) => {
    const failed = (cause: Error): void => {
      socket.close();
      reject(new Error(reason(cause), { cause }));
    };
    socket.once("error", failed);
    socket.bind(port, address, () => {
      socket.off("error", failed);
      resolve();
    });
  });
  return new Datagrams(socket, receive);
}

class Datagrams implements NetDatagrams {
  readonly #socket: UdpSocket;
  #unsent = 0;
  #isClosed = false;

  constructor(socket: UdpSocket, receive: ReceiveDatagram) {
    this.#socket = socket;
    socket.unref();
    socket.on("message", (bytes: Uint8Array, { address, port }) =>
      receive(Uint8Array.from(bytes), address, port),
    );
    // Lost, as datagrams may be: a name server that is gone is reported so.
    socket.on("error", () => {});
  }

  get port(): number {
    try {
      return this.#socket.address().port;
    } catch {
      return 0;
    }
  }
  send(bytes: Uint8Array, address: string, port: number): void {
    // Node throws for port 0, which a datagram can come from.
    if (this.#isClosed || port === 0 || this.#unsent > MAX_UNSENT_DATAGRAM_BYTES) return;
    this.#unsent += bytes.length;
    this.#socket.send(bytes, port, address, () => {
      this.#unsent -= bytes.length;
    });
  }
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#socket.close();
  }
}
