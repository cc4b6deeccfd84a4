/// <reference lib="esnext.disposable" preserve="true" />
// A program and its guest over the machine's user network: ports of the guest for the host, ports of the
// gateway for the guest, and connections as web streams.
import { abortable, type CallOptions, refuseAborted } from "../../base/abort.ts";
import { isOneOf, isOptions, isString, isWhole } from "../../embed/check-options.ts";
import type { NetStream, StreamEvents } from "../../usernet/transport/net-platform.ts";
import { UserNetError } from "../../usernet/net-rules.ts";
import { parseIp } from "../../usernet/wire/ip-address.ts";
import type { UserNetwork } from "../../usernet/user-network.ts";
import type { ByteReadable, ByteWritable } from "./web-streams.ts";

/** A connection with the guest. */
export interface GuestConnection {
  readonly readable: ByteReadable;
  /** `close` is the end of what the guest reads; it may still write. */
  readonly writable: ByteWritable;
  /** Ends both directions; the guest sees a reset, unless both have ended. */
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** A port that is open until it is closed. */
export interface OpenPort {
  readonly port: number;
  close(): void;
  [Symbol.dispose](): void;
}

/** A port of the host that leads to one of the guest. */
export interface ForwardOptions {
  readonly guestPort: number;
  /** The host's port; 0 (default): any that is free. */
  readonly port?: number | undefined;
  /** The host's address. Default: 127.0.0.1. */
  readonly host?: string | undefined;
  /** Default: tcp. */
  readonly protocol?: "tcp" | "udp" | undefined;
}

/** Where a port of the gateway leads: a port of this host's loopback, a place, or a function. */
export type ExposeTarget =
  | number
  | { readonly host: string; readonly port: number }
  | ((connection: GuestConnection) => unknown);

type Connect = (address: string, port: number, events: StreamEvents) => NetStream;

let makeNet: (network: () => UserNetwork, connect: Connect) => GuestNet;

/** The machine's user network (`net: { user }`). All calls reject with (or throw) WherryError. */
export class GuestNet {
  readonly #network: () => UserNetwork;
  readonly #connect: Connect;

  static {
    makeNet = (network, connect) => new GuestNet(network, connect);
  }
  private constructor(network: () => UserNetwork, connect: Connect) {
    this.#network = network;
    this.#connect = connect;
  }

  /** Forwards a port of the host to the guest. A text is QEMU's `hostfwd`, such as `tcp::8080-:80`. */
  async forward(rule: string | ForwardOptions, { signal }: CallOptions = {}): Promise<OpenPort> {
    const network = this.#network();
    const text = typeof rule === "string" ? rule : forwardRule(rule);
    refuseAborted(signal);
    const close = (port: number): void => {
      network.unforward(text.slice(0, text.lastIndexOf("-")).replace(/\d+$/, String(port)));
    };
    const opened = network.forward(text);
    try {
      const port = await abortable(opened, signal);
      return openPort(port, () => close(port));
    } catch (error) {
      // The signal was first: nobody could close what is opened then.
      opened.then(close, () => {});
      throw error;
    }
  }

  /** Connects to a port of the guest, as from the gateway; `guest`: its address, if it is not the first. */
  async connect(
    guestPort: number,
    { signal, guest }: CallOptions & { readonly guest?: string | undefined } = {},
  ): Promise<GuestConnection> {
    isPort("guestPort", guestPort);
    refuseAborted(signal);
    const stream = new WebNetStream();
    const address = guest === undefined ? undefined : parseIp(guest);
    if (guest !== undefined && address === undefined)
      throw new UserNetError("user-net.connect", `guest: expected an IP address, found '${guest}'`);
    const events = this.#network().dial(stream, guestPort, address);
    if (events === undefined)
      throw new UserNetError("user-net.connect", "there are too many connections: close some");
    stream.events = events;
    try {
      await abortable(stream.accepted, signal);
    } catch (error) {
      stream.close();
      throw error;
    }
    return stream.connection;
  }

