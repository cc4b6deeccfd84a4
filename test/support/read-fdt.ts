// Reads a flattened device tree (Devicetree Specification 0.4, chapter 5) as a tree of nodes. Left out:
// memory reservations.
import { ByteReader, EndOfBytes } from "../../src/base/bytes.ts";
import { hex } from "../../src/base/hex.ts";
import { decodeUtf8 } from "../../src/base/text.ts";
import { FdtNode } from "../../src/machines/boot/fdt.ts";

export class FdtError extends Error {}

const FDT_MAGIC = 0xd00dfeed;
const LAST_COMPATIBLE = 16;
const FDT_BEGIN_NODE = 1;
const FDT_END_NODE = 2;
const FDT_PROP = 3;
const FDT_NOP = 4;
const FDT_END = 9;

/** The tree of a blob. Throws FdtError if the blob is not a device tree. */
export function readFdt(blob: Uint8Array): FdtNode {
  const header = new ByteReader(blob);
  try {
    const magic = header.u32();
    if (magic !== FDT_MAGIC) throw new FdtError(`expected ${hex(FDT_MAGIC)}, found ${hex(magic)}`);
    const total = header.u32();
    const structureAt = header.u32();
    const namesAt = header.u32();
    header.u32();
    const version = header.u32();
    if (version < LAST_COMPATIBLE) {
      throw new FdtError(`expected version ${LAST_COMPATIBLE} or later, found ${version}`);
    }
    return readStructure(new ByteReader(blob.subarray(0, total), structureAt), blob.subarray(namesAt, total));
  } catch (error) {
    if (!(error instanceof EndOfBytes)) throw error;
    throw new FdtError(`the device tree is cut off: ${error.message}`, { cause: error });
  }
}

function readStructure(reader: ByteReader, names: Uint8Array): FdtNode {
  const stack: FdtNode[] = [];
  let root: FdtNode | undefined;
  for (;;) {
    const token = reader.u32();
    const top = stack.at(-1);
    if (token === FDT_BEGIN_NODE) {
      const name = readString(reader);
      const node = top === undefined ? new FdtNode(name) : top.add(name);
      root ??= node;
      stack.push(node);
    } else if (token === FDT_PROP && top !== undefined) {
      const length = reader.u32();
      const name = readString(new ByteReader(names, reader.u32()));
      top.properties.set(name, reader.bytes(length).slice());
    } else if (token === FDT_END_NODE) {
      stack.pop();
    } else if (token === FDT_END && root !== undefined && top === undefined) {
      return root;
    } else if (token !== FDT_NOP) {
      throw new FdtError(`unexpected token ${hex(token)} at offset ${reader.offset - 4}`);
    }
    reader.bytes(-reader.offset & 3);
  }
}

function readString(reader: ByteReader): string {
  const bytes: number[] = [];
  for (let byte = reader.u8(); byte !== 0; byte = reader.u8()) bytes.push(byte);
  return decodeUtf8(Uint8Array.from(bytes));
}
