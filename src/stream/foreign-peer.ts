// Names what speaks at the other end of a connection if it is no migration stream: a port scanner, a browser,
// another server at a wrong address. Only the first bytes are looked at, and only to say what they are.
import { decodeUtf8, quoted } from "../base/text.ts";

/** The most bytes that are looked at or shown. */
export const FOREIGN_BYTES = 64;

const starts: readonly (readonly [RegExp, string])[] = [
  [/^HTTP\//, "an HTTP server's answer"],
  [/^(?:[A-Z]{3,9} \S+ HTTP\/|PRI \* HTTP\/2)/, "an HTTP request"],
  [/^SSH-/, "SSH"],
  [/^\{\s*['"](?:QMP|execute)/, "QMP, which is what the address of --qmp speaks"],
  [/^NBDMAGIC/, "an NBD server"],
  [/^RFB /, "a VNC server"],
  [/^QEVM/, "a migration stream: both sides send"],
  [/^(?:220|221|421)[ -]/, "an SMTP or FTP server"],
];

/** A TLS record: alert or handshake, version 3. */
const isTls = (bytes: Uint8Array) => (bytes[0] === 0x15 || bytes[0] === 0x16) && bytes[1] === 3;
const TLS = "TLS, which moves do not use: forward the port through a tunnel";

const hexBytes = (bytes: Uint8Array): string =>
  `the bytes ${[...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join(" ")}`;

/** Names the protocol of `bytes`, the first of a connection, and quotes them. */
export function foreignPeer(bytes: Uint8Array): string {
  const first = bytes.subarray(0, FOREIGN_BYTES);
  const latin1 = String.fromCharCode(...first);
  const name = isTls(first) ? TLS : starts.find(([start]) => start.test(latin1))?.[1];
  const line = /^[\t\x20-\x7e]*/.exec(latin1)?.[0] ?? "";
  const isText = line.length >= Math.min(4, first.length) && line.length > 0;
  const shown = isText ? quoted(decodeUtf8(first.subarray(0, line.length))) : hexBytes(first.subarray(0, 16));
  return name === undefined ? shown : `${name} (${shown})`;
}
