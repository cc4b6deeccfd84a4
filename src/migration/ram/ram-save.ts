// Outgoing RAM: records of QEMU's section "ram", version 4. Pages that the machine never wrote are zero, and
// are not read. In Wherry's own streams a zero page has a record only if it was sent with other contents
// before; for QEMU each has one, without payload. For QEMU, other pages may be sent over multifd channels, or
// written to their file offsets (mapped-ram). XBZRLE is not used.
import type { ByteWriter } from "../../base/bytes.ts";
import type { GuestMemory, RamBlock } from "../../memory/guest-memory.ts";
import { PAGE_SHIFT, PAGE_SIZE } from "../../memory/guest-memory.ts";
import type { CarriedBlock } from "../../vmm/machine.ts";
import type { MigrationEnvironment } from "../environment/migration-environment.ts";
import type { UnitLog } from "../../stream/integrity.ts";
import type { MappedRamWriter } from "./mapped-ram-save.ts";
import type { StreamWriter } from "../../stream/stream-writer.ts";
import { QEMU_VM, RAM_IDSTR, RAM_SAVE_FLAG, RAM_VERSION } from "../../stream/wire.ts";

/** One bit per page, for each block of the memory, in order. */
export type PageSet = Int32Array[];

/** Receives non-zero pages that do not go into the main stream. */
export interface RamPages {
  /** True if this page can be added before `send`. */
  fits(block: string, offset: number): boolean;
  /** Copies the page. */
  add(block: string, offset: number, page: Uint8Array): void;
  /** Starts sending the added pages. */
  send(): Promise<void>;
}

/** Channels in addition to the main stream (multifd). */
export interface RamSendChannels extends RamPages {
  /**
   * Sends all pages, then a synchronisation point on all channels; resolves when the channels have accepted
   * it.
   */
  synchronize(): Promise<void>;
}

/** Options for a QEMU stream; Wherry's own stream has none. */
export interface QemuRamOptions {
  /** Blocks in the stream's order: the machine's block of that name, or these bytes. */
  readonly blocks: readonly {
    readonly name: string;
    readonly size: number;
    readonly bytes?: Uint8Array<ArrayBuffer>;
  }[];
  readonly channels?: RamSendChannels | undefined;
  /** Set for mapped-ram. */
  readonly mapped?: MappedRamWriter | undefined;
  /** Synchronisation points have their own record (8.1 and later); otherwise each end of a section is one. */
  readonly multifdFlush: boolean;
}

/** A block of the stream: `size` bytes of `bytes`, starting at `at`. */
interface Source {
  readonly name: string;
  readonly size: number;
  readonly bytes: Uint8Array;
  readonly words: Int32Array;
  readonly at: number;
  /** The machine's block, and its index; undefined for bytes from the profile. */
  readonly block: RamBlock | undefined;
  readonly index: number | undefined;
  /** The pages that were sent with other contents than zeros. */
  readonly sent: Int32Array;
  /** Where guest memory may have the same page. */
  guestPage?(offset: number): number | undefined;
}

const PAGE_WORDS = PAGE_SIZE / 4;
/**
 * How long the sender may keep the thread, in milliseconds, and how many pages it sends between reads of the
 * clock. Each register access of the running guest waits for this thread, so a guest that prints a line waits
 * this long for every byte.
 */
const MAX_TURN_MS = 0.5;
const PAGES_PER_CLOCK_CHECK = 32;

export function allPages(memory: GuestMemory): PageSet {
  return memory.blocks.map((block) => allBits(block.size));
}

function allBits(size: number): Int32Array {
  const pages = size >>> PAGE_SHIFT;
  const bits = new Int32Array(Math.ceil(pages / 32)).fill(-1);
  if ((pages & 31) !== 0) bits[bits.length - 1] = 2 ** (pages & 31) - 1;
  return bits;
}

export function countPages(set: PageSet): number {
  let count = 0;
  for (const bits of set) for (const word of bits) count += countBits(word);
  return count;
}

