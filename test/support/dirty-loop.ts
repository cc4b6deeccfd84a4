// A bare RISC-V guest that keeps changing its memory: it counts in one word of each of many pages (most of
// each page is unchanged, as XBZRLE expects), some pages have other contents, and a few return to zero.
import { assemble } from "../../src/asm/assembler.ts";

const BASE = 0x8000_0000n;
const PAGES = 1500;

const PROGRAM = `
    csrr  t0, mhartid
    bnez  t0, park
    li    s0, 0x80400000
    li    s1, ${PAGES}
    li    s2, 1
    li    s3, 0x5741545345525259
fill:
    mv    t0, s0
    mv    t1, s1
1:  li    t2, 64
    mv    t3, t0
2:  sd    s3, 0(t3)
    addi  s3, s3, 13
    addi  t3, t3, 16
    addi  t2, t2, -1
    bnez  t2, 2b
    li    t2, 4096
    add   t0, t0, t2
    addi  t1, t1, -1
    bnez  t1, 1b
again:
    mv    t0, s0
    mv    t1, s1
1:  sd    s2, 1032(t0)
    sw    s2, 2000(t0)
    li    t2, 4096
    add   t0, t0, t2
    addi  t1, t1, -1
    bnez  t1, 1b
    addi  s2, s2, 1
    # Every 256 rounds a page is cleared and filled no more but for its counters.
    andi  t2, s2, 255
    bnez  t2, again
    srli  t3, s2, 8
    andi  t3, t3, 511
    slli  t3, t3, 12
    add   t3, t3, s0
    li    t2, 512
3:  sd    zero, 0(t3)
    addi  t3, t3, 8
    addi  t2, t2, -1
    bnez  t2, 3b
    j     again
park:
    wfi
    j     park
`;

/** Loaded at the start of RAM. */
export function dirtyLoop(): Uint8Array {
  const { sections } = assemble([{ name: "dirty-loop", text: PROGRAM }], { base: BASE });
  const [section] = sections;
  if (section === undefined) throw new Error("the program is empty");
  return section.bytes;
}
