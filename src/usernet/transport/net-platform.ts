// What the user network needs of its platform: streams, datagrams, names, time. Addresses are text, IPv4 or
// IPv6 without brackets.

/** What a stream calls. After `closed` it calls nothing. None is called before the stream was returned. */
export interface StreamEvents {
  connected(): void;
  /** Bytes from the peer, which the receiver owns. */
  data(bytes: Uint8Array): void;
  /** The peer has sent all it will send. */
  ended(): void;
  /** `unsent` became less. */
  sent(): void;
  /** Both directions have ended, or the stream failed: `error` is the system's code, such as ECONNREFUSED. */
  closed(error?: string): void;
}

/** One end of a byte stream, TCP or another. */
export interface NetStream {
  /** Sends bytes, which the stream may keep. */
  write(bytes: Uint8Array): void;
  /** Bytes written and not yet taken by the system. */
  readonly unsent: number;
  /** Ends this direction, after all that was written. */
  end(): void;
  /** Ends both directions at once; the peer sees a reset. */
  reset(): void;
  /** A stream that leads to a guest: the guest has accepted it. */
  hasAccepted?(): void;
  /** Stops `data`, or goes on. A stream begins with `data` on. */
  setReading(on: boolean): void;
}

/** Makes the receiver of a new stream. Undefined refuses it. */
export type AcceptStream = (stream: NetStream, address: string, port: number) => StreamEvents | undefined;

/** Receives a datagram, whose bytes it owns. */
export type ReceiveDatagram = (bytes: Uint8Array, address: string, port: number) => void;

/** A socket for datagrams. */
export interface NetDatagrams {
  /** Its port; 0: it has none yet. */
  readonly port: number;
  send(bytes: Uint8Array, address: string, port: number): void;
  close(): void;
}

/** A bound socket; `port` is the one that was assigned. */
export interface NetListener {
  readonly port: number;
  close(): void;
}

/** Sockets, names and time of a platform. */
export interface NetPlatform {
  connect(address: string, port: number, events: StreamEvents): NetStream;
  /** Rejects with an Error that says why. */
  listen(address: string, port: number, accept: AcceptStream): Promise<NetListener>;
  /**
   * A socket of its own for one guest's port; it never fails: datagrams that cannot be sent are lost. `port`:
   * the one that it has if that is free.
   */
  datagrams(family: 4 | 6, receive: ReceiveDatagram, port?: number): NetDatagrams;
  /** A socket on a given address. Rejects with an Error that says why. */
  bindDatagrams(address: string, port: number, receive: ReceiveDatagram): Promise<NetDatagrams & NetListener>;
  /** Asks the host's resolvers a DNS message; resolves with the answer, undefined if there is none. */
  resolve(query: Uint8Array): Promise<Uint8Array | undefined>;
  /** The host's own addresses now, those of its loopback interface included. */
  ownAddresses(): ReadonlySet<string>;
  nowMs(): number;
  setTimer(delayMs: number, fire: () => void): { cancel(): void };
  randomBytes(length: number): Uint8Array;
}
