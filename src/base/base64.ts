// Base64 (RFC 4648 §4), which ECMAScript has only from 2026 on.

const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const VALUES = new Int8Array(256).fill(-1);
for (let i = 0; i < DIGITS.length; i++) VALUES[DIGITS.charCodeAt(i)] = i;
/** Strings are built of pieces: one of megabytes, character by character, would be slow. */
const PIECE = 3 * 4096;

export function encodeBase64(bytes: Uint8Array): string {
  const pieces: string[] = [];
  for (let from = 0; from < bytes.length; from += PIECE) {
    let text = "";
    const end = Math.min(bytes.length, from + PIECE);
    for (let i = from; i < end; i += 3) {
      const [a = 0, b = 0, c = 0] = [bytes[i], bytes[i + 1], bytes[i + 2]];
      const bits = (a << 16) | (b << 8) | c;
      text += (DIGITS[bits >> 18] ?? "") + (DIGITS[(bits >> 12) & 63] ?? "");
      text += i + 1 < end ? (DIGITS[(bits >> 6) & 63] ?? "") : "=";
      text += i + 2 < end ? (DIGITS[bits & 63] ?? "") : "=";
    }
    pieces.push(text);
  }
  return pieces.join("");
}

/** Undefined if it is not base64 with padding. */
export function decodeBase64(text: string): Uint8Array<ArrayBuffer> | undefined {
  if (text.length % 4 !== 0) return undefined;
  const padding = text.endsWith("==") ? 2 : text.endsWith("=") ? 1 : 0;
  const digits = text.length - padding;
  const bytes = new Uint8Array((text.length / 4) * 3 - padding);
  let bits = 0;
  for (let i = 0, at = 0; i < digits; i++) {
    const value = VALUES[text.charCodeAt(i) & 0xff] ?? -1;
    if (value < 0 || text.charCodeAt(i) > 0xff) return undefined;
    bits = (bits << 6) | value;
    if (i % 4 === 0) continue;
    bytes[at++] = bits >> (6 - 2 * (i % 4));
    bits &= 63;
  }
  return bytes;
}
