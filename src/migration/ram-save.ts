// RAM on the way out: QEMU's section "ram", version 4, as records (design 04). Pages of zeros are one record
// without payload. No XBZRLE, no mapped-ram, no multifd.
import type { GuestMemory } from "../memory/guest-memory.ts";
import { PAGE_SHIFT, PAGE_SIZE } from "../memory/guest-memory.ts";
import type { MigrationHost } from "./host.ts";
import type { UnitLog } from "./integrity.ts";
import type { StreamWriter } from "./stream-writer.ts";
import { QEMU_VM, RAM_IDSTR, RAM_SAVE_FLAG, RAM_VERSION } from "./wire.ts";

/** A bit a page for each block of the memory, in the order of its blocks. */
export type PageSet = Int32Array[];

const PAGE_WORDS = PAGE_SIZE / 4;
/**
 * How long the sender may keep the thread, in milliseconds, and how often that is looked at. Each register access of the
 * running guest waits for this thread, so a guest that prints a line waits that long for every byte of it.
 */
const MAX_TURN_MS = 0.5;
const PAGES_PER_LOOK = 32;

export function allPages(memory: GuestMemory): PageSet {
  return memory.blocks.map((block) => {
    const pages = block.size >>> PAGE_SHIFT;
    const bits = new Int32Array(Math.ceil(pages / 32)).fill(-1);
    if ((pages & 31) !== 0) bits[bits.length - 1] = 2 ** (pages & 31) - 1;
    return bits;
  });
}

export function countPages(set: PageSet): number {
  let count = 0;
  for (const bits of set) {
    for (let word of bits) {
      if (word === 0) continue;
      word -= (word >>> 1) & 0x55555555;
      word = (word & 0x33333333) + ((word >>> 2) & 0x33333333);
      count += Math.imul((word + (word >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
    }
  }
  return count;
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

export class RamWriter {
  readonly #memory: GuestMemory;
  readonly #words: Int32Array;
  readonly #stream: StreamWriter;
  readonly #units: UnitLog;
  readonly #host: MigrationHost;
  readonly #sectionId: number;
  zeroPages = 0;
  normalPages = 0;
  /** Pages of the set under way that are not appended yet. */
  pagesLeft = 0;

  constructor(
    memory: GuestMemory,
    stream: StreamWriter,
    units: UnitLog,
    host: MigrationHost,
    sectionId: number,
  ) {
    this.#memory = memory;
    this.#words = new Int32Array(memory.bytes.buffer);
    this.#stream = stream;
    this.#units = units;
    this.#host = host;
    this.#sectionId = sectionId;
  }

  /** The START section: names and sizes of all blocks. */
  start(): void {
    const { out } = this.#stream;
    out.u8(QEMU_VM.SECTION_START).u32(this.#sectionId).countedString(RAM_IDSTR).u32(0).u32(RAM_VERSION);
    const total = this.#memory.blocks.reduce((sum, block) => sum + block.size, 0);
    this.#header(total, RAM_SAVE_FLAG.MEM_SIZE);
    for (const block of this.#memory.blocks) out.countedString(block.name).u64(BigInt(block.size));
    this.#endOfSection();
  }

  /** A PART section (or the END section) with the pages of `set`; `check` runs often and may throw. */
  async pages(
    type: typeof QEMU_VM.SECTION_PART | typeof QEMU_VM.SECTION_END,
    set: PageSet,
    check: () => void,
  ): Promise<void> {
    this.#stream.out.u8(type).u32(this.#sectionId);
    this.pagesLeft = countPages(set);
    for (const [index, bits] of set.entries()) await this.#blockPages(index, bits, check);
    this.#endOfSection();
    if (type === QEMU_VM.SECTION_END) this.closeChunk();
  }

  async #blockPages(index: number, bits: Int32Array, check: () => void): Promise<void> {
    const block = this.#memory.blocks[index]!;
    const stream = this.#stream;
    let named = false;
    let turn = this.#host.nowMs();
    let look = PAGES_PER_LOOK;
    for (let w = 0; w < bits.length; w++) {
      let word = bits[w]!;
      while (word !== 0) {
        const bit = 31 - Math.clz32(word & -word);
        word &= word - 1;
        this.#page(block.name, block.hostOffset, (w * 32 + bit) * PAGE_SIZE, named);
        named = true;
        this.pagesLeft--;
        if (this.#units.full(stream.offset)) this.closeChunk();
        if (stream.full) {
          await stream.flush();
          check();
          turn = this.#host.nowMs();
        }
        if (--look > 0) continue;
        look = PAGES_PER_LOOK;
        if (this.#host.nowMs() - turn < MAX_TURN_MS) continue;
        await this.#host.breathe();
        check();
        turn = this.#host.nowMs();
      }
    }
  }

  #page(name: string, hostOffset: number, ramOffset: number, named: boolean): void {
    const { out } = this.#stream;
    const zero = isZeroPage(this.#words, (hostOffset + ramOffset) >>> 2);
    const kind = zero ? RAM_SAVE_FLAG.ZERO : RAM_SAVE_FLAG.PAGE;
    this.#header(ramOffset, named ? kind | RAM_SAVE_FLAG.CONTINUE : kind);
    if (!named) out.countedString(name);
    if (zero) {
      out.u8(0);
      this.zeroPages++;
    } else {
      const at = hostOffset + ramOffset;
      out.bytes(this.#memory.bytes.subarray(at, at + PAGE_SIZE));
      this.normalPages++;
    }
    this.#units.touch(name, ramOffset, PAGE_SIZE);
  }

  /** be64 (offset | flags); offsets go beyond 2^32. */
  #header(offset: number, flags: number): void {
    this.#stream.out.u32(Math.floor(offset / 2 ** 32)).u32((offset % 2 ** 32) + flags);
  }

  #endOfSection(): void {
    this.#header(0, RAM_SAVE_FLAG.EOS);
    this.#stream.out.u8(QEMU_VM.SECTION_FOOTER).u32(this.#sectionId);
  }

  closeChunk(): void {
    this.#units.close(RAM_IDSTR, 0, this.#stream.offset, this.#stream.takeHash());
  }
}
