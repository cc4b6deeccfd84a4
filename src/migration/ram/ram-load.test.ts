// RAM of QEMU's streams in all its encodings: how it is read, and the message if it is refused.
import { describe, expect, test } from "vitest";
import { memorySource } from "../../../test/support/fake-network.ts";
import { ByteWriter } from "../../base/bytes.ts";
import { GuestMemory, PAGE_SIZE } from "../../memory/guest-memory.ts";
import { UnitLog } from "../../stream/integrity.ts";
import { encodeMappedRamHeader, placeMappedRam } from "../../stream/mapped-ram.ts";
import { type QemuRam, RamReader } from "./ram-load.ts";
import { StreamFacts } from "../../stream/stream-facts.ts";
import { StreamReader } from "../../stream/stream-reader.ts";
import { RAM_SAVE_FLAG } from "../../stream/wire.ts";

const { ZERO, MEM_SIZE, PAGE, EOS, CONTINUE, XBZRLE, HOOK, COMPRESS_PAGE, MULTIFD_FLUSH } = RAM_SAVE_FLAG;
const PAGES = 4;
const QEMU: QemuRam = {
  droppedBlock: (name) => (name.startsWith("/rom@") ? "made at each start" : undefined),
};

function memory(): GuestMemory {
  const dirty = new Int32Array(new SharedArrayBuffer(4));
  const block = { name: "ram", guestPhys: 0, size: PAGES * PAGE_SIZE, hostOffset: 0, readonly: false, dirty };
  const all = new GuestMemory(new SharedArrayBuffer(PAGES * PAGE_SIZE), [block]);
  // Contents from the machine's own start, which a load must replace.
  all.writeBlock(block, 0, new Uint8Array(PAGES * PAGE_SIZE).fill(0x55));
  return all;
}

/** Writes records of section "ram". */
class Records {
  readonly out = new ByteWriter();
  head(offset: number, flags: number, block?: string): this {
    this.out.u64(BigInt(offset) + BigInt(flags));
    if (block !== undefined) this.out.countedString(block);
    return this;
  }
  list(...blocks: [string, number][]): this {
    this.head(
      blocks.reduce((sum, [, size]) => sum + size, 0),
      MEM_SIZE,
    );
    for (const [name, size] of blocks) this.out.countedString(name).u64(BigInt(size));
    return this;
  }
  page(offset: number, byte: number, block?: string): this {
    this.head(offset, block === undefined ? PAGE | CONTINUE : PAGE, block);
    this.out.bytes(new Uint8Array(PAGE_SIZE).fill(byte));
    return this;
  }
  end(): Uint8Array {
    return this.head(0, EOS).out.finish();
  }
}
const records = () => new Records();
const RAM: [string, number] = ["ram", PAGES * PAGE_SIZE];

/** Loads the sections and returns the first byte of each page. */
async function load(
  sections: readonly Uint8Array[],
  qemu: QemuRam | undefined,
  piece = 1000,
  capabilities: readonly string[] = [],
): Promise<number[]> {
  const target = memory();
  const facts = new StreamFacts();
  for (const capability of capabilities) facts.capabilities.add(capability);
  const stream = new StreamReader(memorySource(Buffer.concat(sections), piece));
  const reader = new RamReader(target, stream, new UnitLog(), facts, qemu);
  for (const _ of sections) await reader.records();
  reader.complete();
  return Array.from({ length: PAGES }, (_, i) => target.bytes[i * PAGE_SIZE]!);
}

test("in Wherry's own streams, too, missing pages are zero", async () => {
  const bytes = records().list(RAM).page(PAGE_SIZE, 3, "ram").end();
  expect(await load([bytes], undefined)).toEqual([0, 3, 0, 0]);
});

describe("records of QEMU", () => {
  test("missing pages are zero; of a page sent again, the last record counts", async () => {
    const first = records().list(RAM).end();
    const round = records()
      .page(0, 1, "ram")
      .page(PAGE_SIZE, 2)
      .page(2 * PAGE_SIZE, 3)
      .end();
    const zero = records()
      .page(0, 9, "ram")
      .head(PAGE_SIZE, ZERO | CONTINUE);
    zero.out.u8(0);
    for (const piece of [1, 7, 4096, 100_000])
      expect(await load([first, round, zero.end()], QEMU, piece)).toEqual([9, 0, 3, 0]);
  });

  test("a page may be filled with a byte (as old releases did)", async () => {
    const filled = records().list(RAM).head(PAGE_SIZE, ZERO, "ram");
    filled.out.u8(7);
    expect(await load([filled.end()], QEMU)).toEqual([0, 7, 0, 0]);
    await expect(load([filled.out.finish()], undefined)).rejects.toThrow(
      /a page filled with 0x7, expected 0x0/,
    );
  });

  test("pages of a dropped block are discarded, in any order of blocks", async () => {
    const bytes = records()
      .list(["/rom@etc/acpi/tables", 2 * PAGE_SIZE], RAM)
      .page(0, 1, "/rom@etc/acpi/tables")
      .page(0, 2, "ram")
      .page(PAGE_SIZE, 3, "/rom@etc/acpi/tables")
      .page(PAGE_SIZE, 4, "ram")
      .end();
    expect(await load([bytes], QEMU)).toEqual([2, 4, 0, 0]);
  });

  test("a delta changes the page in memory", async () => {
    const bytes = records()
      .list(RAM)
      .page(0, 5, "ram")
      .head(0, XBZRLE | CONTINUE);
    bytes.out
      .u8(1)
      .u16(3)
      .bytes(Uint8Array.of(0, 1, 8));
    expect(await load([bytes.end()], QEMU)).toEqual([8, 0, 0, 0]);
    const damaged = records().list(RAM).head(0, XBZRLE, "ram");
    damaged.out.u8(1).u16(2).bytes(Uint8Array.of(0, 0));
    await expect(load([damaged.end()], QEMU)).rejects.toThrow(
      /XBZRLE byte 2 of 2: a run of no bytes.*another copy/,
    );
    const unknown = records().list(RAM).head(0, XBZRLE, "ram");
    unknown.out.u8(2).u16(0);
    await expect(load([unknown.end()], QEMU)).rejects.toThrow(/a delta of encoding 2/);
  });

  test("synchronisation points: at the end of each section, or at records", async () => {
    for (const marked of [false, true]) {
      const events: string[] = [];
      const channels = {
        begin: () => void events.push("begin"),
        synchronize: async () => void events.push("sync"),
      };
      const first = records().list(RAM);
      const second = records().page(0, 1, "ram");
      if (marked) first.head(0, MULTIFD_FLUSH);
      if (marked) second.head(0, MULTIFD_FLUSH).head(0, MULTIFD_FLUSH);
      await load([first.end(), second.end()], { ...QEMU, channels });
      expect(events).toEqual(marked ? ["begin", "sync", "sync", "sync"] : ["begin", "sync", "sync"]);
    }
  });
});

