// RAM on the way in: the records of section "ram", version 4, straight into guest memory (the machine does not run).
// Hostile input: every record is checked against the machine's blocks. In our own streams every page must come; in those
// of QEMU pages that never come are zeros, blocks that we lack may come, and the other encodings: XBZRLE, mapped-ram,
// multifd. RDMA's hooks and compressed pages (gone from QEMU since 9.1) are refused.
import { ByteReader, EndOfBytes } from "../../base/bytes.ts";
import { hex } from "../../base/hex.ts";
import { decodeUtf8, quoted } from "../../base/text.ts";
import { type GuestMemory, PAGE_SHIFT, PAGE_SIZE } from "../../memory/guest-memory.ts";
import { GET_ANOTHER_COPY, MigrationError } from "../../stream/migration-error.ts";
import type { UnitLog } from "../../stream/integrity.ts";
import {
  isWithoutPages,
  type MappedRamHeader,
  mappedRamBitmapBytes,
  mappedRamFault,
  mappedRamRuns,
} from "../../stream/mapped-ram.ts";
import { decodeRamListEntry, type RamListEntry } from "../../stream/ram-list.ts";
import { RamTarget } from "./ram-target.ts";
import type { StreamReader } from "../../stream/stream-reader.ts";
import { RAM_IDSTR, RAM_SAVE_FLAG, RAM_SAVE_FLAGS } from "../../stream/wire.ts";
import { applyXbzrle, XBZRLE_ENCODING } from "../../stream/xbzrle.ts";

/** Pages of a mapped-ram file are copied in pieces of this size. */
const PIECE_BYTES = 256 * 1024;
const MAX_BLOCKS = 256;

/** The pages that come over multifd's channels, as the main stream sees them. */
export interface RamChannels {
  /** The list of blocks has come: pages may be written. */
  begin(targets: ReadonlyMap<string, RamTarget>): void;
  /**
   * A synchronisation point of the main stream: resolves when all channels have come to theirs. Rejects if one fails.
   * `isMarked`: by a record, which only sources with multifd write.
   */
  synchronize(isMarked: boolean): Promise<void>;
}

/** What a stream of QEMU may have that our own has not. */
export interface QemuRam {
  /** Why a block that this machine lacks is read and dropped; undefined refuses it. */
  droppedBlock(name: string): string | undefined;
  /** Of the configuration, which has been read when RAM begins: `mapped-ram`, `x-ignore-shared`. */
  readonly capabilities: readonly string[];
  readonly channels?: RamChannels | undefined;
}

export class RamReader {
  readonly #memory: GuestMemory;
  readonly #stream: StreamReader;
  readonly #units: UnitLog;
  readonly #qemu: QemuRam | undefined;
  readonly #targets = new Map<string, RamTarget>();
  /** Of the last record, of whichever section: QEMU's CONTINUE goes on across sections. */
  #target: RamTarget | undefined;
  /** Releases before 8.1 synchronise multifd's channels at the end of each section, later ones where they say so. */
  #flushes = false;

  constructor(memory: GuestMemory, stream: StreamReader, units: UnitLog, qemu?: QemuRam) {
    this.#memory = memory;
    this.#stream = stream;
    this.#units = units;
    this.#qemu = qemu;
  }

