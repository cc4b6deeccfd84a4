// The server's side of iperf3's protocol, as far as a TCP test needs it, so that the host needs no iperf3:
// the client in the guest sends (or with -R receives) for some seconds, and this side counts.
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";

const COOKIE_BYTES = 37;
const TEST_START = 1;
const TEST_RUNNING = 2;
const TEST_END = 4;
const PARAM_EXCHANGE = 9;
const CREATE_STREAMS = 10;
const EXCHANGE_RESULTS = 13;
const DISPLAY_RESULTS = 14;
const BLOCK = Buffer.alloc(1 << 17, "x");

/** What one test moved. */
export interface Iperf3Test {
  readonly bytes: number;
  readonly seconds: number;
}

export class Iperf3Server {
  readonly #server: Server;
  readonly #onTest: (test: Iperf3Test) => void;
  #control: Socket | undefined;
  #data: Socket | undefined;
  #isReverse = false;
  #bytes = 0;
  #began = 0;

  private constructor(onTest: (test: Iperf3Test) => void) {
    this.#onTest = onTest;
    this.#server = createServer((socket) => {
      socket.on("error", () => {});
      if (this.#control === undefined) this.#serveControl(socket);
      else this.#serveData(socket);
    });
  }

  /** Listens on a port of the loopback. `onTest` hears of each test at its end. */
  static async listen(onTest: (test: Iperf3Test) => void): Promise<{ port: number }> {
    const server = new Iperf3Server(onTest);
    await new Promise<void>((resolve) => server.#server.listen(0, "127.0.0.1", resolve));
    return { port: (server.#server.address() as AddressInfo).port };
  }

  #serveControl(socket: Socket): void {
    this.#control = socket;
    let input: Buffer = Buffer.alloc(0);
    let wants: "cookie" | "parameters" | "state" | "results" = "cookie";
    const take = (n: number): Buffer => {
      const taken = input.subarray(0, n);
      input = input.subarray(n);
      return taken;
    };
    const say = (state: number): void => void socket.write(Buffer.of(state));
    const json = (value: object): void => {
      const text = Buffer.from(JSON.stringify(value));
      const head = Buffer.alloc(4);
      head.writeUInt32BE(text.length);
      socket.write(Buffer.concat([head, text]));
    };
    socket.on("data", (bytes: Buffer) => {
      input = Buffer.concat([input, bytes]);
      for (;;) {
        if (wants === "cookie" && input.length >= COOKIE_BYTES) {
          take(COOKIE_BYTES);
          say(PARAM_EXCHANGE);
          wants = "parameters";
        } else if (wants === "parameters" || wants === "results") {
          if (input.length < 4 || input.length < 4 + input.readUInt32BE()) return;
          const value = JSON.parse(
            take(4 + input.readUInt32BE())
              .subarray(4)
              .toString(),
          ) as { reverse?: boolean };
          if (wants === "parameters") {
            this.#isReverse = value.reverse === true;
            say(CREATE_STREAMS);
          } else {
            const stream = { id: 1, bytes: this.#bytes, retransmits: -1, jitter: 0, errors: 0, packets: 0 };
            json({
              ...{ cpu_util_total: 0, cpu_util_user: 0, cpu_util_system: 0, sender_has_retransmits: 0 },
              streams: [{ ...stream, start_time: 0, end_time: (performance.now() - this.#began) / 1000 }],
            });
            say(DISPLAY_RESULTS);
          }
          wants = "state";
        } else if (wants === "state" && input.length > 0) {
          if (take(1)[0] !== TEST_END) return;
          this.#onTest({ bytes: this.#bytes, seconds: (performance.now() - this.#began) / 1000 });
          say(EXCHANGE_RESULTS);
          wants = "results";
        } else return;
      }
    });
    socket.once("close", () => {
      this.#data?.destroy();
      this.#control = undefined;
      this.#data = undefined;
    });
  }

  #serveData(socket: Socket): void {
    this.#data = socket;
    this.#bytes = -COOKIE_BYTES;
    let hasStarted = false;
    socket.on("data", (bytes) => {
      this.#bytes += bytes.length;
      if (hasStarted) return;
      hasStarted = true;
      this.#began = performance.now();
      this.#control?.write(Buffer.of(TEST_START));
      this.#control?.write(Buffer.of(TEST_RUNNING));
      if (this.#isReverse) this.#fill(socket);
    });
  }

  #fill(socket: Socket): void {
    while (!socket.destroyed) {
      this.#bytes += BLOCK.length;
      if (!socket.write(BLOCK)) return void socket.once("drain", () => this.#fill(socket));
    }
  }
}
