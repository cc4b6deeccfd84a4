// Directory blocks: linear ones, which the kernel reads at any size (and grows without an index). The last 12
// bytes of each block hold its checksum.
import { encodeUtf8 } from "../base/text.ts";
import { BLOCK } from "./ext4-layout.ts";
import { Ext4Error, type Kind } from "./ext4-tree.ts";

const TAIL = 12;
const TAIL_TYPE = 0xde;
const MAX_NAME = 255;

const TYPES: Record<Kind, number> = {
  file: 1,
  directory: 2,
  character: 3,
  block: 4,
  fifo: 5,
  socket: 6,
  symlink: 7,
};

export interface DirectoryEntry {
  readonly name: string;
  readonly inode: number;
  readonly kind: Kind;
}

/** The blocks of a directory, whose checksums are still zero. Throws Ext4Error "extfs.name". */
export function directoryBlocks(entries: readonly DirectoryEntry[]): Uint8Array[] {
  const blocks: Uint8Array[] = [];
  let view = new DataView(new ArrayBuffer(0));
  /** Where the last entry starts, and where the next one would. */
  let last = 0;
  let at = BLOCK;
  const close = (): void => {
    if (blocks.length > 0) view.setUint16(last + 4, BLOCK - TAIL - last, true);
  };
  for (const { name, inode, kind } of entries) {
    const encoded = encodeUtf8(name);
    if (encoded.length === 0 || encoded.length > MAX_NAME || /[/\0]/.test(name))
      throw new Ext4Error(
        "extfs.name",
        `'${name}' is not a file name: expected 1 to ${MAX_NAME} bytes, no slash`,
      );
    const length = (8 + encoded.length + 3) & ~3;
    if (at + length > BLOCK - TAIL) {
      close();
      const bytes = new Uint8Array(BLOCK);
      blocks.push(bytes);
      view = new DataView(bytes.buffer);
      view.setUint16(BLOCK - TAIL + 4, TAIL, true);
      view.setUint8(BLOCK - TAIL + 7, TAIL_TYPE);
      at = 0;
    }
    view.setUint32(at, inode, true);
    view.setUint16(at + 4, length, true);
    view.setUint8(at + 6, encoded.length);
    view.setUint8(at + 7, TYPES[kind]);
    new Uint8Array(view.buffer).set(encoded, at + 8);
    last = at;
    at += length;
  }
  close();
  return blocks;
}

/** Where the checksum of a directory block is, and how many bytes it covers. */
export const DIRECTORY_SUM = { at: BLOCK - 4, covers: BLOCK - TAIL } as const;
