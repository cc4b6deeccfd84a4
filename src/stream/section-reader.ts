// Device sections for the loader: head, the decoder's bytes, footer. The order and the set of sections are
// checked by load-stream.ts, and by qemu-load.ts for QEMU's own streams.
import { ByteReader, EndOfBytes } from "../base/bytes.ts";
import { messageOf, WherryError } from "../base/errors.ts";
import { hex } from "../base/hex.ts";
import { quoted } from "../base/text.ts";
import type { Section } from "../state/section.ts";
import { DECODE_LOOKAHEAD } from "./integrity.ts";
import { GET_ANOTHER_COPY } from "./migration-error.ts";
import { isFooterAt, readSectionFooter, readSectionHead, type SectionHead } from "./section-frame.ts";
import { findSectionEnd } from "./section-end.ts";
import type { StreamReader } from "./stream-reader.ts";

/** No device has more state than this (RAM is not in device sections). */
const MAX_SECTION_BYTES = 32 * 1024 * 1024;
const NONE: ReadonlySet<number> = new Set();
export class SectionReader {
  readonly #stream: StreamReader;

  constructor(stream: StreamReader) {
    this.#stream = stream;
  }

  /** Refuses the type byte that was just read. */
  unexpected(type: number, expected: string): never {
    const { offset } = this.#stream;
    this.#stream.fail(
      "migration.type",
      `expected ${expected}, found type ${hex(type)}; ${GET_ANOTHER_COPY}`,
      offset - 1,
    );
  }

  /** Reads type byte, section id, name, instance and version of a START or FULL section. */
  async head(): Promise<SectionHead> {
    const stream: StreamReader = this.#stream;
    await stream.nextU8();
    const head = await readSectionHead(stream);
    // The name of a damaged stream can hold any bytes, and messages go to terminals.
    const name = /^[\x21-\x7e]{1,80}$/.test(head.idstr) ? head.idstr : quoted(head.idstr);
    stream.where = () => `section ${name}/${head.instanceId}`;
    return head;
  }

  async footer(id: number): Promise<void> {
    await readSectionFooter(this.#stream, id);
  }

  /** Skips the data of a section of possibly unknown length, and its footer. */
  async drop(id: number): Promise<void> {
    const stream: StreamReader = this.#stream;
    const search = { id, footers: true, open: NONE, limit: MAX_SECTION_BYTES, isLive: true };
    const bytes = await findSectionEnd(stream, search);
    if (bytes === undefined) {
      if (stream.available >= MAX_SECTION_BYTES) this.#tooLarge();
      stream.cut(1);
    }
    stream.skip(bytes);
    await this.footer(id);
  }

  /** Buffers `needed` bytes; false if the stream ends before. Refuses more than any section needs. */
  async #room(needed: number): Promise<boolean> {
    const stream: StreamReader = this.#stream;
    if (needed > MAX_SECTION_BYTES && stream.available < needed) this.#tooLarge();
    return await stream.ahead(needed);
  }

  #tooLarge(): never {
    const message = `asks for more than ${MAX_SECTION_BYTES} bytes; ${GET_ANOTHER_COPY}`;
    this.#stream.fail("migration.section-size", message);
  }

  /**
   * A section's length is not in the stream, so the decoder runs on the bytes that have arrived, and again
   * with more bytes if they were too few. It needs the footer or DECODE_LOOKAHEAD bytes after the section's
   * end to recognise a subsection. Only a cut stream has fewer; the read that misses bytes reports the cut.
   */
  async decode(section: Section, version: number, id: number): Promise<() => void> {
    const stream: StreamReader = this.#stream;
    let needed = 1;
    for (;;) {
      const cut = !(await this.#room(needed));
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
        (failure === undefined && isFooterAt(stream, stream.at + reader.offset, id));
      if (shortage === undefined && seen) {
        if (apply !== undefined) {
          stream.skip(reader.offset);
          return apply;
        }
        const offset =
          failure instanceof WherryError && "offset" in failure ? Number(failure.offset ?? 0) : 0;
        stream.fail("migration.decode", messageOf(failure), stream.offset + offset, failure);
      }
      // A decoder that failed on few bytes runs again with a few more: it may have taken the end of the
      // buffered bytes for the end of the section.
      needed =
        failure === undefined || shortage !== undefined
          ? Math.max(shortage ?? 0, data.length + 1)
          : reader.offset + DECODE_LOOKAHEAD;
      if (cut) await stream.need(needed);
    }
  }
}

/** Bytes from the section's start that a decoder needed, if it failed because they were missing. */
function shortageOf(error: unknown): number | undefined {
  if (error instanceof EndOfBytes) return error.offset + error.needed;
  if (error instanceof WherryError && error.code === "state.end") return 0;
  return error instanceof Error && error.cause !== undefined ? shortageOf(error.cause) : undefined;
}