  /** Records of one section up to and with its EOS. */
  async records(): Promise<void> {
    const stream: StreamReader = this.#stream;
    for (;;) {
      if (stream.available < 8) await stream.need(8);
      const at = stream.offset;
      const high = stream.u32();
      const low = stream.u32();
      const flags = low & RAM_SAVE_FLAGS;
      const offset = high * 2 ** 32 + (low - flags);
      if (flags === RAM_SAVE_FLAG.EOS) {
        if (offset !== 0) this.#damaged(`expected the end of the section, found ${hex(offset + flags)}`, at);
        if (!this.#flushes) await this.#qemu?.channels?.synchronize(false);
        return;
      }
      if (flags === RAM_SAVE_FLAG.MEM_SIZE) await this.#sizes(offset, at);
      else if (flags === RAM_SAVE_FLAG.MULTIFD_FLUSH && this.#qemu !== undefined) {
        this.#flushes = true;
        await this.#qemu.channels?.synchronize(true);
      } else await this.#page(flags, offset, at);
      if (this.#units.full(stream.offset)) this.closeChunk();
    }
  }

  closeChunk(): void {
    this.#units.close(RAM_IDSTR, 0, this.#stream.offset, this.#stream.takeHash());
  }

  /** After the END section, once it is known whose stream this is. */
  checkComplete(isQemu: boolean): void {
    const stream: StreamReader = this.#stream;
    stream.where = () => `section ${RAM_IDSTR}/0`;
    if (this.#targets.size === 0) this.#damaged("the list of RAM blocks never came");
    for (const target of this.#targets.values()) {
      const missing = target.missing();
      if (missing === undefined) continue;
      if (!isQemu) this.#damaged(`page ${hex(missing)} of RAM block ${target.name} never came`);
      if (this.#has("x-ignore-shared") && target.untouched) {
        stream.fail(
          "migration.ignore-shared",
          `RAM block ${target.name} is not in the stream but in a file that both sides share: ` +
            "switch the capability x-ignore-shared off in the source and save again",
        );
      }
      target.fillMissing();
    }
  }

  #has(capability: string): boolean {
    return this.#qemu?.capabilities.includes(capability) === true;
  }

  #damaged(what: string, offset = this.#stream.offset): never {
    this.#stream.fail("migration.ram", `${what}; ${GET_ANOTHER_COPY}`, offset);
  }

  async #name(): Promise<string> {
    const stream: StreamReader = this.#stream;
    if (stream.available < 1) await stream.need(1);
    const length = stream.u8();
    if (stream.available < length) await stream.need(length);
    return decodeUtf8(stream.bytes(length));
  }

  async #sizes(total: number, at: number): Promise<void> {
    const stream: StreamReader = this.#stream;
    if (this.#targets.size > 0) this.#damaged("a second list of RAM blocks", at);
    let left = total;
    while (left > 0) {
      const entryAt = stream.offset;
      const entry = await this.#entry();
      if (this.#targets.size === MAX_BLOCKS) this.#damaged(`more than ${MAX_BLOCKS} RAM blocks`, entryAt);
      const target = this.#accept(entry, entryAt);
      this.#targets.set(entry.name, target);
      left -= entry.size;
      if (entry.mapped !== undefined) await this.#mapped(target, entry.mapped);
    }
    const missing = this.#memory.blocks.filter((b) => !this.#targets.has(b.name));
    if (left !== 0 || missing.length > 0) {
      const names = missing.map((b) => b.name).join(", ");
      this.#damaged(
        `the list of RAM blocks does not add up to ${hex(total)}; missing: ${names || "none"}`,
        at,
      );
    }
    this.#qemu?.channels?.begin(this.#targets);
  }

