// A named serial port on a socket, as QEMU's `-chardev socket,server=on,wait=off` with a virtserialport: one
// client at a time is connected to the port, the others wait for their turn.
import type { Socket } from "node:net";
import { CharPipe, MAX_UNREAD_OUTPUT } from "../../devices/char-backend.ts";
import { listen, type SocketAddress, type SocketServer } from "./socket-server.ts";

/** Above this many bytes that the guest has not read, the client is not read. */
const MAX_PENDING_INPUT = 4096;
/** Clients that wait; more are refused. */
const MAX_WAITING = 16;

export class SocketPort extends CharPipe {
  readonly #listeners: (() => void)[] = [];
  readonly #waiting: Socket[] = [];
  #client: Socket | undefined;
  #server: SocketServer | undefined;

  private constructor() {
    super((bytes) => this.#send(bytes));
    this.onDrained(() => this.#client?.resume());
  }

  /** Listens. Rejects with SocketServerError. */
  static async listen(address: SocketAddress): Promise<SocketPort> {
    const port = new SocketPort();
    port.#server = await listen(address, (socket) => port.#arrive(socket));
    return port;
  }

  get connected(): boolean {
    return this.#client !== undefined;
  }
  onConnected(listener: () => void): void {
    this.#listeners.push(listener);
  }

  #arrive(socket: Socket): void {
    socket.pause();
    if (this.#client === undefined) return this.#connect(socket);
    if (this.#waiting.length >= MAX_WAITING) return void socket.destroy();
    this.#waiting.push(socket);
    socket.on("close", () => {
      const at = this.#waiting.indexOf(socket);
      if (at >= 0) this.#waiting.splice(at, 1);
    });
  }

  #connect(socket: Socket): void {
    this.#client = socket;
    socket.on("data", (bytes: Buffer) => {
      this.push(bytes);
      if (this.pending > MAX_PENDING_INPUT) socket.pause();
    });
    socket.on("drain", () => this.#look());
    socket.on("close", () => {
      this.#client = undefined;
      // What it has sent is still for the guest.
      this.#changed();
      const next = this.#waiting.shift();
      if (next !== undefined) this.#connect(next);
    });
    this.#changed();
    socket.resume();
  }

  #changed(): void {
    for (const listener of this.#listeners) listener();
    this.#look();
  }
  #send(bytes: Uint8Array): void {
    // The bytes are valid only during the call.
    this.#client?.write(bytes.slice());
    this.#look();
  }
  #look(): void {
    this.writable = (this.#client?.writableLength ?? 0) < MAX_UNREAD_OUTPUT;
  }

  /** Ends the clients and removes the socket file. */
  async close(): Promise<void> {
    for (const socket of this.#waiting.splice(0)) socket.destroy();
    await this.#server?.close();
  }
}
