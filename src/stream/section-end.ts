// Finds the end of a section of unknown size: no VMDESCRIPTION names it (postcopy, suppress-vmdesc, an
// unknown section with parts, one that the loader drops), or not yet (a pipe). Searches for the footer with
// the section's id, followed by something that can start there; in streams without footers (machine types
// before 2.4), for the head of another section.
import { MAX_COMMAND } from "./commands.ts";
import { FOOTER_BYTES } from "./section-frame.ts";
import type { StreamCursor } from "./stream-cursor.ts";
import { QEMU_VM } from "./wire.ts";

const MAX_VERSION = 0xffff;
const MAX_ID = 0xff_ffff;
const BRACE = "{".charCodeAt(0);

export interface EndSearch {
  readonly id: number;
  /** Whether the stream has footers; undefined if not known yet. */
  readonly footers: boolean | undefined;
  /** Ids of sections that have started and not ended. */
  readonly open: ReadonlySet<number>;
  /** Most bytes to search. */
  readonly limit: number;
  /**
   * True if the source may wait for an answer after the end of the stream: do not request bytes beyond it.
   */
  readonly isLive?: boolean;
}

/** Bytes from the cursor to the footer or the next head, all buffered; undefined if none is found. */
export async function findSectionEnd(cursor: StreamCursor, search: EndSearch): Promise<number | undefined> {
  const end = search.footers === false ? undefined : await find(cursor, search, isFooter);
  if (end !== undefined || search.footers === true) return end;
  return await find(cursor, search, isHead);
}

/**
 * What is at an index of the buffer. A number is how many bytes from the cursor must be buffered to decide.
 */
type Test = (view: Window, at: number) => boolean | number;

interface Window {
  readonly cursor: StreamCursor;
  readonly search: EndSearch;
  /** The stream ends after the buffered bytes. */
  readonly isWhole: boolean;
}

async function find(cursor: StreamCursor, search: EndSearch, test: Test): Promise<number | undefined> {
  let isWhole = false;
  for (let done = 0; done < search.limit; ) {
    if (done >= cursor.available && (isWhole || !(await cursor.ahead(done + 1)))) return undefined;
    const verdict = test({ cursor, search, isWhole }, cursor.at + done);
    if (verdict === true) return done;
    if (verdict === false) done++;
    else isWhole = !(await cursor.ahead(verdict));
  }
  return undefined;
}

/** Calls `decide` once the bytes up to index `end` are buffered. Returns `cut` if the stream ends before. */
function when({ cursor, isWhole }: Window, end: number, cut: boolean, decide: () => boolean | number) {
  if (end <= cursor.end) return decide();
  return isWhole ? cut : end - cursor.at;
}

function isFooter(window: Window, at: number): boolean | number {
  const { buffer, view } = window.cursor;
  if (buffer[at] !== QEMU_VM.SECTION_FOOTER) return false;
  return when(window, at + FOOTER_BYTES, false, () => {
    if (view.getUint32(at + 1) !== window.search.id) return false;
    const next = at + FOOTER_BYTES;
    return when(window, next + 1, true, () => canFollow(window, next));
  });
}

/**
 * True if the bytes at `at` can follow a footer. A stream that ends there is truncated; the section's end was
 * still found.
 */
function canFollow(window: Window, at: number): boolean | number {
  const { buffer, view } = window.cursor;
  const type = buffer[at];
  if (type === QEMU_VM.EOF) return isEnd(window, at, false);
  if (type === QEMU_VM.COMMAND) {
    return when(window, at + 3, true, () => {
      const command = view.getUint16(at + 1);
      return command > 0 && command <= MAX_COMMAND;
    });
  }
  return isHeadOfSection(window, at, true);
}

function isHead(window: Window, at: number): boolean | number {
  if (window.cursor.buffer[at] === QEMU_VM.EOF) return isEnd(window, at, true);
  return isHeadOfSection(window, at, false);
}

function isEnd(window: Window, at: number, withJson: boolean): boolean | number {
  const { buffer, end } = window.cursor;
  if (at + 1 === end && (window.isWhole || window.search.isLive === true)) return true;
  // After a footer with the right id an EOF is the end, whatever is wrong with the bytes after it.
  if (window.search.footers === true) return true;
  return when(window, at + 2, true, () => {
    if (buffer[at + 1] !== QEMU_VM.VMDESCRIPTION) return false;
    return !withJson || when(window, at + 7, false, () => buffer[at + 6] === BRACE);
  });
}

function isHeadOfSection(window: Window, at: number, cut: boolean): boolean | number {
  const { buffer, view } = window.cursor;
  const type = buffer[at];
  if (type === QEMU_VM.SECTION_PART || type === QEMU_VM.SECTION_END)
    return when(window, at + 5, cut, () => window.search.open.has(view.getUint32(at + 1)));
  if (type !== QEMU_VM.SECTION_START && type !== QEMU_VM.SECTION_FULL) return false;
  return when(window, at + 6, cut, () => {
    const length = buffer[at + 5]!;
    const behind = at + 6 + length;
    if (length < (window.search.footers === true ? 1 : 2) || view.getUint32(at + 1) > MAX_ID) return false;
    return when(window, behind + 8, cut, () => {
      for (let i = at + 6; i < behind; i++) if (buffer[i]! < 0x20 || buffer[i]! > 0x7e) return false;
      return view.getUint32(behind + 4) <= MAX_VERSION;
    });
  });
}
