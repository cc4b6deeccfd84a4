// The inspector's cursor over a file or a pipe, and the state that the readers of a stream's parts share: the
// part being read, the facts so far, and the faults after which reading continues.
import { StreamCursor } from "../../stream/stream-cursor.ts";
import { StreamFacts } from "../../stream/stream-facts.ts";
import type { StreamFault } from "../../stream/stream-fault.ts";
import type { DescribedStruct } from "../model/description.ts";
import { problem, stop } from "../model/problems.ts";
import type { Problem } from "../model/stream-report.ts";
import type { ByteSource } from "./byte-source.ts";

const FIRST_READ_BYTES = 64 * 1024;
const READ_BYTES = 4 * 1024 * 1024;
/** Buffer size at first, for a small source. */
const FIRST_BYTES = 4096;
const MAX_WARNINGS = 10_000;

export class Scan extends StreamCursor {
  readonly source: ByteSource;
  readonly facts = new StreamFacts();
  /** The part being read, for messages. */
  where = "header";
  readonly warnings: Problem[] = [];
  /** The VMDESCRIPTION's entry for the CONFIGURATION section, if the VMDESCRIPTION was found. */
  configuration: DescribedStruct | undefined;

  constructor(source: ByteSource, offset = 0) {
    super(
      Math.min(FIRST_READ_BYTES, Math.max(FIRST_BYTES, source.size ?? FIRST_READ_BYTES)),
      READ_BYTES,
      offset,
    );
    this.source = source;
  }

  override get fileOffset(): number {
    return this.offset;
  }

  cut(missing: number): never {
    const end = this.offset + this.available;
    stop("stream.cut", this.where, end, `${missing} more ${missing === 1 ? "byte" : "bytes"}`, "the end");
  }

  refuse({ code, where = this.where, offset, expected, found, cause, cure }: StreamFault): never {
    const known = { ...(cause === undefined ? {} : { cause }), ...(cure === undefined ? {} : { cure }) };
    stop(code, where, offset, expected, found, known);
  }

  report({ code, where = this.where, offset, expected, found }: StreamFault): void {
    if (this.warnings.length < MAX_WARNINGS)
      this.warnings.push(problem(code, where, offset, expected, found));
  }

  protected fill(into: Uint8Array, offset: number): Promise<number> {
    return this.source.read(offset, into);
  }

  protected override jump(bytes: number, offset: number): Promise<number> {
    const { size } = this.source;
    return Promise.resolve(
      size === undefined || bytes <= this.buffer.length ? 0 : Math.min(bytes, size - offset),
    );
  }
}