  /** Decodes on what has arrived, and again when that was too little. */
  async #entry(): Promise<RamListEntry> {
    const stream: StreamReader = this.#stream;
    const context = {
      ignoreShared: this.#has("x-ignore-shared"),
      postcopyAdvised: false,
      mappedRam: this.#has("mapped-ram"),
    };
    for (;;) {
      const reader = new ByteReader(stream.peekAll());
      try {
        const entry = decodeRamListEntry(reader, context);
        stream.skip(reader.offset);
        return entry;
      } catch (error) {
        if (!(error instanceof EndOfBytes)) throw error;
        await stream.need(error.offset + error.needed);
      }
    }
  }

  #accept({ name, size }: RamListEntry, at: number): RamTarget {
    const block = this.#memory.blockByName(name);
    const twice = this.#targets.has(name);
    if (block?.size === size && !twice) return new RamTarget(this.#memory, name, size, block);
    if (block === undefined && !twice && this.#qemu?.droppedBlock(name) !== undefined) {
      return new RamTarget(this.#memory, name, size, undefined);
    }
    const what = `RAM block ${quoted(name)}`;
    if (twice) this.#damaged(`${what} is listed twice`, at);
    const has = this.#memory.blocks.map((b) => `${b.name} of ${hex(b.size)}`).join(", ");
    const cure =
      block !== undefined && size % (1024 * 1024) === 0
        ? `start this side with the same amount of memory (block ${name}: ${size / (1024 * 1024)} MiB there, ` +
          `${block.size / (1024 * 1024)} MiB here)`
        : "give both sides the same memory size and devices";
    this.#stream.fail(
      "migration.ram-blocks",
      `${what} of ${hex(size)} bytes came; this machine has ${has}: ${cure}`,
      at,
    );
  }

  /** mapped-ram: the block's bitmap and pages, which lie between its entry and the next. */
  async #mapped(target: RamTarget, header: MappedRamHeader): Promise<void> {
    const stream: StreamReader = this.#stream;
    const { base } = stream;
    const fault = mappedRamFault(header, target.size, base + stream.offset);
    if (fault !== undefined || header.pageSize !== PAGE_SIZE) {
      this.#damaged(
        `RAM block ${target.name}: ${fault ?? `pages of ${header.pageSize} bytes, expected 4096`}`,
      );
    }
    if (isWithoutPages(header)) return;
    const bytes = mappedRamBitmapBytes(target.size, PAGE_SIZE);
    await stream.skipTo(header.bitmapOffset - base);
    await stream.need(bytes);
    const bitmap = stream.bytes(bytes).slice();
    for (const { first, count } of mappedRamRuns(bitmap, target.size >>> PAGE_SHIFT)) {
      let offset = first * PAGE_SIZE;
      const end = offset + count * PAGE_SIZE;
      await stream.skipTo(header.pagesOffset - base + offset);
      while (offset < end) {
        const piece = Math.min(end - offset, PIECE_BYTES);
        await stream.need(piece);
        target.set(offset, stream.bytes(piece));
        offset += piece;
      }
    }
    await stream.skipTo(header.pagesOffset - base + target.size);
  }

  async #page(flags: number, offset: number, at: number): Promise<void> {
    const stream: StreamReader = this.#stream;
    const kind = flags & ~RAM_SAVE_FLAG.CONTINUE;
    this.#checkKind(kind, flags, at);
    if ((flags & RAM_SAVE_FLAG.CONTINUE) === 0) {
      const name = await this.#name();
      this.#target = this.#targets.get(name);
      if (this.#target === undefined) {
        const known = [...this.#targets.keys()].join(", ");
        this.#damaged(`a page of RAM block ${quoted(name)}, expected one of ${known || "none"}`, at);
      }
    }
    const target = this.#target;
    if (target === undefined) this.#damaged("a page that continues a RAM block, but none came before", at);
    if (offset >= target.size) {
      this.#damaged(
        `page ${hex(offset)} lies outside RAM block ${target.name} of ${hex(target.size)} bytes`,
        at,
      );
    }
    if (kind === RAM_SAVE_FLAG.ZERO) {
      if (stream.available < 1) await stream.need(1);
      const fill = stream.u8();
      if (fill !== 0 && this.#qemu === undefined)
        this.#damaged(`a page filled with ${hex(fill)}, expected 0x0`, at);
      target.fill(offset, fill);
    } else if (kind === RAM_SAVE_FLAG.PAGE) {
      if (stream.available < PAGE_SIZE) await stream.need(PAGE_SIZE);
      target.set(offset, stream.bytes(PAGE_SIZE));
    } else {
      await this.#delta(target, offset, at);
    }
    this.#units.touch(target.name, offset, PAGE_SIZE);
  }

  /** Refuses records that cannot be read, by name. */
  #checkKind(kind: number, flags: number, at: number): void {
    if (kind === RAM_SAVE_FLAG.ZERO || kind === RAM_SAVE_FLAG.PAGE) return;
    if (this.#qemu !== undefined) {
      if (kind === RAM_SAVE_FLAG.XBZRLE) return;
      if (kind === RAM_SAVE_FLAG.HOOK) {
        this.#stream.fail(
          "migration.ram-hook",
          "a record of RDMA (hook, 0x80): its pages are not in the stream; migrate over tcp:, unix: or file:",
          at,
        );
      }
      if (kind === RAM_SAVE_FLAG.COMPRESS_PAGE) {
        this.#stream.fail(
          "migration.ram-compress",
          "a compressed page (0x100): switch the capability compress off in the source; multifd-compression is read",
          at,
        );
      }
    }
    this.#damaged(
      `expected a RAM record (zero 0x2, page 0x8, end 0x10, continue 0x20), found flags ${hex(flags)}`,
      at,
    );
  }

  async #delta(target: RamTarget, offset: number, at: number): Promise<void> {
    const stream: StreamReader = this.#stream;
    if (stream.available < 3) await stream.need(3);
    const encoding = stream.u8();
    const length = stream.u16();
    if (encoding !== XBZRLE_ENCODING || length > PAGE_SIZE) {
      this.#damaged(
        `a delta of encoding ${encoding} and ${length} bytes, expected XBZRLE (1), at most a page`,
        at,
      );
    }
    if (stream.available < length) await stream.need(length);
    const delta = stream.bytes(length);
    const page = target.page(offset);
    if (page === undefined) return;
    try {
      applyXbzrle(delta, page);
    } catch (error) {
      if (error instanceof MigrationError) this.#damaged(error.message, at);
      throw error;
    }
    target.written(offset, PAGE_SIZE);
  }
}
