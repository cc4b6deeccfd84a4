// A guest's network stack for tests, written apart from the one under test: frames by hand, and a TCP that
// takes and sends as its options say. It checks what it receives: checksums, addresses, the window.
import type { Random } from "../support/random.ts";
import type { VirtualHost } from "./virtual-host.ts";

export const GUEST_MAC = Buffer.from("525400123456", "hex");
const GATEWAY_MAC = Buffer.from("52550a000202", "hex");
export const [FIN, SYN, RST, PSH, ACK] = [1, 2, 4, 8, 16] as const;

export function ip4(text: string): Buffer {
  return Buffer.from(text.split(".").map(Number));
}

/** The complement of the ones' complement sum, a byte at a time. */
export function sumOf(...parts: Uint8Array[]): number {
  const all = Buffer.concat(parts);
  let sum = 0;
  for (const [i, byte] of all.entries()) sum += i % 2 === 0 ? byte * 256 : byte;
  while (sum > 0xffff) sum = (sum % 65536) + Math.floor(sum / 65536);
  return 0xffff - sum;
}

export function ipv4Frame(
  protocol: number,
  source: Uint8Array,
  target: Uint8Array,
  payload: Uint8Array,
  { flags = 0, id = 1, to = GATEWAY_MAC as Uint8Array, from = GUEST_MAC as Uint8Array } = {},
): Buffer {
  const header = Buffer.alloc(20);
  header[0] = 0x45;
  header.writeUInt16BE(20 + payload.length, 2);
  header.writeUInt16BE(id, 4);
  header.writeUInt16BE(flags, 6);
  header[8] = 64;
  header[9] = protocol;
  header.set(source, 12);
  header.set(target, 16);
  header.writeUInt16BE(sumOf(header), 10);
  return Buffer.concat([to, from, Buffer.from([8, 0]), header, payload]);
}

function pseudo(source: Uint8Array, target: Uint8Array, protocol: number, length: number): Buffer {
  return Buffer.from([...source, ...target, 0, protocol, length >> 8, length & 255]);
}

export function udpPayload(
  source: Uint8Array,
  target: Uint8Array,
  sourcePort: number,
  targetPort: number,
  data: Uint8Array,
): Buffer {
  const head = Buffer.alloc(8);
  head.writeUInt16BE(sourcePort, 0);
  head.writeUInt16BE(targetPort, 2);
  head.writeUInt16BE(8 + data.length, 4);
  head.writeUInt16BE(sumOf(pseudo(source, target, 17, 8 + data.length), head, data) || 0xffff, 6);
  return Buffer.concat([head, data]);
}

export interface Segment {
  readonly sourcePort: number;
  readonly targetPort: number;
  readonly seq: number;
  readonly ack: number;
  readonly flags: number;
  readonly window: number;
  readonly options?: Uint8Array | undefined;
  readonly data: Uint8Array;
}

export function tcpPayload(source: Uint8Array, target: Uint8Array, segment: Segment): Buffer {
  const { options = new Uint8Array(0), data } = segment;
  const head = Buffer.alloc(20 + options.length);
  head.writeUInt16BE(segment.sourcePort, 0);
  head.writeUInt16BE(segment.targetPort, 2);
  head.writeUInt32BE(segment.seq >>> 0, 4);
  head.writeUInt32BE(segment.ack >>> 0, 8);
  head[12] = (head.length / 4) << 4;
  head[13] = segment.flags;
  head.writeUInt16BE(segment.window, 14);
  head.set(options, 20);
  head.writeUInt16BE(sumOf(pseudo(source, target, 6, head.length + data.length), head, data), 16);
  return Buffer.concat([head, data]);
}

