// One grammar, two readers: the loader and the inspector find the same faults at the same offset, with the
// same message. The loader refuses the stream; the inspector reports the fault and continues if it can.
import { describe, expect, test } from "vitest";
import { ByteReader, ByteWriter } from "../../src/base/bytes.ts";
import { bytesSource } from "../../src/inspect/read/byte-source.ts";
import { readStream } from "../../src/inspect/read/read-stream.ts";
import { loadSnapshot, saveSnapshot } from "../../src/migration/snapshot/snapshot.ts";
import { MigrationError } from "../../src/stream/migration-error.ts";
import { MIG_CMD, QEMU_VM, RAM_SAVE_FLAG } from "../../src/stream/wire.ts";
import type { Machine } from "../../src/vmm/machine.ts";
import { memorySink, memorySource } from "../support/fake-network.ts";
import { FakeMachine } from "../support/fake-machine.ts";
import { QemuFakeMachine } from "../support/fake-qemu.ts";

const PAGE = 4096;
const small = { ramPages: 3 };
const HEAD = 4 + 4 + 1 + 4 + "virt".length;
/** START, id, "ram", instance, version. */
const RAM_HEAD = 1 + 4 + 4 + 4 + 4;
const BLOCK = "riscv_virt_board.ram";

async function saved(): Promise<Uint8Array> {
  const machine = new QemuFakeMachine(small);
  const sink = memorySink();
  await saveSnapshot(machine, async () => sink, undefined, undefined, machine.profile);
  return sink.committed as Uint8Array;
}

/** A stream with `inserted` at `at`, instead of `removed` bytes. */
function changed(stream: Uint8Array, at: number, removed: number, inserted: ByteWriter): Uint8Array {
  return Buffer.concat([stream.subarray(0, at), inserted.view(), stream.subarray(at + removed)]);
}

const refusal = (bytes: Uint8Array, machine: Machine = new QemuFakeMachine(small)) =>
  loadSnapshot(machine, memorySource(bytes)).then(
    () => undefined,
    (error: unknown) => error as MigrationError,
  );

const subsection = (name: string, version: number, body: ByteWriter) =>
  new ByteWriter()
    .u8(QEMU_VM.SUBSECTION)
    .countedString(`configuration/${name}`)
    .u32(version)
    .bytes(body.view());
const uuid = () => subsection("uuid", 1, new ByteWriter().bytes(new Uint8Array(16)));
const capabilities = (count: number) => subsection("capabilities", 1, new ByteWriter().u32(count));
const command = (number: number, length: number) =>
  new ByteWriter().u8(QEMU_VM.COMMAND).u16(number).u16(length).bytes(new Uint8Array(length));
const record = (offset: number, flags: number) => new ByteWriter().u64(BigInt(offset + flags));

interface Case {
  readonly what: string;
  readonly make: (stream: Uint8Array) => Uint8Array;
  readonly code: string;
  /** Offset of the fault. */
  readonly offset: number;
  readonly found: string;
  /** True if the inspector continues. */
  readonly continues?: true;
}

const stream = await saved();
const LIST = HEAD + RAM_HEAD + 8;
const LIST_END = endOfList();
/** The first record of pages: after the list's EOS, its footer, and the next part's head. */
const PAGES = LIST_END + 8 + 5 + 5;

function endOfList(): number {
  const reader = new ByteReader(stream, LIST - 8);
  let at = LIST;
  for (let left = reader.u64() - BigInt(RAM_SAVE_FLAG.MEM_SIZE); left > 0n; at = reader.offset) {
    reader.countedString();
    left -= reader.u64();
  }
  return at;
}

