// Where a section ends whose size nothing says: no VMDESCRIPTION names it (postcopy, suppress-vmdesc, a section with parts
// that is not known), or not yet (a pipe). Looks for its footer with the right id and something after it that can begin
// there; without footers (machine types before 2.4), for the head of another section.
import { QEMU_VM } from "../../stream/wire.ts";
import type { Scan } from "./scan.ts";

export const FOOTER_BYTES = 5;
/** Type, id, counted name, instance, version. */
const MAX_HEAD = 1 + 4 + 1 + 255 + 4 + 4;
const MAX_VERSION = 0xffff;
/** MIG_CMD_SWITCHOVER_START; a newer one is not known here at all. */
const MAX_COMMAND = 11;

export interface EndSearch {
  readonly id: number;
  /** Undefined: not known yet. */
  readonly footers: boolean | undefined;
  /** Sections that have begun and not ended. */
  readonly open: ReadonlySet<number>;
  /** Bytes to look at, at most. */
  readonly limit: number;
}

/** Bytes from the cursor to the footer or the next head, all of them buffered; undefined if none was found. */
export async function findEnd(scan: Scan, search: EndSearch): Promise<number | undefined> {
  const end = search.footers === false ? undefined : await find(scan, search, isFooter);
  if (end !== undefined || search.footers === true) return end;
  return find(scan, search, isHead);
}

type Test = (scan: Scan, at: number, search: EndSearch) => boolean;

async function find(scan: Scan, search: EndSearch, test: Test): Promise<number | undefined> {
  const { cursor } = scan;
  let done = 0;
  for (let window = 64 * 1024; ; window *= 2) {
    const whole = !(await cursor.need(window + FOOTER_BYTES + MAX_HEAD));
    const last = whole ? cursor.available : window;
    for (; done < last; done++) if (test(scan, cursor.at + done, search)) return done;
    if (whole || done >= search.limit) return undefined;
  }
}

function isFooter(scan: Scan, at: number, search: EndSearch): boolean {
  const { bytes, view, end } = scan.cursor;
  if (bytes[at] !== QEMU_VM.SECTION_FOOTER || at + FOOTER_BYTES > end) return false;
  if (view.getUint32(at + 1) !== search.id) return false;
  const next = at + FOOTER_BYTES;
  // All that can follow is buffered, unless the stream ends here.
  if (next === end) return true;
  if (bytes[next] === QEMU_VM.EOF && bytes[next + 1] === QEMU_VM.VMDESCRIPTION) return true;
  if (bytes[next] === QEMU_VM.COMMAND) {
    if (next + 3 > end) return true;
    const command = view.getUint16(next + 1);
    return command > 0 && command <= MAX_COMMAND;
  }
  return isHead(scan, next, search) || isCutHead(scan, next);
}

/** The first bytes of a section's head, before the stream ends. */
function isCutHead(scan: Scan, at: number): boolean {
  const { bytes, end } = scan.cursor;
  const type = bytes[at];
  if (type === QEMU_VM.SECTION_PART || type === QEMU_VM.SECTION_END) return at + 5 > end;
  if (type !== QEMU_VM.SECTION_START && type !== QEMU_VM.SECTION_FULL) return false;
  return at + 6 > end || at + 6 + bytes[at + 5]! + 8 > end;
}

function isHead(scan: Scan, at: number, search: EndSearch): boolean {
  const { bytes, view, end } = scan.cursor;
  const type = bytes[at];
  if (type === QEMU_VM.EOF) {
    if (at + 1 === end) return true;
    return bytes[at + 1] === QEMU_VM.VMDESCRIPTION && at + 6 < end && bytes[at + 6] === 0x7b;
  }
  if (at + 5 > end) return false;
  const id = view.getUint32(at + 1);
  if (type === QEMU_VM.SECTION_PART || type === QEMU_VM.SECTION_END) return search.open.has(id);
  if (type !== QEMU_VM.SECTION_START && type !== QEMU_VM.SECTION_FULL) return false;
  const length = bytes[at + 5] ?? 0;
  const behind = at + 6 + length;
  if (length < 2 || behind + 8 > end || id > 0xff_ffff) return false;
  for (let i = at + 6; i < behind; i++) {
    const char = bytes[i]!;
    if (char < 0x20 || char > 0x7e) return false;
  }
  return view.getUint32(behind + 4) <= MAX_VERSION;
}
