// Finds the VMDESCRIPTION at the end of a file before the rest is read, because its sizes delimit
// the device sections. It is the last part of a stream: type byte 06, be32 length, JSON; zeros or other
// leftover bytes may follow.
import { MAX_VMDESCRIPTION, VMDESCRIPTION_HEAD_BYTES as HEAD } from "../../stream/vm-description.ts";
import { QEMU_VM } from "../../stream/wire.ts";
import { type Description, parseDescription } from "../model/description.ts";
import type { ByteSource } from "./byte-source.ts";

const FIRST_WINDOW = 256 * 1024;
/** Maximum number of candidate start positions to examine, which bounds the time for random bytes. */
const MAX_TRIES = 16;
const BRACE = "{".charCodeAt(0);
const CLOSING_BRACE = "}".charCodeAt(0);

/** A VMDESCRIPTION, and its place in the source, in bytes. */
export interface FoundDescription {
  /** Offset of the VMDESCRIPTION's type byte. */
  readonly offset: number;
  readonly description: Description;
}

/** Undefined if the source does not end with a valid VMDESCRIPTION. */
export async function findDescription(
  source: ByteSource,
  start: number,
): Promise<FoundDescription | undefined> {
  const { size } = source;
  if (size === undefined) return undefined;
  let tries = 0;
  for (let window = FIRST_WINDOW; ; window *= 16) {
    const from = Math.max(start, size - window);
    const bytes = await readAll(source, from, size - from);
    const view = new DataView(bytes.buffer);
    // JSON has no control characters: the first candidate found is at its start.
    for (
      let at = bytes.lastIndexOf(QEMU_VM.VMDESCRIPTION);
      at >= 0;
      at = bytes.lastIndexOf(QEMU_VM.VMDESCRIPTION, at - 1)
    ) {
      if (at + HEAD < bytes.length && bytes[at + HEAD] === BRACE) {
        const end = at + HEAD + view.getUint32(at + 1);
        if (end <= bytes.length && lastOf(bytes, end) === CLOSING_BRACE) {
          if (tries++ === MAX_TRIES) return undefined;
          try {
            return { offset: from + at, description: parseDescription(bytes.subarray(at + HEAD, end)) };
          } catch {
            // Another 06 may be the start. If there is none, the reader stops here and reports the reason.
          }
        }
      }
      if (at === 0) break;
    }
    if (from === start || window >= MAX_VMDESCRIPTION) return undefined;
  }
}

/** The last byte before `end` that is not white space. */
function lastOf(bytes: Uint8Array, end: number): number | undefined {
  let at = end - 1;
  while (at > 0 && (bytes[at] === 0x20 || bytes[at] === 0x0a)) at--;
  return bytes[at];
}

/** Reads `length` bytes; returns fewer if the source ends earlier. */
export async function readAll(
  source: ByteSource,
  offset: number,
  length: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(length);
  let at = 0;
  while (at < length) {
    const got = await source.read(offset + at, bytes.subarray(at));
    if (got === 0) break;
    at += got;
  }
  return bytes.subarray(0, at);
}
