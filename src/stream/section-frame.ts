// The frame of a section: its head (type and id; in START and FULL also name, instance and version) and its
// footer. Written by save_section_header and save_section_footer in QEMU's migration/savevm.c.
import { hex } from "../base/hex.ts";
import type { StreamCursor } from "./stream-cursor.ts";
import { QEMU_VM } from "./wire.ts";

export interface SectionHead {
  /** The position of the section's type byte: where an error about the head is. */
  readonly offset: number;
  readonly id: number;
  readonly idstr: string;
  readonly instanceId: number;
  readonly version: number;
}

export const FOOTER_BYTES = 5;

/** Reads the head of a START or FULL section, after its type byte. */
export async function readSectionHead(cursor: StreamCursor): Promise<SectionHead> {
  const offset = cursor.offset - 1;
  const id = await cursor.nextU32();
  const idstr = await cursor.nextString();
  await cursor.need(8);
  return { offset, id, idstr, instanceId: cursor.u32(), version: cursor.u32() };
}

export async function readSectionFooter(cursor: StreamCursor, id: number): Promise<void> {
  const { offset } = cursor;
  await cursor.need(FOOTER_BYTES);
  const mark = cursor.u8();
  const foundId = cursor.u32();
  if (mark === QEMU_VM.SECTION_FOOTER && foundId === id) return;
  const expected = `footer ${hex(QEMU_VM.SECTION_FOOTER)} of section ${id}`;
  const found = mark === QEMU_VM.SECTION_FOOTER ? `the footer of section ${foundId}` : `byte ${hex(mark)}`;
  cursor.refuse({ code: "stream.footer", offset, expected, found });
}

/** True if the whole footer of section `id` is buffered at index `at`. */
export function isFooterAt({ buffer, view, end }: StreamCursor, at: number, id: number): boolean {
  return buffer[at] === QEMU_VM.SECTION_FOOTER && at + FOOTER_BYTES <= end && view.getUint32(at + 1) === id;
}