describe("refused", () => {
  test.each([
    [
      records().list(["ram", 8 * 2 ** 20]),
      /RAM block "ram" of 0x800000 bytes is in the stream; this machine has ram of 0x4000: start this side with the same amount of memory \(block ram: 8 MiB there/,
    ],
    [
      records().list(["vga.vram", 4096], RAM),
      /RAM block "vga.vram" of 0x1000 bytes is in the stream; .*same memory size and devices/,
    ],
    // A damaged name: messages go to terminals.
    [records().list(["r\x7f\x9bm", 4096]), /RAM block "r\\u007f\\u009bm" of 0x1000 bytes is in the stream/],
    [records().list(RAM, RAM), /each RAM block once, found "ram" is listed twice/],
    [records().list(["/rom@a", 4096]), /missing: ram/],
    [records().list(RAM).head(0, HOOK), /RDMA.*tcp:, unix: or file:/],
    [
      records().list(RAM).head(0, COMPRESS_PAGE, "ram"),
      /a compressed page \(0x100\): switch the capability compress off/,
    ],
    [records().list(RAM).head(0, 0x400, "ram"), /found flags 0x400/],
    [
      records().list(RAM).head(0, PAGE, "rom"),
      /expected a RAM block of ram, found a page of RAM block "rom"/,
    ],
    [
      records()
        .list(RAM)
        .head(PAGES * PAGE_SIZE, PAGE, "ram"),
      /at offset.*: ram block ram: expected a page below 0x4000, found page 0x4000/,
    ],
    [
      records()
        .list(RAM)
        .head(0, PAGE | CONTINUE),
      /expected a page that names its RAM block, found one that continues the last page's/,
    ],
  ])("case %#", async (bytes, message) => {
    await expect(load([bytes.end()], QEMU)).rejects.toThrow(message);
  });

  test("RAM in a separate file", async () => {
    const bytes = records().head(RAM[1], MEM_SIZE);
    bytes.out.countedString("ram").u64(BigInt(RAM[1])).u64(0x8000_0000n);
    await expect(load([bytes.end()], QEMU, 1000, ["x-ignore-shared"])).rejects.toThrow(
      /switch the capability x-ignore-shared off in the source/,
    );
  });

  test("in Wherry's own streams, all of QEMU's other encodings", async () => {
    for (const flags of [XBZRLE, HOOK, COMPRESS_PAGE, MULTIFD_FLUSH])
      await expect(load([records().list(RAM).head(0, flags, "ram").end()], undefined)).rejects.toThrow(
        /expected a RAM record/,
      );
  });
});

describe("mapped-ram", () => {
  const mapped = ["mapped-ram"];
  /** A file with the pages of `bits`; each is filled with its number, from 1. */
  function file(bits: number, change: Partial<ReturnType<typeof placeMappedRam>> = {}): Uint8Array {
    const { out } = records().head(RAM[1], MEM_SIZE);
    out.countedString("ram").u64(BigInt(RAM[1]));
    const place = placeMappedRam(out.length, RAM[1], PAGE_SIZE);
    encodeMappedRamHeader(out, { ...place, ...change });
    const rest = new Uint8Array(place.pagesOffset + RAM[1] - out.length);
    const base = place.pagesOffset - out.length;
    rest[0] = bits;
    // Pages that are not in the bitmap hold stale bytes.
    for (let page = 0; page < PAGES; page++)
      rest.fill(page + 1, base + page * PAGE_SIZE, base + (page + 1) * PAGE_SIZE);
    out.bytes(rest).u64(BigInt(EOS));
    return out.finish();
  }

  test("pages in the bitmap are read, the others are zero", async () => {
    for (const piece of [1000, 2 ** 22]) {
      expect(await load([file(0b1011)], QEMU, piece, mapped)).toEqual([1, 2, 0, 4]);
      expect(await load([file(0)], QEMU, piece, mapped)).toEqual([0, 0, 0, 0]);
    }
  });

  test("a truncated file is refused", async () => {
    const bytes = file(0b1111);
    await expect(load([bytes.subarray(0, bytes.length - 5000)], QEMU, 1000, mapped)).rejects.toThrow(
      /ends \d+ bytes too early/,
    );
  });

  test("a damaged header is refused before any seek", async () => {
    await expect(load([file(1, { pagesOffset: 2 ** 50 })], QEMU, 1000, mapped)).rejects.toThrow(
      /its pages are at file offset/,
    );
    await expect(load([file(1, { pageSize: 8192 })], QEMU, 1000, mapped)).rejects.toThrow(
      /pages of 8192 bytes, expected 4096/,
    );
  });
});
