// Incoming RAM: the records of section "ram" directly into guest memory (the machine does not run). The
// grammar is src/stream/ram-records.ts; this file decides what the machine accepts. A page that never arrives
// contains zeros; the hashes of Wherry's own streams tell one that was lost. In QEMU's streams unknown blocks
// may be dropped, and there are other encodings: XBZRLE, mapped-ram, multifd. RDMA's hooks and compressed
// pages (removed from QEMU in 9.1) are refused.
import { messageOf } from "../../base/errors.ts";
import { hex } from "../../base/hex.ts";
import { quoted } from "../../base/text.ts";
import { type GuestMemory, PAGE_SIZE } from "../../memory/guest-memory.ts";
import type { UnitLog } from "../../stream/integrity.ts";
import { isWithoutPages, readMappedPages } from "../../stream/mapped-ram.ts";
import { GET_ANOTHER_COPY, MigrationError } from "../../stream/migration-error.ts";
import type { RamListEntry } from "../../stream/ram-list.ts";
import { type RamPageKind, RamRecords, type RamSink } from "../../stream/ram-records.ts";
import type { StreamFacts } from "../../stream/stream-facts.ts";
import type { StreamReader } from "../../stream/stream-reader.ts";
import { RAM_IDSTR } from "../../stream/wire.ts";
import type { CarriedBlock } from "../../vmm/machine.ts";
import { applyXbzrle } from "../../stream/xbzrle.ts";
import { RamTarget } from "./ram-target.ts";

/** The multifd channels, as the main stream uses them. */
export interface RamChannels {
  /** The list of blocks is complete: pages may be written. */
  begin(targets: ReadonlyMap<string, RamTarget>): void;
  /**
   * A synchronisation point of the main stream: resolves when all channels have reached theirs; rejects if
   * one fails. With `isMarked` it is a record, which only sources with multifd write.
   */
  synchronize(isMarked: boolean): Promise<void>;
}

/** Features of QEMU's streams that Wherry's own lack. */
export interface QemuRam {
  /** The reason why a block that this machine lacks is discarded; undefined refuses it. */
  droppedBlock(name: string): string | undefined;
  readonly channels?: RamChannels | undefined;
}

export class RamReader implements RamSink<RamTarget> {
  readonly #memory: GuestMemory;
  readonly #stream: StreamReader;
  readonly #units: UnitLog;
  readonly #facts: StreamFacts;
  readonly #qemu: QemuRam | undefined;
  readonly #records: RamRecords<RamTarget>;
  readonly #targets = new Map<string, RamTarget>();
  readonly #carried: CarriedBlock | undefined;
  /**
   * Set by the first record that synchronises multifd channels (8.1 and later). Earlier releases synchronise
   * at the end of each section.
   */
  #flushes = false;

  readonly #onBegin: () => void | Promise<void>;

  /**
   * `facts` are from the configuration, which is read before RAM. `onBegin` is called, and may throw, before
   * pages are accepted; in mapped-ram, whose pages are in the list of blocks, for each block.
   */
  constructor(
    memory: GuestMemory,
    stream: StreamReader,
    units: UnitLog,
    facts: StreamFacts,
    qemu?: QemuRam,
    onBegin: () => void | Promise<void> = () => {},
    carried?: CarriedBlock,
  ) {
    this.#memory = memory;
    this.#stream = stream;
    this.#units = units;
    this.#facts = facts;
    this.#qemu = qemu;
    this.#onBegin = onBegin;
    this.#carried = carried;
    facts.pageSize = PAGE_SIZE;
    this.#records = new RamRecords(stream, facts, this);
  }

  /** Reads the records of one section, including its EOS. */
  async records(): Promise<void> {
    await this.#records.part();
  }

  closeChunk(): void {
    this.#units.close(RAM_IDSTR, 0, this.#stream.offset, this.#stream.takeHash());
  }

  /** No page of any block has arrived. */
  get isUntouched(): boolean {
    return [...this.#targets.values()].every((target) => target.isUntouched);
  }

  /** After the END section. */
  complete(): void {
    const stream: StreamReader = this.#stream;
    stream.where = () => `section ${RAM_IDSTR}/0`;
    if (this.#targets.size === 0) this.#damaged("the list of RAM blocks is missing");
    for (const target of this.#targets.values()) {
      if (target.name === this.#carried?.name) {
        this.#carried.received(target.memory, target.missing());
        continue;
      }
      if (this.#facts.capabilities.has("x-ignore-shared") && target.isEmpty) {
        stream.fail(
          "migration.ignore-shared",
          `RAM block ${target.name} is not in the stream but in a file that both sides share: ` +
            "switch the capability x-ignore-shared off in the source and save again",
        );
      }
      target.fillMissing();
    }
  }

  #damaged(what: string, offset = this.#stream.offset): never {
    this.#stream.fail("migration.ram", `${what}; ${GET_ANOTHER_COPY}`, offset);
  }

  get names(): Iterable<string> {
    return this.#targets.keys();
  }

  block(name: string): RamTarget | undefined {
    return this.#targets.get(name);
  }

  async add(entry: RamListEntry, offset: number): Promise<void> {
    const target = this.#accept(entry, offset);
    this.#targets.set(entry.name, target);
    const { mapped } = entry;
    if (mapped === undefined) return;
    if (mapped.pageSize !== PAGE_SIZE)
      this.#damaged(`RAM block ${target.name}: pages of ${mapped.pageSize} bytes, expected ${PAGE_SIZE}`);
    if (isWithoutPages(mapped)) return;
    await this.#onBegin();
    await readMappedPages(this.#stream, mapped, target.size, {
      run: () => true,
      pages: (page, at, length) => target.set(page, this.#payload(at, length)),
    });
  }

  #payload(at: number, length: number): Uint8Array {
    return this.#stream.buffer.subarray(at, at + length);
  }

