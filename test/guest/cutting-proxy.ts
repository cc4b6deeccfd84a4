// A loopback TCP proxy between the two ends of a move. It breaks the first connection at a given byte of
// either direction, as a network may. Later connections, in which the source queries the machine's state, are
// not broken.
import { connect, createServer, type Server, type Socket } from "node:net";
import type { AddressInfo } from "node:net";

export interface Cut {
  /** `forward` is from source to destination. */
  readonly side: "forward" | "back";
  /** Number of bytes that still pass, counted from the start or from the end of the first `mark`. */
  readonly after: number;
  readonly mark?: Buffer;
  /** A reset, an orderly end towards both sides, no more data, or the end of the proxy with its listener. */
  readonly how: "reset" | "end" | "silence" | "death";
}

export class CuttingProxy {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #used = false;
  /** Whether the cut was reached. */
  cut = false;

  private constructor(server: Server) {
    this.#server = server;
  }

  get uri(): string {
    return `tcp:127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  static async start(port: number, cut: Cut): Promise<CuttingProxy> {
    const server = createServer({ allowHalfOpen: true });
    const proxy = new CuttingProxy(server);
    server.on("connection", (source) => {
      const destination = connect({ host: "127.0.0.1", port, allowHalfOpen: true });
      const sockets = [source, destination];
      for (const socket of sockets) {
        proxy.#sockets.add(socket);
        socket.setNoDelay(true);
        socket.on("close", () => proxy.#sockets.delete(socket));
        socket.on("error", () => {
          for (const each of sockets) each.destroy();
        });
      }
      const first = !proxy.#used;
      proxy.#used = true;
      proxy.#pipe(source, destination, first && cut.side === "forward" ? cut : undefined);
      proxy.#pipe(destination, source, first && cut.side === "back" ? cut : undefined);
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return proxy;
  }

  #pipe(from: Socket, to: Socket, cut: Cut | undefined): void {
    let left = cut?.mark === undefined ? cut?.after : undefined;
    let tail = Buffer.alloc(0);
    let over = false;
    from.on("data", (chunk: Buffer) => {
      if (over || from.destroyed) return;
      if (cut?.mark !== undefined && left === undefined) {
        const seen = Buffer.concat([tail, chunk]);
        const at = seen.indexOf(cut.mark);
        if (at >= 0) left = at + cut.mark.length - tail.length + cut.after;
        else tail = seen.subarray(-cut.mark.length);
      }
      if (cut !== undefined && left !== undefined && chunk.length >= left) {
        over = true;
        this.cut = true;
        if (left > 0) to.write(chunk.subarray(0, left));
        this.#break(from, to, cut.how);
        return;
      }
      if (left !== undefined) left -= chunk.length;
      if (!to.write(chunk)) {
        from.pause();
        to.once("drain", () => from.resume());
      }
    });
    from.on("end", () => to.end());
    from.on("close", () => to.destroySoon());
  }

  #break(from: Socket, to: Socket, how: Cut["how"]): void {
    if (how === "silence") return;
    if (how === "end") {
      to.end();
      from.end();
      from.removeAllListeners("data").resume();
      to.removeAllListeners("data").resume();
      return;
    }
    if (how === "death") this.#server.close();
    // Written data is sent before the reset.
    setTimeout(() => {
      to.resetAndDestroy();
      from.resetAndDestroy();
    }, 5);
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}
