// The checksum of the Internet protocols (RFC 1071).

/** The sum of 16-bit words, not complemented; `start` is even in its packet. */
export function sum16(bytes: Uint8Array, start: number, end: number, initial = 0): number {
  let sum = initial;
  const at = bytes.byteOffset + start;
  if ((at & 1) === 0 && end - start >= 64) {
    // Words in the host's order: the sum of swapped words is the swapped sum.
    const words = new Uint16Array(bytes.buffer, at, (end - start) >> 1);
    let [native, i] = [0, 0];
    while (i < words.length) {
      // Small enough for a 31-bit integer.
      for (const stop = Math.min(words.length, i + 0x4000); i < stop; i++) native += words[i]!;
      native = (native & 0xffff) + (native >>> 16);
    }
    native = (native & 0xffff) + (native >>> 16);
    sum += LITTLE_ENDIAN ? ((native & 0xff) << 8) | (native >>> 8) : native;
    if (((end - start) & 1) === 1) sum += bytes[end - 1]! << 8;
  } else {
    let i = start;
    for (; i + 1 < end; i += 2) sum += (bytes[i]! << 8) | bytes[i + 1]!;
    if (i < end) sum += bytes[i]! << 8;
  }
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return sum;
}
const LITTLE_ENDIAN = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;

export const checksum = (bytes: Uint8Array, start: number, end: number, initial = 0): number =>
  ~sum16(bytes, start, end, initial) & 0xffff;

/** Where a packet's checksum belongs, if its sender left it out: the field has the pseudo-header's sum. */
export interface PartialSum {
  /** The first byte that counts; the last one is the frame's. */
  readonly sumStart: number;
  /** Of the field, from there. */
  readonly sumOffset: number;
}

/** Adds what is missing of a checksum. Zero is written as 0xffff, which UDP does not take for none. */
export function finishSum(frame: Uint8Array, { sumStart, sumOffset }: PartialSum): void {
  const sum = checksum(frame, sumStart, frame.length) || 0xffff;
  frame[sumStart + sumOffset] = sum >> 8;
  frame[sumStart + sumOffset + 1] = sum;
}