  /** The guest's connections to a port of the gateway (10.0.2.2) come here. */
  expose(port: number, target: ExposeTarget): OpenPort {
    const network = this.#network();
    isPort("port", port);
    const place = typeof target === "number" ? { host: "127.0.0.1", port: target } : target;
    if (typeof place !== "function") isPlace("target", place);
    network.expose(port, (events) => {
      if (typeof place !== "function") return this.#connect(place.host, place.port, events);
      const stream = new WebNetStream(events);
      void Promise.resolve()
        .then(() => place(stream.connection))
        .catch(() => stream.close());
      return stream;
    });
    return openPort(port, () => network.expose(port, undefined));
  }
}

export const guestNet = (network: () => UserNetwork, connect: Connect): GuestNet => makeNet(network, connect);

const isPort = isWhole(1, 65_535);
const isPlace = isOptions<{ host: string; port: number }>({ host: isString, port: isPort }, ["host", "port"]);
const isForward = isOptions<ForwardOptions>(
  { guestPort: isPort, port: isWhole(0, 65_535), host: isString, protocol: isOneOf("tcp", "udp") },
  ["guestPort"],
);

function forwardRule(options: ForwardOptions): string {
  isForward("rule", options);
  const { protocol = "tcp", host = "127.0.0.1", port = 0, guestPort } = options;
  return `${protocol}:${host.includes(":") ? `[${host}]` : host}:${port}-:${guestPort}`;
}

function openPort(port: number, close: () => void): OpenPort {
  return { port, close, [Symbol.dispose]: close };
}

/** A stream of the user network whose other end is a program's web streams. */
class WebNetStream implements NetStream {
  events: StreamEvents | undefined;
  /** The guest has answered; rejects if it refuses. */
  readonly accepted: Promise<void>;
  readonly connection: GuestConnection;
  unsent = 0;
  #accept: () => void = () => {};
  #refuse: (error: Error) => void = () => {};
  readonly #pieces: Uint8Array<ArrayBuffer>[] = [];
  #hasEnded = false;
  #isFinished = false;
  #failure: UserNetError | undefined;
  #isReading = true;
  #more: () => void = () => {};
  #goOn: () => void = () => {};

  constructor(events?: StreamEvents) {
    this.events = events;
    this.accepted = new Promise((resolve, reject) => {
      this.#accept = resolve;
      this.#refuse = reject;
    });
    this.accepted.catch(() => {});
    const readable = new ReadableStream<Uint8Array<ArrayBuffer>>(
      {
        pull: (controller) => this.#pull(controller),
        cancel: () => this.close(),
      },
      { highWaterMark: 0 },
    );
    const writable = new WritableStream<Uint8Array>({
      write: (piece) => this.#send(piece),
      close: () => this.#finish(),
      abort: () => this.close(),
    });
    const close = async (): Promise<void> => this.close();
    this.connection = { readable, writable, close, [Symbol.asyncDispose]: close };
  }

  // The network's calls.

  write(bytes: Uint8Array): void {
    if (this.#failure !== undefined) return;
    this.#pieces.push(bytes.slice());
    this.unsent += bytes.length;
    this.#more();
  }
  end(): void {
    this.#hasEnded = true;
    this.#more();
    this.#settle();
  }
  reset(): void {
    this.#fail(new UserNetError("user-net.reset", "the guest has reset the connection"));
  }
  setReading(on: boolean): void {
    this.#isReading = on;
    if (on) this.#goOn();
  }
  hasAccepted(): void {
    this.#accept();
  }

  // The program's.

  close(): void {
    if (!(this.#hasEnded && this.#isFinished)) this.events?.closed("closed by the program");
    this.#fail(new UserNetError("user-net.closed", "the connection was closed"));
  }

  #fail(error: UserNetError): void {
    this.#failure ??= error;
    this.#refuse(
      new UserNetError("user-net.refused", "the guest refuses the connection, or does not answer"),
    );
    this.#more();
    this.#goOn();
  }

  async #pull(controller: ReadableStreamDefaultController<Uint8Array<ArrayBuffer>>): Promise<void> {
    while (this.#pieces.length === 0 && !this.#hasEnded && this.#failure === undefined)
      await new Promise<void>((resolve) => (this.#more = resolve));
    const piece = this.#pieces.shift();
    if (piece !== undefined) {
      this.unsent -= piece.length;
      controller.enqueue(piece);
      this.events?.sent();
    } else if (this.#hasEnded) controller.close();
    else controller.error(this.#failure);
  }

  async #send(piece: Uint8Array): Promise<void> {
    while (!this.#isReading && this.#failure === undefined)
      await new Promise<void>((resolve) => (this.#goOn = resolve));
    if (this.#failure !== undefined) throw this.#failure;
    this.events?.data(piece.slice());
  }
  #finish(): void {
    this.#isFinished = true;
    this.events?.ended();
    this.#settle();
  }
  #settle(): void {
    if (this.#hasEnded && this.#isFinished) this.events?.closed();
  }
}
