// What the readers of a stream's parts share: the cursor, where it is in words, and what the stream has said so far.
import type { DescribedStruct } from "../model/description.ts";
import type { Problem } from "../model/stream-report.ts";
import { stop } from "../model/problems.ts";
import type { Cursor } from "./byte-source.ts";

export class Scan {
  readonly cursor: Cursor;
  /** What is being read, for messages. */
  where = "header";
  readonly warnings: Problem[] = [];
  readonly capabilities = new Set<string>();
  /** Of the target, in bytes; undefined until the stream says it, or RAM shows it. */
  pageSize: number | undefined;
  /** From the CONFIGURATION section. */
  machine: string | undefined;
  /** What the VMDESCRIPTION says of the CONFIGURATION section, where it is known before. */
  configuration: DescribedStruct | undefined;
  /** Command POSTCOPY_ADVISE has come. */
  postcopyAdvised = false;

  constructor(cursor: Cursor) {
    this.cursor = cursor;
  }

  get offset(): number {
    return this.cursor.offset;
  }

  /** The stream says the target's page size; the first word counts, and only one that can be. */
  sayPageSize(bytes: number): void {
    if (isPageSize(bytes)) this.pageSize ??= bytes;
  }

  /** Stops the reading with what it lacks. */
  cut(missing: number): never {
    const { cursor } = this;
    const end = cursor.offset + cursor.available;
    stop("stream.cut", this.where, end, `${missing} more ${missing === 1 ? "byte" : "bytes"}`, "the end");
  }

  /** Buffers n bytes, or stops: the stream is cut. Check `cursor.available` first where speed matters. */
  async need(n: number): Promise<void> {
    const { cursor } = this;
    if (cursor.available < n && !(await cursor.need(n))) this.cut(n - cursor.available);
  }

  async skip(n: number): Promise<void> {
    const { cursor } = this;
    const end = cursor.offset + n;
    if (!(await cursor.skip(n))) this.cut(end - cursor.offset);
  }

  async u8(): Promise<number> {
    await this.need(1);
    return this.cursor.u8();
  }
  async u16(): Promise<number> {
    await this.need(2);
    return this.cursor.u16();
  }
  async u32(): Promise<number> {
    await this.need(4);
    return this.cursor.u32();
  }
  async u64(): Promise<bigint> {
    await this.need(8);
    return this.cursor.u64();
  }
  /** u8 length and characters. */
  async countedString(): Promise<string> {
    await this.need(1);
    await this.need(1 + this.cursor.bytes[this.cursor.at]!);
    return this.cursor.text(this.cursor.u8());
  }
}

/** In bytes: a power of two, as small as AVR's or as large as Hexagon's. */
export function isPageSize(bytes: number): boolean {
  return bytes >= 256 && bytes <= 65536 && Number.isInteger(Math.log2(bytes));
}
