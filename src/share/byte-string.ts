// Names and paths of files as the wire has them: bytes, not text. A byte string has one character (U+0000 to
// U+00FF) for each byte, so that any name survives, compares and concatenates exactly.
import { decodeUtf8, encodeUtf8 } from "../base/text.ts";

const PIECE = 8192;

export function byteString(bytes: Uint8Array): string {
  if (bytes.length <= PIECE) return String.fromCharCode(...bytes);
  const pieces = Array.from({ length: Math.ceil(bytes.length / PIECE) }, (_, i) =>
    String.fromCharCode(...bytes.subarray(i * PIECE, (i + 1) * PIECE)),
  );
  return pieces.join("");
}

export function bytesOf(text: string): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

/** A byte string of a text's UTF-8. */
export const byteStringOf = (text: string): string => byteString(encodeUtf8(text));

/** For a message to the user. */
export const readable = (text: string): string => decodeUtf8(bytesOf(text));
