// The list of RAM blocks with the additions of each capability, and the detection of page sizes.
import { expect, test } from "vitest";
import { memorySource } from "../../test/support/fake-network.ts";
import { ByteWriter } from "../base/bytes.ts";
import { MAX_RAM_BLOCKS, type RamListEntry, readRamList } from "./ram-list.ts";
import { StreamFacts } from "./stream-facts.ts";
import { StreamReader } from "./stream-reader.ts";

const SIZE = 0x10_0000;
const entry = (name = "pc.ram") => new ByteWriter().countedString(name).u64(BigInt(SIZE));

async function listOf(
  bytes: ByteWriter,
  total: number,
  { capabilities = [], advised = false }: { capabilities?: string[]; advised?: boolean } = {},
): Promise<{ entries: RamListEntry[]; rest: number }> {
  const facts = new StreamFacts();
  for (const capability of capabilities) facts.capabilities.add(capability);
  facts.postcopyAdvised = advised;
  const stream = new StreamReader(memorySource(bytes.finish(), 3));
  const entries: RamListEntry[] = [];
  await readRamList(stream, facts, total, (one) => void entries.push(one));
  return { entries, rest: bytes.length - stream.offset };
}

test("a name and a size", async () => {
  const two = entry("a").bytes(entry("b").view());
  expect(await listOf(two, 2 * SIZE)).toEqual({
    entries: [
      { name: "a", size: SIZE },
      { name: "b", size: SIZE },
    ],
    rest: 0,
  });
});

test("the guest-physical address with ignore-shared", async () => {
  const { entries } = await listOf(entry().u64(0x8000_0000n), SIZE, { capabilities: ["x-ignore-shared"] });
  expect(entries[0]?.address).toBe(0x8000_0000n);
});

test("a host page size after POSTCOPY_ADVISE, detected by what follows the entry", async () => {
  const huge = entry()
    .u64(2n ** 21n)
    .u64(0x10n);
  expect(await listOf(huge, SIZE, { advised: true })).toMatchObject({
    entries: [{ hostPageSize: 2 ** 21 }],
    rest: 8,
  });
  for (const next of [new ByteWriter().u64(0x10n), new ByteWriter().u64(0x200n), entry("next")]) {
    const { entries, rest } = await listOf(entry().bytes(next.view()), SIZE, { advised: true });
    expect(entries).toEqual([{ name: "pc.ram", size: SIZE }]);
    expect(rest).toBe(next.length);
  }
});

test("an address that looks like a page size, with both", async () => {
  const capabilities = ["x-ignore-shared"];
  const both = entry().u64(0x20_0000n).u64(0x8000_0000n);
  expect((await listOf(both, SIZE, { capabilities, advised: true })).entries).toMatchObject([
    { hostPageSize: 0x20_0000, address: 0x8000_0000n },
  ]);
  const address = entry().u64(0x8000_0000n).u64(0x10n);
  expect(await listOf(address, SIZE, { capabilities, advised: true })).toMatchObject({
    entries: [{ address: 0x8000_0000n }],
    rest: 8,
  });
});

test("too many blocks are refused", async () => {
  const many = new ByteWriter();
  for (let i = 0; i <= MAX_RAM_BLOCKS; i++) many.bytes(entry(`${i}`).view());
  const total = (MAX_RAM_BLOCKS + 1) * SIZE;
  await expect(listOf(many, total)).rejects.toThrow(/expected at most 65536 RAM blocks/);
});
