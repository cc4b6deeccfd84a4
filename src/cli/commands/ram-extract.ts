// `wherry inspect --ram-extract`: writes a block of guest RAM, or a range of it, to a file while the stream
// is read. A page that is sent again is written again; XBZRLE is applied to the file's page. Zero pages
// remain holes.
import { closeSync, ftruncateSync, openSync, readSync, writeSync } from "node:fs";
import { inflateSync } from "node:zlib";
import { messageOf } from "../../base/errors.ts";
import { hex } from "../../base/hex.ts";
import { leavesOutZeros, type RamBlockReport, type StreamReport } from "../../inspect/model/stream-report.ts";
import type { PageVisitor } from "../../inspect/read/read-stream.ts";
import { applyXbzrle } from "../../stream/xbzrle.ts";
import { systemReason } from "../../node/channels/system-reason.ts";
import { CliError } from "../output/cli-error.ts";

export interface ExtractSpec {
  readonly block: string;
  /** In bytes; default: the whole block. */
  readonly range?: { readonly offset: number; readonly length: number };
  readonly path: string;
}

/** `BLOCK[:OFFSET+LENGTH]=FILE`. */
export function extractSpec(text: string): ExtractSpec {
  const match = /^(.+?)(?::(0x[0-9a-f]+|\d+)\+(0x[0-9a-f]+|\d+))?=(.+)$/i.exec(text);
  if (match === null) throw new Error("expected BLOCK=FILE, or BLOCK:OFFSET+LENGTH=FILE for a part of it");
  const [, block = "", offset, length, path = ""] = match;
  if (offset === undefined) return { block, path };
  return { block, range: { offset: Number(offset), length: Number(length) }, path };
}

export class RamExtract {
  readonly spec: ExtractSpec;
  #file: number | undefined;
  #start = 0;
  #end = 0;
  #block: RamBlockReport | undefined;
  #page = new Uint8Array(0);
  #pages = 0;

  constructor(spec: ExtractSpec) {
    this.spec = spec;
  }

  #open(block: RamBlockReport): number {
    const { range, path } = this.spec;
    this.#block = block;
    this.#start = range?.offset ?? 0;
    this.#end = range === undefined ? block.size : range.offset + range.length;
    if (this.#end > block.size) {
      throw new CliError(
        `block ${block.name} has ${hex(block.size)} bytes: ${hex(this.#end)} is beyond its end`,
      );
    }
    this.#file = openSync(path, "w+");
    ftruncateSync(this.#file, this.#end - this.#start);
    return this.#file;
  }

  readonly visit: PageVisitor = (block, offset, kind, bytes, fill) => {
    if (block.name !== this.spec.block) return;
    try {
      this.#file ??= this.#open(block);
      if (offset >= this.#end || offset + block.pageSize <= this.#start) return;
      this.#pages++;
      if (kind === "zero" && fill === 0 && block.heat[offset / block.pageSize] === 1) return;
      this.#write(offset, this.#contents(block, offset, kind, bytes, fill));
    } catch (error) {
      throw error instanceof CliError
        ? error
        : new CliError(`cannot write ${this.spec.path}: ${systemReason(error)}`, { cause: error });
    }
  };

  #contents(...[block, offset, kind, bytes, fill]: Parameters<PageVisitor>): Uint8Array {
    const { pageSize } = block;
    if (kind === "page") return bytes!;
    if (this.#page.length !== pageSize) this.#page = new Uint8Array(pageSize);
    const page = this.#page.fill(fill);
    if (kind === "zero") return page;
    if (kind === "xbzrle") {
      const from = Math.max(offset, this.#start);
      const to = Math.min(offset + pageSize, this.#end);
      readSync(this.#file!, page, from - offset, to - from, from - this.#start);
    }
    try {
      if (kind === "xbzrle") applyXbzrle(bytes!, page);
      else page.set(inflateSync(bytes!, { maxOutputLength: pageSize }));
    } catch (error) {
      throw new CliError(
        `page ${hex(offset)} of RAM block ${block.name} is damaged in the stream: ${messageOf(error)}`,
        { cause: error },
      );
    }
    return page;
  }

  #write(offset: number, page: Uint8Array): void {
    const from = Math.max(offset, this.#start);
    const to = Math.min(offset + page.length, this.#end);
    writeSync(this.#file!, page, from - offset, to - from, from - this.#start);
  }

  /**
   * A summary of the result. Throws CliError if no page of the block was in the stream, unless that means
   * zeros.
   */
  finish(report: StreamReport): string {
    const { block: name, path } = this.spec;
    const blocks = report.ram;
    const known = blocks.find((block) => block.name === name);
    if (known === undefined) {
      throw new CliError(
        `the stream has no RAM block ${name}: it has ${blocks.map((block) => block.name).join(", ")}`,
      );
    }
    if (this.#block === undefined && leavesOutZeros(report)) closeSync(this.#open(known));
    if (this.#block === undefined)
      throw new CliError(`no page of ${name} is in the stream: ${path} was not written`);
    return `${path}: ${this.#pages} pages of ${name}, ${hex(this.#start)} to ${hex(this.#end)}`;
  }

  close(): void {
    if (this.#file !== undefined) closeSync(this.#file);
  }
}
