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
