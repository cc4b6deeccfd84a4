// QMP over a unix socket or loopback TCP: joins clients to a monitor. The protocol is in ../monitor/qmp.ts.
import type { QmpMonitor } from "../monitor/qmp.ts";
import { listen, type SocketAddress, type SocketServer } from "./socket-server.ts";

/** A client that lets this much pile up has stopped reading; events must not fill our memory. */
const MAX_UNREAD_BYTES = 8 << 20;

/** Serves `monitor` to any number of clients. Rejects with SocketServerError. */
export function serveQmp(address: SocketAddress, monitor: QmpMonitor): Promise<SocketServer> {
  return listen(address, (socket) => {
    socket.setNoDelay();
    const session = monitor.connect((bytes) => {
      socket.write(bytes);
      if (socket.writableLength > MAX_UNREAD_BYTES) socket.destroy();
    });
    socket.on("data", (bytes: Buffer) => session.receive(bytes));
    socket.on("close", () => session.close());
  });
}
