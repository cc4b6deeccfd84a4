// UTF-8. TextEncoder and TextDecoder exist on every host, but only `dom` and `node` type them.

interface TextCodecs {
  TextEncoder: new () => { encode(s: string): Uint8Array<ArrayBuffer> };
  TextDecoder: new (label: string) => { decode(b: Uint8Array): string };
}
const { TextEncoder, TextDecoder } = globalThis as unknown as TextCodecs;
const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8");

export function encodeUtf8(text: string): Uint8Array<ArrayBuffer> {
  return encoder.encode(text);
}

/** Malformed input becomes U+FFFD. */
export function decodeUtf8(bytes: Uint8Array): string {
  return decoder.decode(bytes);
}

/**
 * Text of a stream or a file in quotes, for messages, which go to terminals: as JSON has it, and without the control
 * characters that JSON leaves (DEL, C1).
 */
export function quoted(text: string): string {
  const escape = (char: string): string => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return JSON.stringify(text).replace(/[\x7f-\x9f]/g, escape);
}