function countBits(word: number): number {
  if (word === 0) return 0;
  const pairs = word - ((word >>> 1) & 0x55555555);
  const fours = (pairs & 0x33333333) + ((pairs >>> 2) & 0x33333333);
  return Math.imul((fours + (fours >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}

/** Adds the pages of `more` to `set`. */
export function addPages(set: PageSet, more: PageSet): void {
  for (const [i, bits] of set.entries()) {
    const other = more[i]!;
    for (let w = 0; w < bits.length; w++) bits[w]! |= other[w] ?? 0;
  }
}

/** True if the page that starts at word index `at` is all zeros. */
export function isZeroPage(words: Int32Array, at: number): boolean {
  if (words[at] !== 0) return false;
  for (let i = at, end = at + PAGE_WORDS; i < end; i += 8) {
    const some =
      words[i]! |
      words[i + 1]! |
      words[i + 2]! |
      words[i + 3]! |
      words[i + 4]! |
      words[i + 5]! |
      words[i + 6]! |
      words[i + 7]!;
    if (some !== 0) return false;
  }
  return true;
}

function isSamePage(a: Int32Array, atA: number, b: Int32Array, atB: number): boolean {
  for (let i = 0; i < PAGE_WORDS; i++) if (a[atA + i] !== b[atB + i]) return false;
  return true;
}

function sourcesOf(
  memory: GuestMemory,
  qemu: QemuRamOptions | undefined,
  carried: CarriedBlock | undefined,
): Source[] {
  const words = new Int32Array(memory.bytes.buffer);
  const unchanging = (name: string, bytes: Uint8Array): Source => ({
    ...{ name, size: bytes.length, bytes, words: new Int32Array(bytes.buffer), at: 0 },
    ...{
      block: undefined,
      index: undefined,
      sent: new Int32Array(Math.ceil((bytes.length >>> PAGE_SHIFT) / 32)),
    },
  });
  const sources = (qemu?.blocks ?? memory.blocks).map(({ name, size, ...more }) => {
    const index = memory.blocks.findIndex((block) => block.name === name);
    const block = memory.blocks[index];
    if (block !== undefined) {
      if (block.size !== size) throw new RangeError(`${name} has ${block.size} bytes, not ${size}`);
      const sent = new Int32Array(Math.ceil((size >>> PAGE_SHIFT) / 32));
      return { name, size, bytes: memory.bytes, words, at: block.hostOffset, block, index, sent };
    }
    const bytes = new Uint8Array(size);
    if ("bytes" in more && more.bytes !== undefined) bytes.set(more.bytes);
    return unchanging(name, bytes);
  });
  if (qemu !== undefined || carried === undefined || carried.size === 0) return sources;
  const { name, bytes } = carried;
  return [...sources, { ...unchanging(name, bytes), guestPage: (offset) => carried.guestPage(offset) }];
}

function pagesOf(sources: readonly Source[]): number {
  return sources.reduce((sum, { size }) => sum + (size >>> PAGE_SHIFT), 0);
}

export class RamWriter {
  readonly #memory: GuestMemory;
  readonly #sources: readonly Source[];
  /** The blocks that no guest changes have been sent. */
  #sentUnchanging = false;
  readonly #qemu: QemuRamOptions | undefined;
  readonly #stream: StreamWriter;
  readonly #units: UnitLog;
  readonly #environment: MigrationEnvironment;
  readonly #sectionId: number;
  zeroPages = 0;
  normalPages = 0;
  /** Pages of the current set that are not appended yet. */
  pagesLeft = 0;
  #turn = 0;
  #pagesToClockCheck = PAGES_PER_CLOCK_CHECK;

  constructor(
    memory: GuestMemory,
    stream: StreamWriter,
    units: UnitLog,
    environment: MigrationEnvironment,
    sectionId: number,
    qemu?: QemuRamOptions,
    carried?: CarriedBlock,
  ) {
    this.#memory = memory;
    this.#sources = sourcesOf(memory, qemu, carried);
    this.#qemu = qemu;
    this.#stream = stream;
    this.#units = units;
    this.#environment = environment;
    this.#sectionId = sectionId;
  }

  /** Pages of the blocks that no guest changes, which are sent once. */
  get unchangingPages(): number {
    return pagesOf(this.#sources.filter(({ index }) => index === undefined));
  }

  /** Writes the START section with names and sizes of all blocks. */
  async start(): Promise<void> {
    const { out } = this.#stream;
    out.u8(QEMU_VM.SECTION_START).u32(this.#sectionId).countedString(RAM_IDSTR).u32(0).u32(RAM_VERSION);
    const total = this.#sources.reduce((sum, block) => sum + block.size, 0);
    this.#header(total, RAM_SAVE_FLAG.MEM_SIZE);
    for (const { name, size } of this.#sources) {
      this.#stream.out.countedString(name).u64(BigInt(size));
      await this.#qemu?.mapped?.place(name, size);
    }
    await this.#endOfSection();
  }

  /** Writes a PART or END section with the pages of `set`. `check` runs often and may throw. */
  async pages(
    type: typeof QEMU_VM.SECTION_PART | typeof QEMU_VM.SECTION_END,
    set: PageSet,
    check: () => void,
  ): Promise<void> {
    this.#stream.out.u8(type).u32(this.#sectionId);
    // Blocks that no guest changes are sent once, at first, while it runs.
    const unchanging = this.#sentUnchanging ? [] : this.#sources.filter(({ index }) => index === undefined);
    this.#sentUnchanging = true;
    this.pagesLeft = countPages(set) + pagesOf(unchanging);
    this.#beginTurn();
    for (const source of this.#sources) {
      if (source.index !== undefined) await this.#blockPages(source, set[source.index]!, check);
      else if (unchanging.includes(source)) {
        const sent = allBits(source.size);
        // The guest does not run: what its memory has is not sent twice.
        if (type === QEMU_VM.SECTION_END) this.#omitGuestPages(source, sent);
        await this.#blockPages(source, sent, check);
      }
    }
    if (type === QEMU_VM.SECTION_END) await this.#qemu?.mapped?.finish();
    await this.#endOfSection();
    if (type === QEMU_VM.SECTION_END) this.closeChunk();
  }

  async #blockPages(source: Source, bits: Int32Array, check: () => void): Promise<void> {
    const stream = this.#stream;
    const mapped = this.#qemu?.mapped;
    const pages = mapped ?? this.#qemu?.channels;
    const listsZeros = (this.#qemu ?? source.guestPage) !== undefined && mapped === undefined;
    const touched = source.block && this.#memory.touchedPages(source.block);
    let named = false;
    for (let w = 0; w < bits.length; w++) {
      let word = bits[w]!;
      const untouched = touched === undefined ? 0 : word & ~touched[w]!;
      if (!listsZeros) {
        word &= ~untouched;
        const left = countBits(untouched);
        this.zeroPages += left;
        this.pagesLeft -= left;
      }
      while (word !== 0) {
        const mask = word & -word;
        word &= word - 1;
        const offset = (w * 32 + 31 - Math.clz32(mask)) * PAGE_SIZE;
        const at = source.at + offset;
        if ((untouched & mask) !== 0 || isZeroPage(source.words, at >>> 2)) {
          this.zeroPages++;
          if (mapped !== undefined) mapped.zero(source.name, offset);
          else if (listsZeros || (source.sent[w]! & mask) !== 0) {
            this.#record(RAM_SAVE_FLAG.ZERO, source.name, offset, named).u8(0);
            named = true;
          }
        } else {
          const page = source.bytes.subarray(at, at + PAGE_SIZE);
          source.sent[w]! |= mask;
          this.normalPages++;
          if (pages === undefined) {
            this.#record(RAM_SAVE_FLAG.PAGE, source.name, offset, named).bytes(page);
            named = true;
          } else {
            if (!pages.fits(source.name, offset)) {
              await pages.send();
              check();
            }
            pages.add(source.name, offset, page);
          }
        }
        this.pagesLeft--;
        if (this.#units.full(stream.offset)) this.closeChunk();
        if (stream.full) {
          await stream.flush();
          check();
          this.#beginTurn();
        }
        if (--this.#pagesToClockCheck <= 0) await this.#yield(check);
      }
    }
  }

  /** Clears the bits of non-zero pages that guest memory has at their place. */
  #omitGuestPages({ guestPage, size, words }: Source, bits: Int32Array): void {
    const memory = new Int32Array(this.#memory.bytes.buffer);
    for (let offset = 0; offset < size; offset += PAGE_SIZE) {
      const guestPhys = guestPage?.(offset);
      if (guestPhys === undefined || isZeroPage(words, offset >>> 2)) continue;
      const block = this.#memory.blockAt(guestPhys, PAGE_SIZE);
      const inBlock = guestPhys - (block?.guestPhys ?? 0);
      if (block === undefined || !this.#memory.isTouched(block, inBlock)) continue;
      if (!isSamePage(words, offset >>> 2, memory, (block.hostOffset + inBlock) >>> 2)) continue;
      const page = offset >>> PAGE_SHIFT;
      bits[page >>> 5]! &= ~(1 << (page & 31));
      this.pagesLeft--;
    }
  }

  #beginTurn(): void {
    this.#turn = this.#environment.nowMs();
    this.#pagesToClockCheck = PAGES_PER_CLOCK_CHECK;
  }

  /** Yields to the event loop if this turn was long enough. */
  async #yield(check: () => void): Promise<void> {
    this.#pagesToClockCheck = PAGES_PER_CLOCK_CHECK;
    if (this.#environment.nowMs() - this.#turn < MAX_TURN_MS) return;
    await this.#environment.yieldToEventLoop();
    check();
    this.#beginTurn();
  }

  /** Appends the head of a page's record; the caller appends the payload. */
  #record(kind: number, name: string, offset: number, named: boolean): ByteWriter {
    const { out } = this.#stream;
    this.#header(offset, named ? kind | RAM_SAVE_FLAG.CONTINUE : kind);
    if (!named) out.countedString(name);
    this.#units.touch(name, offset, PAGE_SIZE);
    return out;
  }

  /** Appends be64 (offset | flags). Offsets may exceed 2^32. */
  #header(offset: number, flags: number): void {
    this.#stream.out.u32(Math.floor(offset / 2 ** 32)).u32((offset % 2 ** 32) + flags);
  }

  async #endOfSection(): Promise<void> {
    const { channels, multifdFlush } = this.#qemu ?? {};
    if (channels !== undefined) {
      await channels.synchronize();
      if (multifdFlush === true) this.#header(0, RAM_SAVE_FLAG.MULTIFD_FLUSH);
    }
    this.#header(0, RAM_SAVE_FLAG.EOS);
    this.#stream.out.u8(QEMU_VM.SECTION_FOOTER).u32(this.#sectionId);
    // QEMU reads no more from the channels before it has this.
    if (channels !== undefined) await this.#stream.drain();
  }

  closeChunk(): void {
    this.#units.close(RAM_IDSTR, 0, this.#stream.offset, this.#stream.takeHash());
  }
}
