// RAM on the way in: the records of section "ram", version 4, straight into guest memory (the machine does not run).
// Hostile input: every record is checked against the machine's blocks, and every page must come at least once.
import { hex } from "../base/hex.ts";
import { decodeUtf8 } from "../base/text.ts";
import { type GuestMemory, PAGE_SHIFT, PAGE_SIZE, type RamBlock } from "../memory/guest-memory.ts";
import type { UnitLog } from "./integrity.ts";
import { GET_ANOTHER_COPY } from "./errors.ts";
import { isZeroPage } from "./ram-save.ts";
import type { StreamReader } from "./stream-reader.ts";
import { RAM_IDSTR, RAM_SAVE_FLAG, RAM_SAVE_FLAGS } from "./wire.ts";

interface Target {
  readonly block: RamBlock;
  /** A bit for each page that has come. */
  readonly come: Int32Array;
}

export class RamReader {
  readonly #memory: GuestMemory;
  readonly #words: Int32Array;
  readonly #stream: StreamReader;
  readonly #units: UnitLog;
  readonly #targets = new Map<string, Target>();
  #target: Target | undefined;

  constructor(memory: GuestMemory, stream: StreamReader, units: UnitLog) {
    this.#memory = memory;
    this.#words = new Int32Array(memory.bytes.buffer);
    this.#stream = stream;
    this.#units = units;
  }

  /** Records of one section up to and with its EOS. */
  async records(): Promise<void> {
    const stream: StreamReader = this.#stream;
    this.#target = undefined;
    for (;;) {
      if (stream.available < 8) await stream.need(8);
      const at = stream.offset;
      const high = stream.u32();
      const low = stream.u32();
      const flags = low & RAM_SAVE_FLAGS;
      const offset = high * 2 ** 32 + (low - flags);
      if (flags === RAM_SAVE_FLAG.EOS) {
        if (offset !== 0) this.#damaged(`expected the end of the section, found ${hex(offset + flags)}`, at);
        return;
      }
      if (flags === RAM_SAVE_FLAG.MEM_SIZE) await this.#sizes(offset, at);
      else await this.#page(flags, offset, at);
      if (this.#units.full(stream.offset)) this.closeChunk();
    }
  }

  closeChunk(): void {
    this.#units.close(RAM_IDSTR, 0, this.#stream.offset, this.#stream.takeHash());
  }

  /** After the END section. */
  checkComplete(): void {
    if (this.#targets.size === 0) this.#damaged("the list of RAM blocks never came");
    for (const { block, come } of this.#targets.values()) {
      const pages = block.size >>> PAGE_SHIFT;
      for (let page = 0; page < pages; page++) {
        if (((come[page >>> 5]! >>> (page & 31)) & 1) === 1) continue;
        this.#damaged(`page ${hex(page * PAGE_SIZE)} of RAM block ${block.name} never came`);
      }
    }
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
      const nameAt = stream.offset;
      const name = await this.#name();
      if (stream.available < 8) await stream.need(8);
      const size = stream.u32() * 2 ** 32 + stream.u32();
      const block = this.#memory.blockByName(name);
      if (block === undefined || block.size !== size || this.#targets.has(name)) {
        const has = this.#memory.blocks.map((b) => `${b.name} of ${hex(b.size)}`).join(", ");
        stream.fail(
          "migration.ram-blocks",
          `RAM block ${JSON.stringify(name)} of ${hex(size)} bytes came; this machine has ${has}: ` +
            "give both sides the same memory size and devices",
          nameAt,
        );
      }
      this.#targets.set(name, { block, come: new Int32Array(Math.ceil((size >>> PAGE_SHIFT) / 32)) });
      left -= size;
    }
    const missing = this.#memory.blocks.filter((b) => !this.#targets.has(b.name));
    if (left !== 0 || missing.length > 0) {
      const names = missing.map((b) => b.name).join(", ");
      this.#damaged(
        `the list of RAM blocks does not add up to ${hex(total)}; missing: ${names || "none"}`,
        at,
      );
    }
  }

  async #page(flags: number, offset: number, at: number): Promise<void> {
    const stream: StreamReader = this.#stream;
    const kind = flags & ~RAM_SAVE_FLAG.CONTINUE;
    if (kind !== RAM_SAVE_FLAG.ZERO && kind !== RAM_SAVE_FLAG.PAGE) {
      this.#damaged(
        `expected a RAM record (zero 0x2, page 0x8, end 0x10, continue 0x20), found flags ${hex(flags)}`,
        at,
      );
    }
    if ((flags & RAM_SAVE_FLAG.CONTINUE) === 0) {
      const name = await this.#name();
      this.#target = this.#targets.get(name);
      if (this.#target === undefined) {
        const known = [...this.#targets.keys()].join(", ");
        this.#damaged(`a page of RAM block ${JSON.stringify(name)}, expected one of ${known || "none"}`, at);
      }
    }
    const target = this.#target;
    if (target === undefined) this.#damaged("a page that continues a RAM block, but none came before", at);
    const { block, come } = target;
    if (offset >= block.size) {
      this.#damaged(
        `page ${hex(offset)} lies outside RAM block ${block.name} of ${hex(block.size)} bytes`,
        at,
      );
    }
    const host = block.hostOffset + offset;
    if (kind === RAM_SAVE_FLAG.ZERO) {
      if (stream.available < 1) await stream.need(1);
      const fill = stream.u8();
      if (fill !== 0) this.#damaged(`a page filled with ${hex(fill)}, expected 0x0`, at);
      if (!isZeroPage(this.#words, host >>> 2)) this.#memory.bytes.fill(0, host, host + PAGE_SIZE);
    } else {
      if (stream.available < PAGE_SIZE) await stream.need(PAGE_SIZE);
      this.#memory.bytes.set(stream.bytes(PAGE_SIZE), host);
    }
    block.code?.written(offset, PAGE_SIZE);
    const page = offset >>> PAGE_SHIFT;
    come[page >>> 5]! |= 1 << (page & 31);
    this.#units.touch(block.name, offset, PAGE_SIZE);
  }
}
