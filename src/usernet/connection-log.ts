// What the network tells of its connections: who reached what, what was refused, how it ended.

/** An event of a user network. */
export interface ConnectionEvent {
  readonly kind: "open" | "refused" | "closed";
  readonly protocol: "tcp" | "udp" | "dns";
  /** From the guest to the outside, or from the host to the guest. */
  readonly direction: "out" | "in";
  /** The guest's end, such as 10.0.2.15:4242. */
  readonly guest?: string | undefined;
  /** The other end as the guest sees it. */
  readonly remote?: string | undefined;
  /** The name that the guest resolved for it, or asks for. */
  readonly name?: string | undefined;
  /** Why it was refused or how it ended. */
  readonly reason?: string | undefined;
  /** Bytes to the guest, and from it. */
  readonly toGuestBytes?: number | undefined;
  readonly fromGuestBytes?: number | undefined;
  /** Events before this one that were not reported, since there were too many. */
  readonly dropped?: number | undefined;
}

/** Hears of each event. */
export type OnConnection = (event: ConnectionEvent) => void;

/** Events a second that are reported: a guest must not fill the host's disk with its attempts. */
const MAX_A_SECOND = 200;

export class ConnectionLog {
  #listener: OnConnection | undefined;
  readonly #nowMs: () => number;
  #second = 0;
  #count = 0;
  #dropped = 0;

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  listen(listener: OnConnection | undefined): void {
    this.#listener = listener;
  }

  add(event: ConnectionEvent): void {
    if (this.#listener === undefined) return;
    const second = Math.floor(this.#nowMs() / 1000);
    if (second !== this.#second) this.#count = 0;
    this.#second = second;
    if (++this.#count > MAX_A_SECOND) {
      this.#dropped++;
      return;
    }
    this.#listener(this.#dropped === 0 ? event : { ...event, dropped: this.#dropped });
    this.#dropped = 0;
  }
}
