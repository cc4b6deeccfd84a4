// The cursor that makes fields: it skips nothing, trusts no length, and bounds its memory.
import { expect, it } from "vitest";
import { EndOfBytes } from "../../base/bytes.ts";
import { accountingErrors } from "../../../test/support/accounting.ts";
import { FieldReader, TooManyFields } from "./fields.ts";

const BYTES = Uint8Array.from({ length: 32 }, (_, i) => i);

it("every read makes a field with its offset", () => {
  const reader = new FieldReader(BYTES, 100);
  expect(reader.u8("a")).toBe(0);
  expect(reader.u16("b", undefined, "little")).toBe(0x0201);
  reader.group("c", "struct", () => {
    reader.u32("d", (value) => (value === 0x03040506n ? "as it should be" : undefined));
    reader.bytes("e", 3);
  });
  expect(reader.countedString("f")).toBe("\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14");
  expect(reader.rest()).toHaveLength(11);
  expect(accountingErrors(reader.fields, 100, 32)).toEqual([]);
  expect(reader.fields[2]?.children?.[0]).toMatchObject({ offset: 103, size: 4, meaning: "as it should be" });
});

it("fields remain when the bytes end inside a group", () => {
  const reader = new FieldReader(BYTES.subarray(0, 3), 0);
  const read = () =>
    reader.group("g", "struct", () => {
      reader.u16("a");
      reader.u16("b");
    });
  expect(read).toThrow(EndOfBytes);
  expect(reader.rest()).toEqual(new Uint8Array([2]));
  expect(accountingErrors(reader.fields, 0, 3)).toEqual([]);
});

it("the number of fields is limited, and the remaining bytes can still be shown", () => {
  const reader = new FieldReader(BYTES, 0, 10);
  const read = () =>
    reader.group("g", "array", () => {
      for (;;) reader.group("element", "struct", () => reader.u8("v"));
    });
  expect(read).toThrow(TooManyFields);
  expect(reader.count).toBe(10);
  reader.rest();
  expect(accountingErrors(reader.fields, 0, 32)).toEqual([]);
});
