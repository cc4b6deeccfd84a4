// The VMDESCRIPTION after a stream's EOF: type byte, be32 length, JSON that names the fields of the device
// sections. Written by qemu_savevm_state_complete_precopy in QEMU's migration/savevm.c. Left out: the JSON,
// which inspect/model/description.ts parses.
import { hex } from "../base/hex.ts";
import type { StreamCursor } from "./stream-cursor.ts";
import { QEMU_VM } from "./wire.ts";

/** Type byte and length. */
export const VMDESCRIPTION_HEAD_BYTES = 5;
/** Limit of the JSON, in bytes; QEMU has none. */
export const MAX_VMDESCRIPTION = 64 * 1024 * 1024;

/**
 * Reads type byte and length. Resolves to the length of the JSON, which follows. Reports another type byte,
 * does not consume it, and resolves to undefined.
 */
export async function readVmDescriptionHead(cursor: StreamCursor): Promise<number | undefined> {
  const { offset } = cursor;
  await cursor.need(1);
  const type = cursor.buffer[cursor.at]!;
  if (type !== QEMU_VM.VMDESCRIPTION) {
    const expected = `the VMDESCRIPTION (${hex(QEMU_VM.VMDESCRIPTION)})`;
    cursor.report({ code: "stream.trailing", offset, expected, found: `type ${hex(type)}` });
    return undefined;
  }
  await cursor.need(VMDESCRIPTION_HEAD_BYTES);
  const length = cursor.peekU32(1);
  if (length > MAX_VMDESCRIPTION) {
    const expected = `a VMDESCRIPTION of at most ${MAX_VMDESCRIPTION} bytes`;
    cursor.refuse({ code: "stream.limit", offset, expected, found: `${length} bytes` });
  }
  cursor.skip(VMDESCRIPTION_HEAD_BYTES);
  return length;
}
