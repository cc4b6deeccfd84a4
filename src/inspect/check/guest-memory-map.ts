// Maps guest-physical addresses to RAM blocks of a stream. Only streams with x-ignore-shared state addresses,
// so this file knows common boards: the address of their RAM and the split around the 32-bit hole. Facts are
// from QEMU's board files (hw/*/virt.c, hw/i386/pc_*.c, microvm.c, spapr.c, s390-virtio-ccw.c).
import type { RamBlockReport, StreamReport } from "../model/stream-report.ts";

interface Board {
  readonly machine: RegExp;
  /** Default name of the RAM block. */
  readonly block: string;
  readonly base: bigint;
  /** RAM of `least` bytes or more is split: `low` bytes at the base, the rest from 4 GiB on. */
  readonly split?: { readonly least: bigint; readonly low: bigint };
}

const GIB = 1n << 30n;
const BOARDS: readonly Board[] = [
  {
    machine: /^pc-q35-/,
    block: "pc.ram",
    base: 0n,
    split: { least: 0xb000_0000n, low: 2n * GIB },
  },
  {
    machine: /^pc-i440fx-/,
    block: "pc.ram",
    base: 0n,
    split: { least: 0xe000_0000n, low: 3n * GIB },
  },
  { machine: /^microvm$/, block: "microvm.ram", base: 0n, split: { least: 3n * GIB, low: 3n * GIB } },
  { machine: /^virt-\d/, block: "mach-virt.ram", base: GIB },
  { machine: /^virt$|^wherry/, block: "riscv_virt_board.ram", base: 2n * GIB },
  { machine: /^s390-ccw/, block: "s390.ram", base: 0n },
  { machine: /^pseries/, block: "ppc_spapr.ram", base: 0n },
];

export interface RamPlace {
  readonly block: string;
  /** Offset of the page in the block. */
  readonly page: number;
  /** Offset in the page. */
  readonly offset: number;
}

/** The machine's RAM: the block of that name, or the one that is larger than all others together. */
function mainBlock(blocks: readonly RamBlockReport[], name: string): RamBlockReport | undefined {
  const named = blocks.find((block) => block.name === name);
  if (named !== undefined) return named;
  const total = blocks.reduce((sum, { size }) => sum + size, 0);
  return blocks.find(({ size }) => size > total - size);
}

/** Maps addresses of RAM; undefined for an unknown board. */
export function guestMemory(report: StreamReport): ((address: bigint) => RamPlace | undefined) | undefined {
  const board = BOARDS.find(({ machine }) => machine.test(report.configuration?.machine ?? ""));
  const block = board === undefined ? undefined : mainBlock(report.ram, board.block);
  if (board === undefined || block === undefined) return undefined;
  const size = BigInt(block.size);
  const low = board.split !== undefined && size >= board.split.least ? board.split.low : size;
  const pageSize = BigInt(block.pageSize);
  const place = (offset: bigint): RamPlace => ({
    block: block.name,
    page: Number(offset - (offset % pageSize)),
    offset: Number(offset % pageSize),
  });
  return (address) => {
    const offset = address - (block.address ?? board.base);
    if (offset >= 0n && offset < low) return place(offset);
    const high = address - 4n * GIB;
    return high >= 0n && low + high < size ? place(low + high) : undefined;
  };
}