const CASES: readonly Case[] = [
  {
    what: "a subsection of a version that is not known",
    make: (s) => changed(s, HEAD, 0, subsection("uuid", 2, new ByteWriter().bytes(new Uint8Array(16)))),
    code: "stream.configuration",
    offset: HEAD,
    found: 'expected subsection configuration/uuid version 1, found "configuration/uuid" version 2',
  },
  {
    what: "a subsection that comes again, which QEMU reads",
    make: (s) => changed(s, HEAD, 0, uuid().bytes(uuid().view())),
    code: "stream.configuration",
    offset: HEAD + uuid().length,
    found: 'expected subsection configuration/uuid once, found "configuration/uuid" version 1 again',
    continues: true,
  },
  {
    what: "an unknown subsection",
    make: (s) => changed(s, HEAD, 0, subsection("new", 1, new ByteWriter().u32(7))),
    code: "stream.configuration",
    offset: HEAD,
    found: 'found "configuration/new" version 1',
  },
  {
    what: "more capabilities than there are",
    make: (s) => changed(s, HEAD, 0, capabilities(100_000)),
    code: "stream.configuration",
    offset: HEAD,
    found: "expected at most 256 capabilities, found 100000",
  },
  {
    what: "a machine's name without end",
    make: (s) => changed(s, HEAD - 8, 4, new ByteWriter().u32(1e6)),
    code: "stream.configuration",
    offset: HEAD - 8,
    found: "expected a machine's name of at most 4096 bytes, found 1000000 bytes",
  },
  {
    what: "an unknown command",
    make: (s) => changed(s, HEAD, 0, command(12, 3)),
    code: "stream.command",
    offset: HEAD,
    found: "expected a command from 1 to 11, found unknown command 12 with 3 bytes",
  },
  {
    what: "a command with the wrong length, which QEMU refuses",
    make: (s) => changed(s, HEAD, 0, command(MIG_CMD.PING, 3)),
    code: "stream.command",
    offset: HEAD,
    found: "expected PING with 4 bytes, found 3 bytes",
  },
  {
    what: "a list of RAM blocks that is larger than its total",
    make: (s) => changed(s, LIST - 8, 8, record(PAGE, RAM_SAVE_FLAG.MEM_SIZE)),
    code: "ram.list",
    offset: LIST,
    found: `0x1000 bytes altogether, found "${BLOCK}" of 0x3000`,
  },
  {
    what: "a block without a name",
    make: (s) => changed(s, LIST, 1 + BLOCK.length, new ByteWriter().u8(0)),
    code: "ram.list",
    offset: LIST,
    found: 'found "" of 0x3000',
  },
  {
    what: "a second list",
    make: (s) => changed(s, PAGES, 0, record(PAGE, RAM_SAVE_FLAG.MEM_SIZE)),
    code: "ram.list",
    offset: PAGES,
    found: "expected one list of RAM blocks, found a second list of RAM blocks",
  },
  {
    what: "the end of a part with a page's number, which QEMU does not look at",
    make: (s) => changed(s, LIST_END, 8, record(PAGE, RAM_SAVE_FLAG.EOS)),
    code: "ram.flags",
    offset: LIST_END,
    found: "expected the end, 0x10, found 0x1010",
    continues: true,
  },
  {
    what: "a record of no kind",
    make: (s) => changed(s, PAGES, 0, record(0, 0x400)),
    code: "ram.flags",
    offset: PAGES,
    found: "found flags 0x400",
  },
  {
    what: "a record of two kinds",
    make: (s) => changed(s, PAGES, 0, record(0, RAM_SAVE_FLAG.PAGE | RAM_SAVE_FLAG.ZERO)),
    code: "ram.flags",
    offset: PAGES,
    found: "found flags 0xa",
  },
  {
    what: "a page of a block that is not in the list",
    make: (s) => changed(s, PAGES, 0, record(0, RAM_SAVE_FLAG.ZERO).countedString("vga").u8(0)),
    code: "ram.block",
    offset: PAGES,
    found: 'found a page of RAM block "vga"',
  },
  {
    what: "a page that continues nothing",
    make: (s) => changed(s, PAGES, 0, record(0, RAM_SAVE_FLAG.ZERO | RAM_SAVE_FLAG.CONTINUE).u8(0)),
    code: "ram.block",
    offset: PAGES,
    found: "expected a page that names its RAM block",
  },
  {
    what: "a page beyond the end of its block",
    make: (s) =>
      changed(
        s,
        PAGES,
        0,
        record(3 * PAGE, RAM_SAVE_FLAG.ZERO)
          .countedString(BLOCK)
          .u8(0),
      ),
    code: "ram.range",
    offset: PAGES,
    found: "expected a page below 0x3000, found page 0x3000",
  },
  {
    what: "a delta in no known encoding",
    make: (s) => changed(s, PAGES, 0, record(0, RAM_SAVE_FLAG.XBZRLE).countedString(BLOCK).u8(2).u16(3)),
    code: "ram.flags",
    offset: PAGES,
    found: "found a delta of encoding 2 and 3 bytes",
  },
  {
    what: "a footer of another section",
    make: (s) => changed(s, LIST_END + 8 + 1, 4, new ByteWriter().u32(9)),
    code: "stream.footer",
    offset: LIST_END + 8,
    found: "expected footer 0x7e of section 1, found the footer of section 9",
  },
];

