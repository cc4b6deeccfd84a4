// Fields that QEMU's releases write with different widths, and subsections that no machine here accepts. With
// them, one state object serves all releases.
import type { ByteReader, ByteWriter } from "../../base/bytes.ts";
import { type Codec, Field } from "../../state/field.ts";

/**
 * An unsigned integer of `width` bytes on the wire, a bigint in the state. A register that other releases
 * write with only `kept` bytes loses the rest, which it does not implement.
 */
export function uint(width: 1 | 2 | 4 | 8, kept = width): Field<bigint> {
  const bits = 8 * width;
  const type = `uint${bits}`;
  const codec: Codec<bigint> = {
    type,
    width,
    uniform: true,
    schema: { type, size: width },
    create: () => 0n,
    validate(value, place) {
      if (typeof value !== "bigint" || BigInt.asUintN(bits, value) !== value)
        place.fail("state.type", `an integer of type ${type}`, String(value));
    },
    write(writer: ByteWriter, value) {
      if (width === 1) writer.u8(Number(value));
      else if (width === 2) writer.u16(Number(value));
      else if (width === 4) writer.u32(Number(value));
      else writer.u64(value);
    },
    read(reader: ByteReader) {
      if (width === 8) return BigInt.asUintN(8 * kept, reader.u64());
      return BigInt(width === 1 ? reader.u8() : width === 2 ? reader.u16() : reader.u32());
    },
    assign: (_target, source) => source,
    scalars: (value) => [value],
    describe: () => [{ size: width }],
  };
  return new Field(codec);
}

/** A field that makes its stream unusable here: `expected` describes this machine, `found` the stream. */
export function refused(code: string, expected: string, found: string): Field<undefined> {
  const codec: Codec<undefined> = {
    type: "unused_buffer",
    width: 0,
    uniform: true,
    schema: { type: "unused_buffer", size: 0 },
    create: () => undefined,
    validate: () => {},
    write: () => {},
    read: (_reader, place) => place.fail(code, expected, found),
    assign: () => undefined,
    scalars: () => [],
    describe: () => [],
  };
  return new Field(codec);
}
