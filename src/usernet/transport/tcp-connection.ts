// One TCP connection (RFC 9293) between the guest and a stream of the host. The guest's window and the host
// stream's back-pressure bound what is kept in both directions: a window that closes stops reading from the
// host; a host that does not take bytes closes the window that the guest sees. The link loses little, so
// there is no congestion control but after a loss: then from one segment on (slow start).
// Left out: SACK, time stamps, urgent data.
import { ByteQueue } from "./byte-queue.ts";
import type { NetStream, StreamEvents } from "./net-platform.ts";
import type { TcpPosition } from "./ends.ts";
import { ACK, FIN, PSH, RST, SYN, type TcpSegment } from "../wire/tcp-segment.ts";

/** A segment to send; its data are `length` bytes of the connection's queue at `offset`. */
export interface OutgoingSegment {
  readonly seq: number;
  readonly ack: number;
  readonly flags: number;
  readonly window: number;
  readonly mss?: number | undefined;
  readonly scale?: number | undefined;
  readonly queue: ByteQueue;
  readonly offset: number;
  readonly length: number;
  /** Larger ones count as segments of so many bytes. */
  readonly segmentBytes?: number;
}

/** What a connection needs of the network. */
export interface TcpLink {
  nowMs(): number;
  /** The MSS that we announce, and the most that we send. */
  readonly mss: number;
  /** The most bytes for the guest at once, if that is more than its MSS; else 0. */
  readonly burst: number;
  /** How many bytes the connection may keep in a direction now. */
  readonly limit: number;
  /** Bytes kept by all connections changed. */
  account(change: number): void;
  /** It has segments to send. */
  wantsToSend(connection: TcpConnection): void;
  /** It is over: no event is of interest any more. */
  over(connection: TcpConnection, reason: string): void;
}

/** RFC 6298, for a link without distance. */
const MIN_RTO_MS = 300;
const FIRST_RTO_MS = 1000;
const MAX_RTO_MS = 60_000;
/** As many time-outs in a row: about two minutes. */
const MAX_RETRIES = 9;
const MAX_SYN_RETRIES = 5;
/** TIME-WAIT: no segment wanders long on this link. */
const TIME_WAIT_MS = 2000;
/** For the host to take the last bytes: two minutes. */
const MAX_LINGERS = 60;
const KEEP_ALIVE_MS = 7_200_000;
const KEEP_ALIVE_INTERVAL_MS = 75_000;
const KEEP_ALIVE_PROBES = 9;
/** RFC 1122's default for a SYN without the option. */
const DEFAULT_MSS = 536;
const OUR_SCALE = 7;
const MAX_WINDOW = 65535;
/** Segments that came too early; more are dropped and sent again. */
const MAX_EARLY = 64;
const NO_CONGESTION = 1 << 30;

/** The distance from b to a, modulo 2^32. */
const after = (a: number, b: number): number => (a - b) | 0;

interface EarlySegment {
  readonly seq: number;
  readonly data: Uint8Array;
  readonly fin: boolean;
}

type Phase = "connecting" | "syn-received" | "syn-sent" | "open" | "time-wait" | "over";

export class TcpConnection implements StreamEvents {
  readonly #link: TcpLink;
  readonly #queue = new ByteQueue();
  #stream: NetStream | undefined;
  #phase: Phase;
  // Towards the guest.
  readonly #iss: number;
  #una: number;
  #next: number;
  /** The furthest that was sent: after a time-out, `#next` goes back. */
  #max: number;
  #window = 0;
  #maxWindow = 0;
  #windowSeq = 0;
  #windowAck = 0;
  #scale = 0;
  #hasScale = false;
  #mss = DEFAULT_MSS;
  #congestion = NO_CONGESTION;
  #duplicates = 0;
  #recover: number;
  #hostEnded = false;
  #finAcked = false;
  #isReading = true;
  #probe = false;
  // From the guest.
  #expected = 0;
  /** The right edge of the window that was announced. */
  #edge = 0;
  #ackNow = false;
  #guestEnded = false;
  #early: EarlySegment[] = [];
  #kept = 0;
  // Time.
  #rto = FIRST_RTO_MS;
  #smoothed: number | undefined;
  #variance = 0;
  #timed: { readonly seq: number; readonly at: number } | undefined;
  #retries = 0;
  #deadline: number | undefined;
  #heard: number;
  #probes = 0;
  #isKeepAlive = false;
  /** Bytes moved, for the log. */
  sentBytes = 0;
  receivedBytes = 0;

