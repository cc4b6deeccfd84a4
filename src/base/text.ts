// Text: UTF-8, quotes, names of bits.
import { runtimeGlobals } from "./runtime-globals.ts";

const encoder = new runtimeGlobals.TextEncoder();
const decoder = new runtimeGlobals.TextDecoder("utf-8");

export function encodeUtf8(text: string): Uint8Array<ArrayBuffer> {
  return encoder.encode(text);
}

/** Malformed input decodes to U+FFFD. */
export function decodeUtf8(bytes: Uint8Array): string {
  return decoder.decode(bytes);
}

/**
 * Quotes text of a stream or a file for a message, which may reach a terminal: as JSON, with the control
 * characters that JSON allows (DEL, C1) escaped as well.
 */
export function quoted(text: string): string {
  const escape = (char: string): string => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return JSON.stringify(text).replace(/[\x7f-\x9f]/g, escape);
}

/**
 * Names of the bits that are set, by the first table that has one, the lowest first; undefined if none is
 * set.
 */
export function bitNames(
  value: bigint,
  ...tables: readonly Readonly<Record<number, string>>[]
): string | undefined {
  const names: string[] = [];
  for (let bit = 0, left = value; left !== 0n; bit++, left >>= 1n) {
    if ((left & 1n) === 0n) continue;
    names.push(tables.map((table) => table[bit]).find((name) => name !== undefined) ?? `bit ${bit}`);
  }
  return names.length === 0 ? undefined : names.join(" ");
}
