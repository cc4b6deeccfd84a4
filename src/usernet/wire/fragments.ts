// IPv4 datagrams from their fragments (RFC 791). Bounded in number, bytes and time; overlaps are refused.
import type { IpPacket } from "./packet.ts";

const MAX_DATAGRAMS = 16;
const MAX_PIECES = 64;
const MAX_BYTES = 65_535;
const TIMEOUT_MS = 30_000;

interface Partial {
  readonly pieces: { readonly offset: number; readonly data: Uint8Array }[];
  /** Known once the last fragment is there. */
  total: number | undefined;
  readonly until: number;
}

export class Fragments {
  /** The oldest first. */
  readonly #partials = new Map<string, Partial>();

  clear(): void {
    this.#partials.clear();
  }

  /** The whole packet, if this was its last missing piece. */
  add(packet: IpPacket, nowMs: number): IpPacket | undefined {
    const { source, target, protocol, bytes, start, end } = packet;
    const { id, offset, more } = packet.fragment!;
    for (const [key, { until }] of this.#partials) if (until < nowMs) this.#partials.delete(key);
    const key = `${source.join()} ${target.join()} ${protocol} ${id}`;
    const length = end - start;
    if (length === 0 || offset + length > MAX_BYTES || (more && length % 8 !== 0)) return undefined;
    const partial = this.#partials.get(key) ?? { pieces: [], total: undefined, until: nowMs + TIMEOUT_MS };
    if (!this.#partials.has(key)) {
      const [oldest] = this.#partials.keys();
      if (this.#partials.size >= MAX_DATAGRAMS && oldest !== undefined) this.#partials.delete(oldest);
      this.#partials.set(key, partial);
    }
    const at = partial.pieces.findIndex((piece) => piece.offset >= offset);
    const next = partial.pieces[at];
    const before = partial.pieces.at(at < 0 ? -1 : at - 1);
    const isBefore = at !== 0 && before !== undefined;
    // A piece that came twice changes nothing; any other overlap is an attack.
    if (next?.offset === offset && next.data.length === length) return undefined;
    const overlaps =
      (next !== undefined && at >= 0 && offset + length > next.offset) ||
      (isBefore && before.offset + before.data.length > offset);
    if (overlaps || partial.pieces.length >= MAX_PIECES) {
      this.#partials.delete(key);
      return undefined;
    }
    partial.pieces.splice(at < 0 ? partial.pieces.length : at, 0, { offset, data: bytes.slice(start, end) });
    if (!more) partial.total = offset + length;
    let covered = 0;
    for (const piece of partial.pieces) covered += piece.data.length;
    if (partial.total === undefined || covered < partial.total) return undefined;
    this.#partials.delete(key);
    const whole = new Uint8Array(partial.total);
    for (const piece of partial.pieces) {
      if (piece.offset + piece.data.length > whole.length) return undefined;
      whole.set(piece.data, piece.offset);
    }
    return { source, target, protocol, ttl: packet.ttl, bytes: whole, start: 0, end: whole.length };
  }
}