async function bothFind(whole: Uint8Array, it: Case, machine?: Machine): Promise<void> {
  const { make, code, offset, found, continues } = it;
  const bytes = make(whole);
  const report = await readStream(bytesSource(bytes), { skipIntegrity: true });
  const problem = continues === true ? report.warnings[0] : report.problem;
  expect(problem).toMatchObject({ code, offset });
  expect(`expected ${problem?.expected}, found ${problem?.found}`).toContain(found);
  if (continues === true) expect(report.problem).toBeUndefined();
  const error = await refusal(bytes, machine);
  expect(error).toBeInstanceOf(MigrationError);
  expect(error?.offset).toBe(offset);
  expect(error?.message).toContain(found);
}

/** Faults of a VMDESCRIPTION; offsets count from EOF. */
const DESCRIPTION_CASES: readonly Case[] = [
  {
    what: "a VMDESCRIPTION of more bytes than any device has",
    make: (s) => changed(s, endOf(s) + 2, 4, new ByteWriter().u32(2 ** 26 + 1)),
    code: "stream.limit",
    offset: 1,
    found: "expected a VMDESCRIPTION of at most 67108864 bytes, found 67108865 bytes",
  },
  {
    what: "another type in place of the VMDESCRIPTION, which QEMU only warns of",
    make: (s) => changed(s, endOf(s) + 1, 1, new ByteWriter().u8(QEMU_VM.SECTION_FULL)),
    code: "stream.trailing",
    offset: 1,
    found: "expected the VMDESCRIPTION (0x6), found type 0x4",
    continues: true,
  },
  {
    what: "zeros in place of the VMDESCRIPTION, fewer than its head",
    make: (s) => Buffer.concat([s.subarray(0, endOf(s) + 1), new Uint8Array(2)]),
    code: "stream.trailing",
    offset: 1,
    found: "expected the VMDESCRIPTION (0x6), found type 0x0",
    continues: true,
  },
];
const endOf = (bytes: Uint8Array) => Buffer.from(bytes).lastIndexOf(Uint8Array.of(0, QEMU_VM.VMDESCRIPTION));

async function ownStream(): Promise<Uint8Array> {
  const sink = memorySink();
  await saveSnapshot(new FakeMachine(small), async () => sink);
  return sink.committed as Uint8Array;
}

describe.each([
  ["QEMU's", stream, () => new QemuFakeMachine(small)],
  ["Wherry's own", await ownStream(), () => new FakeMachine(small)],
])("in %s stream, the loader and the inspector find", (_whose, whole, machine) => {
  test.each(DESCRIPTION_CASES)("$what", (it) =>
    bothFind(whole, { ...it, offset: endOf(whole) + it.offset }, machine()),
  );

  test.each([2, 5, 6, 40])("a VMDESCRIPTION that is cut %i bytes after EOF's start", async (kept) => {
    const bytes = whole.subarray(0, endOf(whole) + kept);
    const { problem } = await readStream(bytesSource(bytes));
    expect(problem).toMatchObject({ code: "stream.cut", offset: bytes.length });
    const error = await refusal(bytes, machine());
    expect(error).toMatchObject({ code: "migration.cut", offset: bytes.length });
    const missing = Number.parseInt(problem?.expected ?? "", 10);
    expect(error?.message).toContain(`the stream ends ${missing} bytes too early`);
  });
});

describe("the loader and the inspector find", () => {
  test.each(CASES)("$what", (it) => bothFind(stream, it));

  test("a long machine name, and the loader's message stays short", async () => {
    const name = new ByteWriter().u32(4096).bytes(new Uint8Array(4096).fill(1));
    const bytes = changed(stream, HEAD - 8, 8, name);
    expect((await readStream(bytesSource(bytes))).configuration?.machine).toHaveLength(4096);
    const message = (await refusal(bytes))?.message ?? "";
    expect(message).toMatch(/give both sides the same machine type/);
    expect(message.length).toBeLessThan(2000);
  });

  test("nothing in the unchanged stream", async () => {
    const bytes = stream;
    const { problem, warnings } = await readStream(bytesSource(bytes));
    expect([problem, warnings]).toEqual([undefined, []]);
    expect(await refusal(bytes)).toBeUndefined();
  });
});