/** An IPv4 packet that came; throws if a checksum is wrong. */
export function readIpv4(
  frame: Uint8Array,
): { protocol: number; source: string; target: string; payload: Buffer; flags: number } | undefined {
  const bytes = Buffer.from(frame);
  if (bytes.readUInt16BE(12) !== 0x0800) return undefined;
  const header = bytes.subarray(14, 34);
  if (sumOf(header) !== 0) throw new Error("an IP header with a wrong checksum");
  const payload = bytes.subarray(34, 14 + header.readUInt16BE(2));
  const [source, target] = [header.subarray(12, 16), header.subarray(16, 20)];
  const flags = header.readUInt16BE(6);
  const protocol = header[9]!;
  if (
    (flags & 0x3fff) === 0 &&
    protocol !== 1 &&
    sumOf(pseudo(source, target, protocol, payload.length), payload) !== 0
  )
    throw new Error(`protocol ${protocol} with a wrong checksum`);
  return { protocol, source: source.join("."), target: target.join("."), payload, flags };
}

export function readTcp(payload: Buffer): Segment {
  const head = (payload[12]! >> 4) * 4;
  return {
    sourcePort: payload.readUInt16BE(0),
    targetPort: payload.readUInt16BE(2),
    seq: payload.readUInt32BE(4),
    ack: payload.readUInt32BE(8),
    flags: payload[13]!,
    window: payload.readUInt16BE(14),
    options: payload.subarray(20, head),
    data: payload.subarray(head),
  };
}

export interface TcpHabits {
  /** Announced; undefined: no option. */
  readonly mss?: number | undefined;
  readonly scale?: number | undefined;
  /** Bytes that wait for the program at most. */
  readonly buffer: number;
  /** Bytes that the program reads a ms. */
  readonly rate: number;
  /** Keeps segments that come early. */
  readonly keepsEarly: boolean;
  readonly rtoMs: number;
}

const diff = (a: number, b: number): number => (a - b) | 0;

/** One connection of the guest. */
export class GuestTcp {
  readonly #host: VirtualHost;
  readonly #out: (segment: Segment) => void;
  readonly habits: TcpHabits;
  readonly port: number;
  readonly peerPort: number;
  readonly #iss: number;
  state: "closed" | "syn-sent" | "syn-received" | "open" | "reset" = "closed";
  received: Buffer[] = [];
  receivedBytes = 0;
  peerEnded = false;
  #toSend = Buffer.alloc(0);
  #una: number;
  #next: number;
  #finSeq: number | undefined;
  #endAfter = false;
  #window = 0;
  #peerScale = 0;
  #peerMss = 536;
  #expected = 0;
  #edge = 0;
  #unread = 0;
  readonly #early = new Map<number, Segment>();
  #timer: { cancelled: boolean } | undefined;
  /** The most that the peer had in flight beyond the window that was announced. */
  overrun = 0;

  constructor(
    host: VirtualHost,
    port: number,
    peerPort: number,
    habits: TcpHabits,
    iss: number,
    out: (segment: Segment) => void,
  ) {
    this.#host = host;
    this.port = port;
    this.peerPort = peerPort;
    this.habits = habits;
    this.#iss = iss >>> 0;
    this.#una = this.#iss;
    this.#next = this.#iss;
    this.#out = out;
  }

  get isDone(): boolean {
    return this.peerEnded && this.#finSeq !== undefined && diff(this.#una, this.#finSeq) > 0;
  }
  get contents(): Buffer {
    return Buffer.concat(this.received);
  }

  connect(): void {
    this.state = "syn-sent";
    this.#sendSyn();
  }
  send(bytes: Uint8Array): void {
    this.#toSend = Buffer.concat([this.#toSend, bytes]);
    this.#output();
  }
  end(): void {
    this.#endAfter = true;
    this.#output();
  }
  reset(): void {
    this.state = "reset";
    this.#emit(RST | ACK, this.#next);
  }
  forget(): void {
    this.state = "closed";
    if (this.#timer !== undefined) this.#timer.cancelled = true;
  }
  probe(): void {
    this.#emit(ACK, this.#next);
  }

  #sendSyn(): void {
    const { mss, scale } = this.habits;
    const options = [
      ...(mss === undefined ? [] : [2, 4, mss >> 8, mss & 255]),
      ...(scale === undefined ? [] : [1, 3, 3, scale]),
    ];
    this.#next = (this.#iss + 1) >>> 0;
    const flags = this.state === "syn-received" ? SYN | ACK : SYN;
    this.#emit(flags, this.#iss, undefined, Uint8Array.from(options));
    this.#arm();
  }