  private constructor(link: TcpLink, phase: Phase, iss: number) {
    this.#link = link;
    this.#phase = phase;
    this.#iss = iss;
    this.#una = iss;
    this.#next = iss;
    this.#max = iss;
    this.#recover = iss;
    this.#heard = link.nowMs();
  }

  /** The guest's SYN; `attach` follows, with the stream that connects. */
  static fromGuest(link: TcpLink, syn: TcpSegment, iss: number): TcpConnection {
    const connection = new TcpConnection(link, "connecting", iss);
    connection.#takeSyn(syn);
    return connection;
  }

  /** Towards the guest, for a stream that has connected. */
  static toGuest(link: TcpLink, stream: NetStream, iss: number): TcpConnection {
    const connection = new TcpConnection(link, "syn-sent", iss);
    connection.#stream = stream;
    connection.#hasScale = true;
    connection.#wants();
    return connection;
  }

  attach(stream: NetStream): void {
    this.#stream = stream;
  }

  get isOver(): boolean {
    return this.#phase === "over";
  }
  get phase(): string {
    if (this.#phase !== "open") return this.#phase;
    if (this.#guestEnded) return this.#hostEnded ? "last-ack" : "close-wait";
    return this.#hostEnded ? "fin-wait" : "established";
  }
  /** What another network needs to reset it, or to tell that it is the same; undefined if it is not open. */
  get position(): TcpPosition | undefined {
    if (this.#phase !== "open" && this.#phase !== "syn-received") return undefined;
    return { sent: this.#max >>> 0, acked: this.#una >>> 0, expected: this.#expected >>> 0 };
  }

  /**
   * A guest that was saved at this position is here. Returns false if the connection has moved on without it:
   * what either side would send next, the other has had already.
   */
  continueAt({ acked, expected }: TcpPosition): boolean {
    const own = this.position;
    if (own?.acked !== acked || own.expected !== expected) return false;
    // What was on its way to the guest is lost; what it sent beyond a gap, it may send otherwise now.
    this.#next = this.#una;
    this.#early = [];
    this.#account();
    this.#timed = undefined;
    if (this.#phase === "open") this.#acknowledge();
    else this.#wants();
    return true;
  }

  /** Ends it; the guest is told by others, if it has it. */
  drop(reason: string): void {
    if (this.#phase !== "over") this.#endBothSides(reason);
  }

  // The host's stream.

  connected(): void {
    if (this.#phase !== "connecting") return;
    this.#phase = "syn-received";
    this.#wants();
  }

  data(bytes: Uint8Array): void {
    if (this.#phase === "over" || this.#hostEnded || bytes.length === 0) return;
    this.#queue.push(bytes);
    this.#account();
    this.#throttle();
    this.#wants();
  }

  ended(): void {
    if (this.#phase === "over" || this.#hostEnded) return;
    this.#hostEnded = true;
    this.#wants();
  }

  /** The host took bytes: the guest's window may open. */
  sent(): void {
    if (this.#phase === "over") return;
    this.#account();
    if (this.#guestEnded) return;
    // RFC 9293 §3.8.6.2.2: no small updates.
    const gain = after(this.#expected + this.#receiveWindow(), this.#edge);
    if (gain >= Math.min(this.#link.limit >> 1, 2 * this.#link.mss)) this.#acknowledge();
  }

  closed(error?: string): void {
    if (this.#phase === "over") return;
    if (error === undefined) return this.ended();
    this.#end(error, true);
  }

  /** Ends it at once, both sides see a reset. */
  abort(reason: string): void {
    if (this.#phase === "over") return;
    this.#stream?.reset();
    this.#end(reason, true);
  }

  // The guest's segments.

  input(segment: TcpSegment): void {
    if (this.#phase === "over") return;
    this.#heard = this.#link.nowMs();
    this.#probes = 0;
    const { flags } = segment;
    if (this.#phase === "connecting") {
      // Its SYN again, or it gave up.
      if (flags & RST) this.#endBothSides("the guest gave up");
      return;
    }
    if (this.#phase === "syn-sent") return this.#synSent(segment);
    if (!this.#isAcceptable(segment)) {
      if (!(flags & RST)) this.#acknowledge();
      return;
    }
    if (flags & RST) {
      // RFC 5961 §3.2: only an exact one counts.
      if (segment.seq === this.#expected >>> 0) this.#endBothSides("reset by the guest");
      else this.#acknowledge();
      return;
    }
    if (flags & SYN) return this.#acknowledge();
    if (!(flags & ACK) || !this.#takeAck(segment) || this.isOver) return;
    this.#takeData(segment);
  }

  /** Sends at most one segment: calls `send` and returns true if there is one. */
  output(send: (segment: OutgoingSegment) => void): boolean {
    switch (this.#phase) {
      case "connecting":
        return false;
      case "over":
        return false;
      case "syn-sent":
      case "syn-received": {
        if (this.#next !== this.#iss) return false;
        const isAnswer = this.#phase === "syn-received";
        const scale = this.#hasScale ? OUR_SCALE : undefined;
        this.#next = (this.#iss + 1) >>> 0;
        this.#max = this.#next;
        this.#edge = (this.#expected + Math.min(MAX_WINDOW, this.#receiveWindow())) >>> 0;
        send({
          seq: this.#iss,
          ack: isAnswer ? this.#expected : 0,
          flags: isAnswer ? SYN | ACK : SYN,
          window: Math.min(MAX_WINDOW, this.#receiveWindow()),
          mss: this.#link.mss,
          scale,
          ...{ queue: this.#queue, offset: 0, length: 0 },
        });
        this.#ackNow = false;
        this.#time();
        this.#arm();
        return true;
      }
      default:
        return this.#outputData(send);
    }
  }

  #outputData(send: (segment: OutgoingSegment) => void): boolean {
    const inFlight = after(this.#next, this.#una);
    const waiting = Math.max(0, this.#queue.length - inFlight);
    const usable = Math.min(this.#window, this.#congestion) - inFlight;
    const mss = this.#mss;
    const { burst } = this.#link;
    const most = burst > mss ? burst - (burst % mss) : mss;
    let length = Math.max(0, Math.min(waiting, usable, most));
    // Whole segments; what is left follows when it is all there is.
    if (length > mss && length < waiting) length -= length % mss;
    // RFC 9293 §3.8.6.2.1: a small segment only if it is all there is, or half of what the guest ever takes.
    if (length < this.#mss && length < waiting && length < this.#maxWindow >> 1 && inFlight > 0) length = 0;
    if (length === 0 && this.#probe && waiting > 0) length = 1;
    const finSeq = (this.#una + this.#queue.length) >>> 0;
    const isLast = this.#hostEnded && inFlight + length === this.#queue.length;
    const fin = isLast && after(this.#next, finSeq) <= 0 && (usable > length || inFlight === 0);
    if (length === 0 && !fin && !this.#ackNow) {
      if (waiting > 0) this.#arm();
      return false;
    }
    // A keep-alive is a byte before the window, which the guest answers (RFC 9293 §3.8.4).
    const isKeepAlive = this.#isKeepAlive && length === 0 && !fin;
    const seq = isKeepAlive ? (this.#next - 1) >>> 0 : this.#next;
    if (length > 0 || fin) this.#next = (seq + length + (fin ? 1 : 0)) >>> 0;
    if (after(this.#next, this.#max) > 0) {
      if (length > 0) this.#time();
      this.sentBytes += Math.max(0, after(this.#next, this.#max) - (fin ? 1 : 0));
      this.#max = this.#next;
    }
    send({
      seq,
      ack: this.#expected,
      flags: ACK | (fin ? FIN : 0) | (length > 0 && length === waiting ? PSH : 0),
      window: this.#announcedWindow(),
      segmentBytes: mss,
      ...{ queue: this.#queue, offset: inFlight, length },
    });
    this.#ackNow = false;
    this.#probe = false;
    this.#isKeepAlive = false;
    if (length > 0 || fin) this.#arm();
    return true;
  }

  /** Time has passed. Returns when it wants to be called again: undefined if never. */
  tick(now: number): number | undefined {
    if (this.#phase === "over") return undefined;
    if (this.#deadline !== undefined && now >= this.#deadline) this.#expired(now);
    if (this.isOver) return undefined;
    if (this.#deadline !== undefined) return this.#deadline;
    if (this.#phase !== "open") return undefined;
    const quiet = this.#heard + KEEP_ALIVE_MS + this.#probes * KEEP_ALIVE_INTERVAL_MS;
    if (now < quiet) return quiet;
    if (this.#probes++ >= KEEP_ALIVE_PROBES) {
      this.abort("the guest does not answer");
      return undefined;
    }
    this.#isKeepAlive = true;
    this.#acknowledge();
    return now + KEEP_ALIVE_INTERVAL_MS;
  }
  #expired(now: number): void {
    this.#deadline = undefined;
    if (this.#phase === "time-wait") {
      // What the host has not yet taken counts as kept; it must not be kept for ever.
      if ((this.#stream?.unsent ?? 0) === 0) return this.#end("closed", false);
      if (this.#retries++ >= MAX_LINGERS) return this.abort("the host does not take the last bytes");
      return this.#linger();
    }
    const inFlight = after(this.#max, this.#una);
    if (inFlight === 0 && this.#window > 0) return this.#wants();
    if (inFlight === 0) this.#probe = true;
    else {
      // A window that is closed is probed for as long as the guest answers (RFC 9293 §3.8.6.1).
      const isProbe = this.#phase === "open" && this.#window === 0 && now - this.#heard < MAX_RTO_MS * 2;
      const retries = this.#phase === "open" ? MAX_RETRIES : MAX_SYN_RETRIES;
      if (!isProbe && this.#retries >= retries) return this.abort("the guest does not answer");
      this.#retries++;
      this.#duplicates = 0;
      this.#probe = this.#window === 0;
      this.#goBack();
    }
    this.#timed = undefined;
    this.#rto = Math.min(MAX_RTO_MS, this.#rto * 2);
    this.#deadline = now + this.#rto;
    this.#wants();
  }

  /** All from the first byte that is not acknowledged is sent again, slowly. */
  #goBack(): void {
    this.#recover = this.#max;
    this.#congestion = this.#mss;
    this.#next = this.#una;
  }

  #synSent(segment: TcpSegment): void {
    const { flags, ack } = segment;
    if (flags & ACK && ack !== (this.#iss + 1) >>> 0) return;
    if (flags & RST) {
      if (flags & ACK) this.#endBothSides("refused by the guest");
      return;
    }
    if ((flags & (SYN | ACK)) !== (SYN | ACK)) return;
    this.#takeSyn(segment);
    this.#phase = "open";
    this.#una = ack;
    this.#deadline = undefined;
    this.#measure();
    // The window of a SYN is not scaled.
    this.#window = segment.window;
    this.#maxWindow = segment.window;
    this.#windowSeq = segment.seq;
    this.#windowAck = ack;
    this.#acknowledge();
    this.#stream?.hasAccepted?.();
  }

  #takeSyn(syn: TcpSegment): void {
    this.#expected = (syn.seq + 1) >>> 0;
    this.#edge = this.#expected;
    this.#mss = Math.max(1, Math.min(syn.mss ?? DEFAULT_MSS, this.#link.mss));
    this.#hasScale = syn.scale !== undefined;
    this.#scale = syn.scale ?? 0;
  }

  #isAcceptable({ seq, data, flags }: TcpSegment): boolean {
    const length = data.length + (flags & FIN ? 1 : 0);
    const room = Math.max(0, after(this.#edge, this.#expected));
    const from = after(seq, this.#expected);
    if (length === 0) return room === 0 ? from === 0 : from >= 0 && from <= room;
    return from < room && from + length > 0;
  }

  /** False if the segment acknowledges what was not sent. */
  #takeAck(segment: TcpSegment): boolean {
    const { ack, seq } = segment;
    if (after(ack, this.#max) > 0) {
      this.#acknowledge();
      return false;
    }
    if (this.#phase === "syn-received") {
      if (ack !== (this.#iss + 1) >>> 0) return false;
      this.#phase = "open";
      this.#una = ack;
      this.#next = ack;
      this.#windowSeq = (seq - 1) >>> 0;
      this.#deadline = undefined;
      this.#retries = 0;
      this.#measure();
    }
    const acked = after(ack, this.#una);
    const window = segment.window << this.#scale;
    if (acked > 0) this.#takeNewAck(ack, acked);
    else if (
      acked === 0 &&
      after(this.#max, this.#una) > 0 &&
      segment.data.length === 0 &&
      window === this.#window &&
      window > 0
    ) {
      if (++this.#duplicates === 3 && after(this.#una, this.#recover) >= 0) {
        this.#goBack();
        this.#timed = undefined;
        this.#wants();
      }
    }
    const isNewer = after(seq, this.#windowSeq);
    if (isNewer > 0 || (isNewer === 0 && after(ack, this.#windowAck) >= 0)) {
      if (window > this.#window) this.#wants();
      if (window > 0 && this.#window === 0 && this.#queue.length > 0) {
        // What was sent as a probe counts as lost.
        this.#rto = Math.max(MIN_RTO_MS, this.#smoothed ?? FIRST_RTO_MS);
        this.#next = this.#una;
        this.#arm();
      }
      this.#window = window;
      this.#maxWindow = Math.max(this.#maxWindow, window);
      this.#windowSeq = seq;
      this.#windowAck = ack;
    }
    return true;
  }

  #takeNewAck(ack: number, acked: number): void {
    const finAcked = this.#hostEnded && acked > this.#queue.length;
    this.#queue.drop(Math.min(acked, this.#queue.length));
    this.#account();
    this.#una = ack;
    if (after(this.#next, ack) < 0) this.#next = ack;
    this.#duplicates = 0;
    // Progress ends the back-off (RFC 6298 §5.7), though what was sent again cannot be measured.
    if (this.#retries > 0) this.#rto = this.#estimate();
    this.#retries = 0;
    if (this.#congestion < NO_CONGESTION) {
      this.#congestion += Math.min(acked, this.#mss) + this.#mss;
      if (after(ack, this.#recover) >= 0 && this.#congestion >= this.#maxWindow)
        this.#congestion = NO_CONGESTION;
    }
    this.#measure();
    this.#deadline = undefined;
    if (after(this.#max, this.#una) > 0) this.#arm();
    this.#throttle();
    this.#wants();
    this.#finAcked ||= finAcked;
    // The guest closed first: it is the one that waits.
    if (!this.#finAcked || !this.#guestEnded || this.#phase !== "open") return;
    if ((this.#stream?.unsent ?? 0) > 0) this.#linger();
    else this.#end("closed", false);
  }

  #takeData({ seq, data, flags }: TcpSegment): void {
    const fin = (flags & FIN) !== 0;
    if (data.length === 0 && !fin) return;
    this.#acknowledge();
    if (this.#guestEnded) return;
    const room = Math.max(0, after(this.#edge, this.#expected));
    const from = after(seq, this.#expected);
    // What is behind the window is dropped, and a FIN after it too.
    const cut = data.subarray(0, Math.max(0, room - from));
    const isWhole = cut.length === data.length;
    if (from > 0) return this.#keepEarly(seq, cut, fin && isWhole);
    this.#deliver(cut.subarray(Math.min(cut.length, -from)), fin && isWhole);
    while (this.#early.length > 0 && !this.#guestEnded) {
      const first = this.#early[0]!;
      const gap = after(first.seq, this.#expected);
      if (gap > 0) break;
      this.#early.shift();
      if (first.data.length + gap >= 0) this.#deliver(first.data.subarray(-gap), first.fin);
    }
    this.#account();
    this.#finish();
  }

  #deliver(data: Uint8Array, fin: boolean): void {
    if (data.length > 0) {
      this.#expected = (this.#expected + data.length) >>> 0;
      this.receivedBytes += data.length;
      // A small part must not keep a large frame alive.
      this.#stream?.write(data.byteLength * 2 < data.buffer.byteLength ? data.slice() : data);
    }
    if (!fin) return;
    this.#expected = (this.#expected + 1) >>> 0;
    this.#guestEnded = true;
    this.#early = [];
    this.#stream?.end();
  }

  #keepEarly(seq: number, data: Uint8Array, fin: boolean): void {
    this.#acknowledge();
    if (this.#early.length >= MAX_EARLY || (data.length === 0 && !fin)) return;
    const at = this.#early.findIndex((each) => after(each.seq, seq) >= 0);
    const there = this.#early[at];
    if (there?.seq === seq && there.data.length >= data.length) return;
    if (this.#earlyBytes() + data.length > this.#link.limit) return;
    this.#early.splice(at < 0 ? this.#early.length : at, 0, { seq, data: data.slice(), fin });
    this.#account();
  }

  /** Both directions have ended, ours first. */
  #finish(): void {
    if (!this.#guestEnded || !this.#finAcked || this.#phase !== "open") return;
    // Our last acknowledgement may be lost: the guest would send its FIN again.
    this.#linger();
    this.#wants();
  }

  #linger(): void {
    this.#phase = "time-wait";
    this.#deadline = this.#link.nowMs() + TIME_WAIT_MS;
  }

  #earlyBytes(): number {
    let sum = 0;
    for (const { data } of this.#early) sum += data.length;
    return sum;
  }

  /** How much the guest may send now. */
  #receiveWindow(): number {
    const free = this.#link.limit - (this.#stream?.unsent ?? 0);
    return Math.max(0, Math.min(free, this.#hasScale ? MAX_WINDOW << OUR_SCALE : MAX_WINDOW));
  }

  /** In the header's unit. The window's edge never goes back (RFC 9293 §3.8.6). */
  #announcedWindow(): number {
    const scale = this.#hasScale ? OUR_SCALE : 0;
    const promised = Math.max(0, after(this.#edge, this.#expected));
    const free = this.#receiveWindow();
    // A window below a segment would invite small ones.
    const offered = free < Math.min(this.#link.mss, this.#link.limit >> 2) ? 0 : free;
    // Rounded down: a rest of less than a unit must not grow with each segment.
    const window = Math.min(MAX_WINDOW, Math.max(promised, offered) >> scale);
    const edge = (this.#expected + (window << scale)) >>> 0;
    if (after(edge, this.#edge) > 0) this.#edge = edge;
    return window;
  }

  /** Reads from the host only while there is room. */
  #throttle(): void {
    const { limit } = this.#link;
    const on = this.#isReading ? this.#queue.length < limit : this.#queue.length <= limit >> 1;
    if (on === this.#isReading) return;
    this.#isReading = on;
    this.#stream?.setReading(on);
  }

  #account(): void {
    // A stream may end the connection while it is written to.
    if (this.#phase === "over") return;
    const kept = this.#queue.length + (this.#stream?.unsent ?? 0) + this.#earlyBytes();
    if (kept !== this.#kept) this.#link.account(kept - this.#kept);
    this.#kept = kept;
  }

  #acknowledge(): void {
    this.#ackNow = true;
    this.#wants();
  }
  #wants(): void {
    this.#link.wantsToSend(this);
  }

  #time(): void {
    this.#timed ??= { seq: this.#next, at: this.#link.nowMs() };
  }
  #measure(): void {
    const timed = this.#timed;
    if (timed === undefined || after(this.#una, timed.seq) < 0) return;
    this.#timed = undefined;
    const rtt = Math.max(1, this.#link.nowMs() - timed.at);
    if (this.#smoothed === undefined) {
      this.#smoothed = rtt;
      this.#variance = rtt / 2;
    } else {
      this.#variance = 0.75 * this.#variance + 0.25 * Math.abs(this.#smoothed - rtt);
      this.#smoothed = 0.875 * this.#smoothed + 0.125 * rtt;
    }
    this.#rto = this.#estimate();
  }
  #estimate(): number {
    if (this.#smoothed === undefined) return FIRST_RTO_MS;
    return Math.min(MAX_RTO_MS, Math.max(MIN_RTO_MS, this.#smoothed + 4 * this.#variance));
  }
  #arm(): void {
    this.#deadline ??= this.#link.nowMs() + this.#rto;
  }

  #endBothSides(reason: string): void {
    this.#stream?.reset();
    this.#end(reason, false);
  }

  /** `tell`: the guest is sent a reset. */
  #end(reason: string, tell: boolean): void {
    const wasKnown = this.#phase !== "time-wait";
    this.resetSegment =
      tell && wasKnown
        ? {
            seq: this.#phase === "connecting" ? 0 : this.#next,
            ack: this.#expected,
            flags: RST | ACK,
            window: 0,
            ...{ queue: this.#queue, offset: 0, length: 0 },
          }
        : undefined;
    this.#phase = "over";
    this.#link.account(-this.#kept);
    this.#kept = 0;
    this.#early = [];
    this.#link.over(this, reason);
  }
  /** For the network, when it is over: a reset for the guest. */
  resetSegment: OutgoingSegment | undefined;
}
