// A listening socket for QMP and consoles, in QEMU's notation for character devices:
// `unix:PATH[,server=on][,wait=off]` and `tcp:HOST:PORT[,…]`. A unix socket is accessible to its owner only,
// TCP to this host only, since neither protocol has a password. A stale socket file is replaced.
import { rm, stat } from "node:fs/promises";
import { connect, createServer, type Server, type Socket } from "node:net";
import { WherryError } from "../../base/errors.ts";
import { listenReason, unixPathFault } from "./system-reason.ts";

export class SocketServerError extends WherryError {}

export type SocketAddress =
  | { readonly kind: "unix"; readonly path: string }
  | { readonly kind: "tcp"; readonly host: string; readonly port: number };

/** How long a client may take to read its last output. */
const LINGER_MS = 500;
const LOOPBACK = new Set(["localhost", "127.0.0.1", "::1"]);

/** Parses an address. Throws SocketServerError that says what was expected. */
export function parseSocketAddress(text: string): SocketAddress {
  const refuse = (why: string) => new SocketServerError("socket.address", why);
  const [place = "", ...options] = text.split(",");
  for (const option of options) {
    if (["server=off", "wait=on"].includes(option)) throw refuse(`${option} is not supported`);
    if (!["server", "server=on", "nowait", "wait=off"].includes(option)) {
      throw refuse(`unknown suffix '${option}'; known are server=on and wait=off`);
    }
  }
  if (place.startsWith("unix:")) {
    const path = place.slice("unix:".length);
    if (path === "") throw refuse("the path is empty: write unix:PATH");
    const fault = unixPathFault(path);
    if (fault !== undefined) throw refuse(fault);
    return { kind: "unix", path };
  }
  const tcp = /^tcp:(?:\[([^\]]+)\]|([^:]*)):([0-9]+)$/.exec(place);
  if (tcp === null) throw refuse("expected unix:PATH or tcp:HOST:PORT");
  const host = tcp[1] ?? (tcp[2] || "localhost");
  const port = Number(tcp[3]);
  if (port > 65535) throw refuse(`port ${port} is above 65535`);
  if (!LOOPBACK.has(host))
    throw refuse(`host '${host}' is not this machine's loopback: use 127.0.0.1 or a unix socket`);
  return { kind: "tcp", host, port };
}

/** An address in messages. */
export function socketAddressText(address: SocketAddress): string {
  return address.kind === "unix" ? `unix:${address.path}` : `tcp:${address.host}:${address.port}`;
}

/** Options for net.connect. */
export function connectOptions(address: SocketAddress): { path: string } | { host: string; port: number } {
  return address.kind === "unix" ? { path: address.path } : { host: address.host, port: address.port };
}

export interface SocketServer {
  /** The requested address; port 0 is replaced by the assigned port. */
  readonly address: SocketAddress;
  /** Ends the clients and removes the socket file. */
  close(): Promise<void>;
}

/** Listens. Rejects with SocketServerError if another process does, or if the path cannot be used. */
export async function listen(
  address: SocketAddress,
  onClient: (socket: Socket) => void,
): Promise<SocketServer> {
  if (address.kind === "unix") await clearStaleSocket(address.path);
  const clients = new Set<Socket>();
  const server = createServer((socket) => {
    clients.add(socket);
    socket.on("close", () => clients.delete(socket));
    // A client that disconnects during a write must not end the machine.
    socket.on("error", () => socket.destroy());
    onClient(socket);
  });
  await bind(server, address);
  const bound = server.address();
  return {
    address:
      address.kind === "tcp" && typeof bound === "object" && bound
        ? { ...address, port: bound.port }
        : address,
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const socket of clients) socket.destroySoon();
      const late = setTimeout(() => clients.forEach((socket) => socket.destroy()), LINGER_MS);
      await closed;
      clearTimeout(late);
    },
  };
}

async function bind(server: Server, address: SocketAddress): Promise<void> {
  const reason = (error: unknown) => listenReason(error, address.kind === "unix" ? address.path : undefined);
  const listening = new Promise<void>((resolve, reject) => {
    server.once("listening", resolve);
    server.once("error", (error) => {
      const what = `cannot listen on ${socketAddressText(address)}: ${reason(error)}`;
      reject(new SocketServerError("socket.listen", what, { cause: error }));
    });
  });
  // listen() creates the socket file: its mode is set before any client can connect.
  const mask = process.umask(address.kind === "unix" ? 0o177 : process.umask());
  try {
    server.listen(connectOptions(address));
  } finally {
    process.umask(mask);
  }
  await listening;
}

/** Removes a socket file without a listener, as left by a killed machine. */
async function clearStaleSocket(path: string): Promise<void> {
  const found = await stat(path).catch(() => undefined);
  if (found === undefined) return;
  if (!found.isSocket()) throw new SocketServerError("socket.path", `${path} exists and is not a socket`);
  if (await answers(path)) throw new SocketServerError("socket.in-use", `another process listens on ${path}`);
  await rm(path, { force: true });
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ path });
    socket.on("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.on("error", () => resolve(false));
  });
}
