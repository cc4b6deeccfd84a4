// Sections of QEMU's grammar (design 04), one at a time: head, the decoder's bytes, footer. What order they come in and
// which ones there are is for those who use it: load-stream.ts, and qemu-load.ts for QEMU's own streams.
import { ByteReader, EndOfBytes } from "../base/bytes.ts";
import { messageOf, WherryError } from "../base/errors.ts";
import { hex } from "../base/hex.ts";
import { decodeUtf8 } from "../base/text.ts";
import type { Section } from "../state/section.ts";
import { GET_ANOTHER_COPY } from "./migration-error.ts";
import { DECODE_LOOKAHEAD } from "./integrity.ts";
import type { StreamReader } from "./stream-reader.ts";
import { QEMU_VM } from "./wire.ts";

/** No device has more state than this (RAM is not in device sections). */
const MAX_SECTION_BYTES = 32 * 1024 * 1024;
export const FOOTER_BYTES = 5;
const HEAD_BYTES = 1 + 4 + 1;

export interface Head {
  readonly id: number;
  readonly idstr: string;
  readonly instanceId: number;
  readonly version: number;
}

export class SectionReader {
  readonly #stream: StreamReader;

  constructor(stream: StreamReader) {
    this.#stream = stream;
  }

  /** Of a type byte that was just read. */
  unexpected(type: number, expected: string): never {
    const { offset } = this.#stream;
    this.#stream.fail(
      "migration.type",
      `expected ${expected}, found type ${hex(type)}; ${GET_ANOTHER_COPY}`,
      offset - 1,
    );
  }

  /** Type byte, section id, name, instance and version of a START or FULL section. */
  async head(): Promise<Head> {
    const stream: StreamReader = this.#stream;
    await stream.need(HEAD_BYTES);
    const length = stream.peekAll()[HEAD_BYTES - 1] ?? 0;
    await stream.need(HEAD_BYTES + length + 8);
    stream.skip(1);
    const id = stream.u32();
    stream.skip(1);
    const idstr = decodeUtf8(stream.bytes(length));
    const instanceId = stream.u32();
    const version = stream.u32();
    // Of a damaged stream it may be anything, and messages go to terminals.
    const name = idstr.replace(/[^\x20-\x7e]/g, "?");
    stream.where = () => `section ${name}/${instanceId}`;
    return { id, idstr, instanceId, version };
  }

  async footer(id: number): Promise<void> {
    const stream: StreamReader = this.#stream;
    await stream.need(FOOTER_BYTES);
    const at = stream.offset;
    const type = stream.u8();
    const found = stream.u32();
    if (type === QEMU_VM.SECTION_FOOTER && found === id) return;
    stream.fail(
      "migration.footer",
      `expected its footer (${hex(QEMU_VM.SECTION_FOOTER)}, section id ${id}), found ${hex(type)}, ${found}; ${GET_ANOTHER_COPY}`,
      at,
    );
  }

  /** True if `data` has the footer of section `id` at `at`. */
  static footerAt(data: Uint8Array, at: number, id: number): boolean {
    if (data[at] !== QEMU_VM.SECTION_FOOTER || at + FOOTER_BYTES > data.length) return false;
    return new ByteReader(data, at + 1).u32() === id;
  }

  /** Grows what is available to `needed` bytes; false if the stream ends before. Refuses what no section needs. */
  async room(needed: number): Promise<boolean> {
    const stream: StreamReader = this.#stream;
    while (stream.available < needed) {
      if (needed > MAX_SECTION_BYTES) {
        stream.fail(
          "migration.section-size",
          `asks for more than ${MAX_SECTION_BYTES} bytes; ${GET_ANOTHER_COPY}`,
        );
      }
      if (!(await stream.more(needed))) return false;
    }
    return true;
  }

  /**
   * QEMU's sections do not say how long they are, so the decoder runs on what has arrived, and again when that was too
   * little. It must see its footer or DECODE_LOOKAHEAD bytes beyond its end, or it could take a subsection for the next
   * thing; only where the stream is cut there are fewer, and what is said of the cut is said by whoever misses the bytes.
   */
  async decode(section: Section, version: number, id: number): Promise<() => void> {
    const stream: StreamReader = this.#stream;
    let needed = 1;
    for (;;) {
      const cut = !(await this.room(needed));
      const data = stream.peekAll();
      const reader = new ByteReader(data);
      let failure: unknown;
      let apply: (() => void) | undefined;
      try {
        apply = section.decode(reader, version);
      } catch (error) {
        failure = error;
      }
      const shortage = shortageOf(failure);
      const seen =
        cut ||
        data.length - reader.offset >= DECODE_LOOKAHEAD ||
        data.length > MAX_SECTION_BYTES ||
        (failure === undefined && SectionReader.footerAt(data, reader.offset, id));
      if (shortage === undefined && seen) {
        if (apply !== undefined) {
          stream.skip(reader.offset);
          return apply;
        }
        const offset =
          failure instanceof WherryError && "offset" in failure ? Number(failure.offset ?? 0) : 0;
        stream.fail("migration.decode", messageOf(failure), stream.offset + offset, failure);
      }
      // What failed with few bytes is asked for a few more: it may have taken the end of them for the section's.
      needed =
        failure === undefined || shortage !== undefined
          ? Math.max(shortage ?? 0, data.length + 1)
          : reader.offset + DECODE_LOOKAHEAD;
      if (cut) await stream.need(needed);
    }
  }
}

/** How many bytes from the section's start a decoder that ran out of them asked for, if that is why it failed. */
function shortageOf(error: unknown): number | undefined {
  if (error instanceof EndOfBytes) return error.offset + error.needed;
  if (error instanceof WherryError && error.code === "state.end") return 0;
  return error instanceof Error && error.cause !== undefined ? shortageOf(error.cause) : undefined;
}
