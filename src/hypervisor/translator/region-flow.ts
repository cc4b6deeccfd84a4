// Which guest registers a region holds in locals, and where: registers that may have been written since entry
// must be stored at an exit, and registers that are read or stored later must be loaded at entry. Two passes
// over the blocks, registers as bits of a word; x0 has none. translator-float.ts handles float registers.
import type { Block, Region } from "./region.ts";

export interface RegionFlow {
  /** Registers that a region's entry must load. */
  loads(entry: Block): number;
  /** Registers that may have been written between entry of the region and the start of this block. */
  writtenBefore(block: Block): number;
  /** Registers that may have been written between entry of the region and the end of this block. */
  writtenAfter(block: Block): number;
}

/** `reenters`: an indirect jump of the region may go to any of its entries without leaving it. */
export function analyzeFlow(region: Region, reenters: boolean): RegionFlow {
  const { blocks, entries } = region;
  const count = blocks.length;
  const writes = new Int32Array(count);
  /** Registers that a block reads before it writes them. */
  const exposed = new Int32Array(count);
  const nextOf = blocks.map((block) => {
    const goesAnywhere = reenters && block.instructions.at(-1)?.flow.kind.startsWith("indirect");
    return goesAnywhere ? [...block.successors, ...entries] : block.successors;
  });
  for (const { order, instructions } of blocks) {
    for (const instruction of instructions) {
      const of = instruction.decoding;
      exposed[order] = (exposed[order] as number) | (of.reads & ~(writes[order] as number));
      writes[order] = (writes[order] as number) | of.writes;
    }
  }

  const before = new Int32Array(count);
  for (let changed = true; changed; ) {
    changed = false;
    for (const { order } of blocks) {
      const after = (before[order] as number) | (writes[order] as number);
      for (const next of nextOf[order] as readonly Block[]) {
        const more = (before[next.order] as number) | after;
        if (more !== before[next.order]) {
          before[next.order] = more;
          changed = true;
        }
      }
    }
  }

  // A trap may leave any block in the middle: registers that may have been written are then stored, so they
  // must be valid.
  const live = new Int32Array(count);
  for (let changed = true; changed; ) {
    changed = false;
    for (let order = count - 1; order >= 0; order--) {
      let after = 0;
      for (const next of nextOf[order] as readonly Block[]) after |= live[next.order] as number;
      const stored = (before[order] as number) | (writes[order] as number);
      const needed = (exposed[order] as number) | stored | (after & ~(writes[order] as number));
      if (needed !== live[order]) {
        live[order] = needed;
        changed = true;
      }
    }
  }

  return {
    loads: (entry) => live[entry.order] as number,
    writtenBefore: (block) => before[block.order] as number,
    writtenAfter: (block) => (before[block.order] as number) | (writes[block.order] as number),
  };
}
