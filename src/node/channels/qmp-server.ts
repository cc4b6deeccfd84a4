// QMP over a unix socket or loopback TCP: connects clients to a monitor. The protocol is in
// ../monitor/qmp-monitor.ts.
import type { Socket } from "node:net";
import type { QmpMonitor } from "../../monitor/qmp-monitor.ts";
import { listen, type SocketAddress, type SocketServer } from "./socket-server.ts";

/** A client with more unread bytes than this has stopped reading; events must not fill our memory. */
const MAX_UNREAD_BYTES = 8 << 20;

/** An HTTP method and a space. A QMP client never starts with a letter: requests are objects. */
const HTTP_REQUEST = /^[A-Z]{3,9} /;

/**
 * Serves `monitor` to any number of clients; a client that connects before `ready` resolves gets its greeting
 * then. Rejects with SocketServerError.
 */
export function serveQmp(
  address: SocketAddress,
  monitor: QmpMonitor,
  ready: Promise<void> = Promise.resolve(),
): Promise<SocketServer> {
  return listen(address, (socket) => {
    void ready.then(() => {
      if (!socket.destroyed) join(socket, monitor);
    });
  });
}

function join(socket: Socket, monitor: QmpMonitor): void {
  socket.setNoDelay();
  const session = monitor.connect((bytes) => {
    socket.write(bytes);
    if (socket.writableLength > MAX_UNREAD_BYTES) socket.destroy();
  });
  let isFirst = true;
  socket.on("data", (bytes: Buffer) => {
    // A web page can send HTTP with commands in its body to this host's ports, and `exec:` would run them.
    if (isFirst && HTTP_REQUEST.test(bytes.toString("latin1", 0, 16))) socket.destroy();
    else session.receive(bytes);
    isFirst = false;
  });
  socket.on("close", () => session.close());
}