  input(segment: Segment): void {
    const { flags, data, seq, ack } = segment;
    if (this.state === "reset") return;
    if (flags & RST) {
      const isRight =
        this.state === "syn-sent" ? ack === (this.#iss + 1) >>> 0 : diff(seq, this.#expected) >= 0;
      if (isRight) this.state = "reset";
      return;
    }
    if (this.state === "closed") {
      if ((flags & (SYN | ACK)) !== SYN) return;
      this.state = "syn-received";
      this.#takeSyn(segment);
      return this.#sendSyn();
    }
    if (this.state === "syn-sent") {
      if ((flags & (SYN | ACK)) !== (SYN | ACK) || ack !== (this.#iss + 1) >>> 0) return;
      this.#takeSyn(segment);
      this.state = "open";
      this.#window = segment.window;
      this.#una = ack;
      this.#disarm();
      this.#emit(ACK, this.#next);
      return this.#output();
    }
    if (flags & SYN) return this.state === "open" ? this.#emit(ACK, this.#next) : this.#sendSyn();
    if (this.state === "syn-received" && flags & ACK && ack === (this.#iss + 1) >>> 0) this.state = "open";
    if (this.state !== "open") return;
    const acked = diff(ack, this.#una);
    if (diff(ack, this.#next) > 0) throw new Error("an acknowledgement of what was not sent");
    if (acked > 0) {
      const isFin = this.#finSeq !== undefined && diff(ack, this.#finSeq) > 0;
      const fromSyn = this.#una === this.#iss ? 1 : 0;
      this.#toSend = this.#toSend.subarray(acked - (isFin ? 1 : 0) - fromSyn);
      this.#una = ack;
      this.#disarm();
      if (diff(this.#next, this.#una) > 0) this.#arm();
    }
    if (acked >= 0) this.#window = segment.window << (this.habits.scale === undefined ? 0 : this.#peerScale);
    if (data.length > 0 || flags & FIN) this.#take(segment);
    // A keep-alive.
    else if (diff(seq, this.#expected) < 0) this.#emit(ACK, this.#next);
    this.#output();
  }

  #takeSyn({ seq, options = new Uint8Array(0) }: Segment): void {
    this.#expected = (seq + 1) >>> 0;
    this.#edge = this.#expected;
    for (let at = 0; at < options.length; ) {
      const kind = options[at]!;
      if (kind === 1) {
        at++;
        continue;
      }
      if (kind === 2) this.#peerMss = (options[at + 2]! << 8) | options[at + 3]!;
      if (kind === 3) this.#peerScale = options[at + 2]!;
      at += options[at + 1]!;
    }
  }

  #take(segment: Segment): void {
    const { seq, data, flags } = segment;
    // One byte beyond is a probe.
    this.overrun = Math.max(this.overrun, diff((seq + data.length) >>> 0, this.#edge) - 1);
    if (data.length > (this.habits.mss ?? 536)) throw new Error(`${data.length} bytes in a segment`);
    const from = diff(seq, this.#expected);
    if (from > 0) {
      if (this.habits.keepsEarly) this.#early.set(seq, segment);
      return this.#emit(ACK, this.#next);
    }
    const room = diff(this.#edge, this.#expected);
    const fresh = data.subarray(Math.min(data.length, -from), Math.max(0, -from) + Math.max(0, room));
    this.#accept(Buffer.from(fresh));
    const isWhole = fresh.length === data.length + Math.min(0, from) || -from >= data.length;
    if (flags & FIN && isWhole && !this.peerEnded && diff(this.#expected, (seq + data.length) >>> 0) === 0) {
      this.#expected = (this.#expected + 1) >>> 0;
      this.peerEnded = true;
    }
    const next = this.#early.get(this.#expected);
    this.#early.delete(this.#expected);
    if (next !== undefined) return this.#take(next);
    this.#emit(ACK, this.#next);
  }

  #accept(data: Buffer): void {
    if (data.length === 0) return;
    this.received.push(data);
    this.receivedBytes += data.length;
    this.#expected = (this.#expected + data.length) >>> 0;
    this.#unread += data.length;
    this.#host.after(1 + Math.floor(data.length / this.habits.rate), () => {
      const wasClosed = this.#free() === 0;
      this.#unread -= data.length;
      if (wasClosed && this.state === "open") this.#emit(ACK, this.#next);
    });
  }

  #free(): number {
    const free = Math.max(0, this.habits.buffer - this.#unread);
    return free < Math.min(this.habits.buffer / 2, this.habits.mss ?? 536) ? 0 : free;
  }

  #output(): void {
    if (this.state !== "open") return;
    const mss = this.#peerMss;
    for (;;) {
      const inFlight = diff(this.#next, this.#una);
      if (this.#finSeq !== undefined && diff(this.#next, this.#finSeq) > 0) break;
      const length = Math.max(0, Math.min(mss, this.#toSend.length - inFlight, this.#window - inFlight));
      const isLast = this.#endAfter && inFlight + length >= this.#toSend.length;
      if (length === 0 && !isLast) break;
      const data = this.#toSend.subarray(inFlight, inFlight + length);
      const seq = this.#next;
      this.#next = (seq + length + (isLast ? 1 : 0)) >>> 0;
      if (isLast) this.#finSeq = (this.#next - 1) >>> 0;
      this.#emit(ACK | (isLast ? FIN : 0) | (length > 0 ? PSH : 0), seq, Buffer.from(data));
    }
    if (diff(this.#next, this.#una) > 0 || this.#toSend.length > 0) this.#arm();
  }

  #expire(): void {
    if (this.state === "reset") return;
    if (this.state === "syn-sent" || this.state === "syn-received") return this.#sendSyn();
    const inFlight = diff(this.#next, this.#una);
    const data = this.#toSend.subarray(
      0,
      Math.min(this.#peerMss, Math.max(1, Math.min(this.#window, this.#toSend.length))),
    );
    if (data.length > 0) {
      if (inFlight < data.length) this.#next = (this.#una + data.length) >>> 0;
      this.#emit(ACK, this.#una, Buffer.from(data));
    } else if (this.#finSeq !== undefined && diff(this.#una, this.#finSeq) <= 0)
      this.#emit(ACK | FIN, this.#finSeq);
    this.#arm();
  }
  #arm(): void {
    if (this.#timer !== undefined && !this.#timer.cancelled) return;
    const timer = this.#host.after(this.habits.rtoMs, () => {
      if (timer.cancelled) return;
      timer.cancelled = true;
      this.#expire();
    });
    this.#timer = timer;
  }
  #disarm(): void {
    if (this.#timer !== undefined) this.#timer.cancelled = true;
  }

  #emit(flags: number, seq: number, data: Buffer = Buffer.alloc(0), options?: Uint8Array): void {
    const scale = flags & SYN || this.habits.scale === undefined ? 0 : this.habits.scale;
    const window = Math.min(65535, Math.max(this.#free(), diff(this.#edge, this.#expected)) >> scale);
    const edge = (this.#expected + (window << scale)) >>> 0;
    if (diff(edge, this.#edge) > 0) this.#edge = edge;
    const ack = this.state === "syn-sent" ? 0 : this.#expected;
    this.#out({ sourcePort: this.port, targetPort: this.peerPort, seq, ack, flags, window, options, data });
  }
}

/** A wire that loses, doubles and reorders. */
export function badWire(
  host: VirtualHost,
  random: Random,
  { loss, doubles, delays }: { loss: number; doubles: number; delays: number },
  deliver: (frame: Uint8Array) => void,
): (frame: Uint8Array) => void {
  const chance = (percent: number): boolean => random.int(1000) < percent * 10;
  return (frame) => {
    const copies = chance(loss) ? 0 : chance(doubles) ? 2 : 1;
    for (let i = 0; i < copies; i++) {
      const late = chance(delays) ? random.int(30) : 0;
      host.after(late, () => deliver(Uint8Array.from(frame)));
    }
  };
}
