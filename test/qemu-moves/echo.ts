// The other end of the guests' network: returns frames of the guest's own type to their sender, in the format
// of QEMU's `-netdev socket` (be32 length, bytes). Both sides of a move are connected at once.
import { createServer, type Server, type Socket } from "node:net";
import type { AddressInfo } from "node:net";

const HEADER_BYTES = 4;
/** Type of traveller.c's frames. */
const ETHER_TYPE = 0x88b5;

export class Echo {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(server: Server) {
    this.#server = server;
    server.on("connection", (socket) => this.#accept(socket));
  }

  static async start(): Promise<Echo> {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return new Echo(server);
  }

  get address(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  #accept(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on("close", () => this.#sockets.delete(socket));
    socket.on("error", () => {});
    let kept = Buffer.alloc(0);
    socket.on("data", (chunk: Buffer) => {
      kept = Buffer.concat([kept, chunk]);
      while (kept.length >= HEADER_BYTES) {
        const end = HEADER_BYTES + kept.readUInt32BE(0);
        if (kept.length < Math.max(end, HEADER_BYTES + 14)) break;
        // A kernel that receives its own other frames reports an address conflict.
        if (kept.readUInt16BE(HEADER_BYTES + 12) === ETHER_TYPE) socket.write(kept.subarray(0, end));
        kept = kept.subarray(end);
      }
    });
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}
