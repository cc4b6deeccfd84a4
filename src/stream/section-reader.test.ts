// A section that the loader drops: its footer is searched for, and what keeps it from being found is told.
import { expect, test } from "vitest";
import { memorySource } from "../../test/support/fake-network.ts";
import { ByteWriter } from "../base/bytes.ts";
import { SectionReader } from "./section-reader.ts";
import { StreamReader } from "./stream-reader.ts";
import { QEMU_VM } from "./wire.ts";

const ID = 7;
const MIB = 1024 * 1024;
const footer = (writer: ByteWriter): ByteWriter => writer.u8(QEMU_VM.SECTION_FOOTER).u32(ID);

async function drop(bytes: Uint8Array): Promise<number> {
  const stream = new StreamReader(memorySource(bytes));
  await new SectionReader(stream).drop(ID);
  return stream.offset;
}

test.each([
  ["the end of the stream", (writer: ByteWriter) => writer.u8(QEMU_VM.EOF)],
  ["an end without a VMDESCRIPTION", (writer: ByteWriter) => writer.u8(QEMU_VM.EOF).u8(1)],
  [
    "a section with a short name",
    (writer: ByteWriter) => writer.u8(QEMU_VM.SECTION_FULL).u32(8).countedString("a").u32(0).u32(1),
  ],
])("is dropped, footer included, before %s", async (_what, next) => {
  const bytes = next(footer(new ByteWriter().u64(0x7e_0000_0000n)));
  expect(await drop(bytes.finish())).toBe(13);
});

test.each([0, 4, 8, 12])(
  "that is cut after %d of 13 bytes is a stream that ends too early",
  async (length) => {
    const whole = footer(new ByteWriter().u64(0x1234n)).finish();
    await expect(drop(whole.slice(0, length))).rejects.toMatchObject({ code: "migration.cut" });
  },
);

test("without a footer in 32 MiB is refused for its size", async () => {
  const bytes = new Uint8Array(33 * MIB).fill(QEMU_VM.SECTION_FOOTER);
  await expect(drop(bytes)).rejects.toMatchObject({ code: "migration.section-size" });
});
