// A platform for the user network in virtual time: services of a host that are programs of the test, streams
// that take bytes as slowly as they like, and a clock that moves only when all is done.
import type {
  AcceptStream,
  NetListener,
  NetPlatform,
  NetStream,
  ReceiveDatagram,
  StreamEvents,
} from "../../src/usernet/transport/net-platform.ts";
import type { Random } from "../support/random.ts";

/** The host's end of a stream, as a program has it. */
export class Peer implements NetStream {
  readonly #host: VirtualHost;
  events: StreamEvents | undefined;
  /** All that the guest sent and the program took. */
  readonly taken: Uint8Array[] = [];
  takenBytes = 0;
  guestEnded = false;
  wasReset = false;
  /** Bytes that the program takes a ms; 0 stops it. */
  rate = Number.POSITIVE_INFINITY;
  unsent = 0;
  isReading = true;
  #waiting: Uint8Array[] = [];
  #isTaking = false;
  #ended = false;
  readonly #toSend: Uint8Array[] = [];
  #endAfter = false;

  constructor(host: VirtualHost) {
    this.#host = host;
  }

  // What the network calls.
  write(bytes: Uint8Array): void {
    if (this.#ended) throw new Error("a write after the end");
    this.unsent += bytes.length;
    this.#waiting.push(bytes);
    this.take();
  }
  end(): void {
    if (this.#ended) throw new Error("ended twice");
    this.#ended = true;
    this.take();
  }
  reset(): void {
    this.wasReset = true;
    this.events = undefined;
  }
  setReading(on: boolean): void {
    this.isReading = on;
    if (on) this.#give();
  }

  // What the program does.
  take(): void {
    if (this.#isTaking || this.rate === 0) return;
    this.#isTaking = true;
    this.#host.after(1, () => {
      this.#isTaking = false;
      let left = this.rate;
      while (left > 0 && this.#waiting.length > 0) {
        const first = this.#waiting[0]!;
        const piece = first.subarray(0, Math.min(left, first.length));
        this.taken.push(piece.slice());
        this.takenBytes += piece.length;
        left -= piece.length;
        this.unsent -= piece.length;
        if (piece.length === first.length) this.#waiting.shift();
        else this.#waiting[0] = first.subarray(piece.length);
      }
      if (this.#waiting.length === 0 && this.#ended) this.guestEnded = true;
      this.events?.sent();
      if (this.#waiting.length > 0) this.take();
    });
  }
  send(bytes: Uint8Array): void {
    this.#toSend.push(bytes);
    this.#give();
  }
  endSending(): void {
    this.#endAfter = true;
    this.#give();
  }
  fail(code: string): void {
    const { events } = this;
    this.events = undefined;
    events?.closed(code);
  }
  #give(): void {
    while (this.isReading && this.#toSend.length > 0) {
      const piece = this.#toSend.shift()!;
      this.events?.data(piece);
    }
    if (this.#toSend.length > 0 || !this.#endAfter) return;
    this.#endAfter = false;
    this.events?.ended();
  }
}

interface Timer {
  readonly at: number;
  readonly order: number;
  readonly fire: () => void;
  cancelled: boolean;
}

const isBefore = (a: Timer, b: Timer): boolean => a.at < b.at || (a.at === b.at && a.order < b.order);

export class VirtualHost implements NetPlatform {
  readonly #random: Random;
  #now = 1000;
  #order = 0;
  /** A heap: each is before the two at twice its index. */
  readonly #timers: Timer[] = [];
  /** Connections that the guest made: by address and port. Undefined refuses. */
  serve: (address: string, port: number) => ((peer: Peer) => void) | undefined = () => undefined;
  readonly attempts: string[] = [];
  readonly listeners = new Map<number, AcceptStream>();
  readonly datagramSockets: {
    family: number;
    port: number;
    receive: ReceiveDatagram;
    sent: [string, string, number][];
    closed: boolean;
  }[] = [];
  names: (query: Uint8Array) => Promise<Uint8Array | undefined> = async () => undefined;
  own: ReadonlySet<string> = new Set(["127.0.0.1", "192.0.2.77"]);
  readonly peers: Peer[] = [];

  constructor(random: Random) {
    this.#random = random;
  }

  after(delayMs: number, fire: () => void): Timer {
    const timer = { at: this.#now + delayMs, order: this.#order++, fire, cancelled: false };
    let at = this.#timers.push(timer) - 1;
    for (; at > 0; at = (at - 1) >> 1) {
      const above = this.#timers[(at - 1) >> 1]!;
      if (!isBefore(timer, above)) break;
      this.#timers[at] = above;
    }
    this.#timers[at] = timer;
    return timer;
  }

  #takeFirst(): void {
    const timers = this.#timers;
    const last = timers.pop();
    if (last === undefined || timers.length === 0) return;
    let at = 0;
    for (let child = 1; child < timers.length; child = 2 * at + 1) {
      if (child + 1 < timers.length && isBefore(timers[child + 1]!, timers[child]!)) child++;
      if (!isBefore(timers[child]!, last)) break;
      timers[at] = timers[child]!;
      at = child;
    }
    timers[at] = last;
  }

  /** Runs until `done`, or until nothing is left to happen. Throws after `limitMs` of virtual time. */
  async run(done: () => boolean, limitMs: number): Promise<void> {
    const end = this.#now + limitMs;
    for (;;) {
      for (let i = 0; i < 6; i++) await Promise.resolve();
      if (done()) return;
      while (this.#timers[0]?.cancelled === true) this.#takeFirst();
      const timer = this.#timers[0];
      if (timer === undefined || timer.at > end) {
        this.#now = Math.max(this.#now, end);
        if (done()) return;
        throw new Error(timer === undefined ? "nothing is left to happen" : `not done after ${limitMs} ms`);
      }
      this.#takeFirst();
      this.#now = Math.max(this.#now, timer.at);
      timer.fire();
    }
  }

  /** Lets so much time pass. */
  pass(ms: number): Promise<void> {
    let isOver = false;
    this.after(ms, () => {
      isOver = true;
    });
    return this.run(() => isOver, ms + 1);
  }

  // The platform.
  connect(address: string, port: number, events: StreamEvents): NetStream {
    this.attempts.push(`${address} ${port}`);
    const program = this.serve(address, port);
    const peer = new Peer(this);
    peer.events = events;
    this.peers.push(peer);
    this.after(1, () => {
      if (program === undefined) return peer.fail("ECONNREFUSED");
      peer.events?.connected();
      program(peer);
    });
    return peer;
  }
  async listen(_address: string, port: number, accept: AcceptStream): Promise<NetListener> {
    if (this.listeners.has(port)) throw new Error("another process listens there (EADDRINUSE)");
    const bound = port === 0 ? 40_000 + this.listeners.size : port;
    this.listeners.set(bound, accept);
    return { port: bound, close: () => this.listeners.delete(bound) };
  }
  /** A client of the host connects to a forwarded port. */
  dial(port: number, address = "127.0.0.1", clientPort = 1024 + this.#random.int(60_000)): Peer {
    const peer = new Peer(this);
    peer.events = this.listeners.get(port)?.(peer, address, clientPort);
    return peer;
  }
  /** Ports that others have. */
  readonly taken = new Set<number>();
  datagrams(family: 4 | 6, receive: ReceiveDatagram, wanted = 0) {
    const port = wanted > 0 && !this.taken.has(wanted) ? wanted : 50_000 + this.datagramSockets.length;
    const socket = { family, port, receive, sent: [] as [string, string, number][], closed: false };
    this.datagramSockets.push(socket);
    return {
      port,
      send: (bytes: Uint8Array, address: string, to: number) =>
        void socket.sent.push([Buffer.from(bytes).toString("latin1"), address, to]),
      close: () => {
        socket.closed = true;
      },
    };
  }
  async bindDatagrams(_address: string, port: number, receive: ReceiveDatagram) {
    return this.datagrams(4, receive, port);
  }
  resolve(query: Uint8Array): Promise<Uint8Array | undefined> {
    return this.names(query);
  }
  ownAddresses(): ReadonlySet<string> {
    return this.own;
  }
  nowMs(): number {
    return this.#now;
  }
  setTimer(delayMs: number, fire: () => void): { cancel(): void } {
    const timer = this.after(delayMs, fire);
    return {
      cancel: () => {
        timer.cancelled = true;
      },
    };
  }
  randomBytes(length: number): Uint8Array {
    return Uint8Array.from({ length }, () => this.#random.int(256));
  }
}