  #accept({ name, size }: RamListEntry, at: number): RamTarget {
    const block = this.#memory.blockByName(name);
    if (block?.size === size) return new RamTarget(this.#memory, name, size, block);
    if (block === undefined && this.#qemu?.droppedBlock(name) !== undefined)
      return new RamTarget(this.#memory, name, size, undefined);
    if (name === this.#carried?.name) {
      try {
        const { memory, block: own } = this.#carried.receive(size);
        return new RamTarget(memory, name, size, own);
      } catch (error) {
        this.#damaged(messageOf(error), at);
      }
    }
    const has = this.#memory.blocks.map((b) => `${b.name} of ${hex(b.size)}`).join(", ");
    const cure =
      block !== undefined && size % (1024 * 1024) === 0
        ? `start this side with the same amount of memory (block ${name}: ${size / (1024 * 1024)} MiB there, ` +
          `${block.size / (1024 * 1024)} MiB here)`
        : "give both sides the same memory size and devices";
    this.#stream.fail(
      "migration.ram-blocks",
      `RAM block ${quoted(name)} of ${hex(size)} bytes is in the stream; this machine has ${has}: ${cure}`,
      at,
    );
  }

  async listed(total: number, offset: number): Promise<void> {
    const missing = this.#memory.blocks.filter(({ name }) => !this.#targets.has(name));
    if (missing.length > 0) {
      const names = missing.map(({ name }) => name).join(", ");
      this.#damaged(
        `the list of RAM blocks, ${hex(total)} bytes, is not complete; missing: ${names}`,
        offset,
      );
    }
    await this.#onBegin();
    this.#qemu?.channels?.begin(this.#targets);
  }

  /** Refuses unsupported records by name. */
  admit(kind: "xbzrle" | "compressed" | "hook" | "flush", flags: number, at: number): void {
    if (this.#qemu === undefined) {
      this.#damaged(
        `expected a RAM record (zero 0x2, page 0x8, end 0x10, continue 0x20), found flags ${hex(flags)}`,
        at,
      );
    }
    if (kind === "hook") {
      this.#stream.fail(
        "migration.ram-hook",
        "an RDMA record (hook, 0x80): its pages are not in the stream; migrate over tcp:, unix: or file:",
        at,
      );
    }
    if (kind === "compressed") {
      this.#stream.fail(
        "migration.ram-compress",
        "a compressed page (0x100): switch the capability compress off in the source; multifd-compression is read",
        at,
      );
    }
  }

  page(
    target: RamTarget,
    kind: RamPageKind,
    offset: number,
    at: number,
    length: number,
    recordAt: number,
  ): void {
    if (kind === "zero") {
      const fill = this.#stream.buffer[at]!;
      if (fill !== 0 && this.#qemu === undefined)
        this.#damaged(`a page filled with ${hex(fill)}, expected 0x0`, recordAt);
      target.fill(offset, fill);
    } else if (kind === "page") target.set(offset, this.#payload(at, length));
    else this.#delta(target, offset, this.#payload(at, length), recordAt);
    this.#units.touch(target.name, offset, PAGE_SIZE);
    if (this.#units.full(this.#stream.offset)) this.closeChunk();
  }

  #delta(target: RamTarget, offset: number, delta: Uint8Array, recordAt: number): void {
    const page = target.page(offset);
    if (page === undefined) return;
    try {
      applyXbzrle(delta, page);
    } catch (error) {
      if (error instanceof MigrationError) this.#damaged(error.message, recordAt);
      throw error;
    } finally {
      // A delta that is refused may have changed a part of the page.
      target.written(offset, PAGE_SIZE);
    }
  }

  async flush(): Promise<void> {
    this.#flushes = true;
    await this.#qemu?.channels?.synchronize(true);
  }

  async end(): Promise<void> {
    if (!this.#flushes) await this.#qemu?.channels?.synchronize(false);
  }
}
