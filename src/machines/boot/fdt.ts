// Flattened device trees (Devicetree Specification 0.4, chapter 5): a tree of nodes and properties, its
// writer. Version 17 blobs. Left out: memory reservations, and reading, which only tests do
// (test/support/read-fdt.ts).
import { ByteReader, ByteWriter } from "../../base/bytes.ts";
import { decodeUtf8, encodeUtf8 } from "../../base/text.ts";

const FDT_MAGIC = 0xd00dfeed;
const FDT_VERSION = 17;
const FDT_LAST_COMPATIBLE = 16;
const FDT_BEGIN_NODE = 1;
const FDT_END_NODE = 2;
const FDT_PROP = 3;
const FDT_END = 9;
const HEADER_SIZE = 40;

export type PropertyValue = Uint8Array;

/** <prop-encoded-array> of 32-bit cells. */
export function cells(...values: number[]): PropertyValue {
  const writer = new ByteWriter(4 * values.length);
  for (const value of values) writer.u32(value);
  return writer.finish();
}
/** Addresses and sizes of two cells each. */
export function cells64(...values: number[]): PropertyValue {
  return cells(...values.flatMap((value) => [Math.floor(value / 2 ** 32), value % 2 ** 32]));
}
/** <stringlist>. */
export function strings(...values: string[]): PropertyValue {
  return encodeUtf8(values.map((value) => `${value}\0`).join(""));
}
/** <empty>: the property has no value. */
export const empty: PropertyValue = new Uint8Array(0);

export class FdtNode {
  readonly name: string;
  readonly properties = new Map<string, PropertyValue>();
  readonly children: FdtNode[] = [];

  constructor(name: string, properties: Record<string, PropertyValue> = {}) {
    this.name = name;
    for (const [key, value] of Object.entries(properties)) this.properties.set(key, value);
  }

  add(name: string, properties: Record<string, PropertyValue> = {}): FdtNode {
    const child = new FdtNode(name, properties);
    this.children.push(child);
    return child;
  }

  /** The node at an absolute path such as `/soc/serial@10000000`. */
  find(path: string): FdtNode | undefined {
    let node: FdtNode | undefined = this;
    for (const name of path.split("/").filter((part) => part !== "")) {
      node = node.children.find((child) => child.name === name);
      if (node === undefined) return undefined;
    }
    return node;
  }

  cells(key: string): number[] | undefined {
    const value = this.properties.get(key);
    if (value === undefined) return undefined;
    const reader = new ByteReader(value);
    return Array.from({ length: value.length >>> 2 }, () => reader.u32());
  }
  string(key: string): string | undefined {
    const value = this.properties.get(key);
    return value === undefined ? undefined : decodeUtf8(value).split("\0")[0];
  }
}

/** The blob of a tree. `bootCpu` is the physical id of the boot hart. */
export function writeFdt(root: FdtNode, bootCpu = 0): Uint8Array<ArrayBuffer> {
  const structure = new ByteWriter();
  const names = new ByteWriter();
  const nameOffsets = new Map<string, number>();
  const align = (): void => {
    while (structure.length % 4 !== 0) structure.u8(0);
  };
  const writeNode = (node: FdtNode): void => {
    structure.u32(FDT_BEGIN_NODE).bytes(strings(node.name));
    align();
    for (const [key, value] of node.properties) {
      let offset = nameOffsets.get(key);
      if (offset === undefined) {
        offset = names.length;
        nameOffsets.set(key, offset);
        names.bytes(strings(key));
      }
      structure.u32(FDT_PROP).u32(value.length).u32(offset).bytes(value);
      align();
    }
    for (const child of node.children) writeNode(child);
    structure.u32(FDT_END_NODE);
  };
  writeNode(root);
  structure.u32(FDT_END);

  const reservations = HEADER_SIZE;
  const structureAt = reservations + 16;
  const namesAt = structureAt + structure.length;
  const blob = new ByteWriter(namesAt + names.length);
  blob.u32(FDT_MAGIC).u32(namesAt + names.length);
  blob.u32(structureAt).u32(namesAt).u32(reservations);
  blob.u32(FDT_VERSION).u32(FDT_LAST_COMPATIBLE).u32(bootCpu);
  blob.u32(names.length).u32(structure.length);
  // No reservations: only the terminating entry.
  blob.u64(0n).u64(0n);
  return blob.bytes(structure.view()).bytes(names.view()).finish();
}
