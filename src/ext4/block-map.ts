// Which blocks of the image are in use, and the choice of blocks for new data: the next free ones, so that
// files lie one after another in the order in which they are stored.
import { BLOCK, GROUP_BLOCKS, INODE_TABLE_BLOCKS, type Layout } from "./ext4-layout.ts";
import { Ext4Error } from "./ext4-tree.ts";

export interface Run {
  readonly start: number;
  readonly length: number;
}

export class BlockMap {
  /** A bit for each block. */
  readonly bits: Uint8Array;
  readonly #blocks: number;
  #next = 0;

  /** The metadata of `layout` is in use. */
  constructor(layout: Layout) {
    this.#blocks = layout.blocks;
    this.bits = new Uint8Array(layout.groups * BLOCK);
    for (let group = 0; group < layout.groups; group++) {
      const start = group * GROUP_BLOCKS;
      this.#set(start, layout.bitmap(group) - start + 2 + INODE_TABLE_BLOCKS, true);
    }
    // The bits of blocks that do not exist are set.
    this.#set(layout.blocks, layout.groups * GROUP_BLOCKS - layout.blocks, true);
  }

  has(block: number): boolean {
    return (((this.bits[block >>> 3] as number) >>> (block & 7)) & 1) === 1;
  }

  #set(start: number, length: number, used: boolean): void {
    for (let block = start; block < start + length; block++) {
      const bit = 1 << (block & 7);
      const old = this.bits[block >>> 3] as number;
      this.bits[block >>> 3] = used ? old | bit : old & ~bit;
    }
  }

  /** Takes `count` blocks, as few runs as lie there. Throws Ext4Error "extfs.space". */
  take(count: number): Run[] {
    const runs: Run[] = [];
    let left = count;
    while (left > 0) {
      while (this.#next < this.#blocks && this.has(this.#next)) this.#next++;
      const start = this.#next;
      if (start >= this.#blocks)
        throw new Ext4Error(
          "extfs.space",
          `the files do not fit into the image of ${Math.floor((this.#blocks * BLOCK) / 2 ** 20)} MiB: choose a larger size`,
        );
      while (this.#next < this.#blocks && this.#next - start < left && !this.has(this.#next)) this.#next++;
      const length = this.#next - start;
      this.#set(start, length, true);
      runs.push({ start, length });
      left -= length;
    }
    return runs;
  }

  takeOne(): number {
    return (this.take(1)[0] as Run).start;
  }

  free(start: number, length: number): void {
    this.#set(start, length, false);
    this.#next = Math.min(this.#next, start);
  }

  /** The number of free blocks in the group. */
  freeIn(group: number): number {
    let free = 0;
    for (const byte of this.bits.subarray(group * BLOCK, (group + 1) * BLOCK))
      if (byte !== 0xff) for (let bit = 0; bit < 8; bit++) if ((byte & (1 << bit)) === 0) free++;
    return free;
  }
}
