// QEMU's messages about RAM: blocks, their sizes and addresses, and pages.
import { type ComplaintTable, type Explanation, INSPECT, type Words } from "./complaint-formats.ts";
import { blockOption } from "./device-options.ts";

export const RAM: ComplaintTable = {
  "complaint.length-mismatch": {
    says: [
      "Length mismatch: {block:w}: 0x{found:x} in != 0x{wanted:x}",
      "Length mismatch: {block:w}: 0x{found:x} != 0x{wanted:x}",
      "Size mismatch: {block:w}: 0x{found:x} != 0x{wanted:x}",
    ],
    where: "ram block {block}",
    expected: "0x{wanted} bytes",
    found: "0x{found} bytes",
    cause: "the two machines have different amounts of this memory",
    cure: "give the target the same -m, firmware and flash images, or video memory (vgamem_mb, vram_size_mb, ram_size_mb, xres and yres), according to the block's name",
    explain: lengthCause,
  },
  "complaint.size-too-large": {
    says: "Size too large: {block:w}: 0x{found:x} > 0x{wanted:x}",
    where: "ram block {block}",
    expected: "at most 0x{wanted} bytes",
    found: "0x{found} bytes",
    cause: "tables or firmware made for the source's devices are larger than the target's limit",
    cure: "use the source's machine type, firmware and devices on the target",
  },
  "complaint.block-length": {
    says: "Block {block:w} has a different length {found:d}vs {wanted:d}",
    where: "ram block {block}",
    expected: "{wanted} bytes",
    found: "{found} bytes",
    cause: "the two machines have different amounts of this memory (RDMA compares it first)",
    cure: "give both sides the same -m, firmware and video memory, according to the block's name",
  },
  "complaint.unknown-ramblock": {
    says: [
      'Unknown ramblock "{block}", cannot accept migration',
      'Unknown ramblock "{block}"',
      "RAMBlock '{block}' not found on destination",
      "multifd: unknown ram block {block:w}",
    ],
    where: "ram block {block}",
    expected: "a RAM block that the target has",
    found: "'{block}'",
    cause:
      "a device or firmware with memory of its own that the target lacks, another board, or a memory backend of another name",
    cure: "give the target the same devices, firmware and memory backends (their id= is the block's name)",
    explain: ({ block = "" }) => unknownBlock(block),
  },
  "complaint.ram-blocks": {
    says: "ram blocks mismatch (Number of blocks {found:d} vs {wanted:d})",
    where: "RAM",
    expected: "{wanted} RAM blocks",
    found: "{found}",
    cause: "the two machines have different devices or memory (RDMA compares the number of RAM blocks)",
    cure: "start both sides with the same options",
  },
  "complaint.block-address": {
    says: "Mismatched GPAs for block {block:w} {found:d}!= {wanted:d}",
    where: "ram block {block}",
    expected: "the block at address {wanted}",
    found: "{found}",
    cause: "with x-ignore-shared, memory must be at the same guest-physical address on both sides",
    cure: "start both sides with the same options, in the same order (-m, dimms with addr=)",
  },
  "complaint.page-size": {
    says: [
      "Mismatched RAM page size {block:w}",
      "Postcopy needs matching RAM page sizes (s={found:x} d={wanted:x})",
      "Postcopy needs matching target page sizes (s={found:d} d={wanted:d})",
    ],
    where: "RAM",
    expected: "memory with pages of the same size on both hosts",
    found: "another size",
    cause: "postcopy needs the same kind of memory: huge pages, or a host with other pages, on one side only",
    cure: "use the same memory backend (and hosts of the same page size) on both sides, or migrate without postcopy-ram",
    explain: ({ block, found, wanted }) =>
      block !== undefined
        ? { where: `ram block ${block}` }
        : { expected: `pages of ${wanted} bytes`, found: `pages of ${found} bytes` },
  },
  "complaint.ram-flags": {
    says: [
      "Unknown combination of migration flags: 0x{flags:x}",
      "Unknown combination of migration flags: {flags:x}",
      "Unknown block migration flags: 0x{flags:x}",
    ],
    where: "RAM",
    expected: "a kind of page record that the target knows",
    found: "flags 0x{flags}",
    cause:
      "the RAM section was read past or short of a record's end, is damaged or cut, or uses a capability that is off at the target (multifd, mapped-ram, xbzrle, compress)",
    cure: `set the same capabilities on both sides; ${INSPECT}`,
  },
  "complaint.ram-offset": {
    says: [
      "Illegal RAM offset {offset:x}",
      "page outside of ramblock {block:w} range",
      "multifd: offset too long {offset:d} (max {max:x})",
      "RAM section out of device range",
      "Ack, bad migration stream",
    ],
    where: "RAM",
    expected: "pages within the target's RAM blocks",
    found: "offset {offset}",
    cause:
      "a page lies behind its block's end: the block is smaller on the target, was resized while it moved, or the stream is damaged",
    cure: `give both sides the same sizes of memory; ${INSPECT}`,
    explain: ({ block, offset }) => ({
      ...(block === undefined ? {} : { where: `ram block ${block}` }),
      ...(offset === undefined ? { found: "a page behind the end" } : {}),
    }),
  },
  "complaint.ram-resized": {
    says: [
      "RAM block '{block}' resized during precopy",
      "RAM block '{block}' resized during postcopy state",
      "RAM block '{block}' discard of resized RAM failed",
    ],
    where: "ram block {block}",
    expected: "memory of one size while the machine moves",
    found: "it was resized",
    cause:
      "the guest rebooted, or its firmware loaded tables, while it was being migrated: QEMU then gives this memory its new size, and cannot go on with the migration",
    cure: "migrate again; the guest goes on running on the source",
  },
  "complaint.xbzrle": {
    says: [
      "XBZRLE page decompression failed",
      "Failed to decompress XBZRLE page at {offset:x}",
      "Failed to load XBZRLE page",
      "Failed to load XBZRLE page - decode error!",
    ],
    where: "RAM",
    expected: "an XBZRLE record that applies to the page before it",
    found: "one that does not",
    cause: "the stream is damaged, or the page before it is not the one that the source encoded against",
    cure: "migrate again; if it fails again, turn xbzrle off (migrate-set-capabilities): multifd with zstd compresses too",
  },
  "complaint.ram-compressed": {
    says: [
      "Failed to decompress",
      "decompress data failed",
      "Compressed page size too long",
      "Invalid len {}compressed",
    ],
    where: "RAM",
    expected: "compressed pages that can be unpacked",
    found: "others",
    cause: "the stream is damaged, or the sides have different compression",
    cure: `set the same compression on both sides; ${INSPECT}`,
    rank: "probable",
  },
  "complaint.mapped-ram": {
    says: [
      "Could not read whole mapped-ram migration header",
      "Migration mapped-ram header has invalid page_size {found:d} (expected {wanted:d})",
      "Migration mapped-ram capability version not supported",
      "Error reading ramblock {block:w} pages, region has bad alignment",
      "Error reading dirty bitmap",
    ],
    where: "RAM",
    expected: "a mapped-ram file as this QEMU writes it",
    found: "another",
    cause: "the file is cut or damaged, or was written for another page size or by a newer QEMU",
    cure: `use a whole copy of the file; ${INSPECT}`,
  },
};

function lengthCause({ block = "" }: Words): Explanation {
  if (block.endsWith(".rom")) {
    return {
      cause:
        "the option ROM's file has another size on the two hosts (another release of iPXE or SeaVGABIOS)",
      cure: "give the target's device a ROM of the source's size (romfile=…, romsize=… from QEMU 5.2 on) or none (romfile=)",
    };
  }
  if (/bios|flash|pc\.rom/.test(block)) {
    return {
      cause: "the firmware's file has another size on the two hosts",
      cure: "give the target the source's firmware and flash images (-bios, -drive if=pflash; OVMF of 2 MiB and of 4 MiB are different)",
    };
  }
  if (/vram|vgamem|qxl|vga/.test(block)) {
    return {
      cause: "the display has another amount of video memory",
      cure: "give the target's display the source's sizes (vgamem_mb; qxl: ram_size_mb, vram_size_mb, vram64_size_mb; libvirt: ram=, vram=, vgamem=)",
    };
  }
  if (/^(pc|mach-virt|ppc_spapr|s390|riscv)|\.ram$|dimm|mem/.test(block)) {
    return {
      cause: "the two machines have different amounts of this memory",
      cure: "give the target the source's -m and memory backends (size=), with memory that was hot-plugged",
    };
  }
  return {};
}

function unknownBlock(block: string): Explanation {
  if (block.startsWith("/rom@etc/")) {
    return {
      cause:
        "the source generates tables for its firmware that the target does not: ACPI is on at one side only, or the target is an older release (RISC-V: before 8.1)",
      cure: "start the source with -M …,acpi=off, or use a target with ACPI (-M …,acpi=on)",
    };
  }
  const option = blockOption(block);
  if (option === undefined) return {};
  return {
    cause:
      "the target has no memory of this name: the device that it belongs to is missing, or is at another address, or the backend has another id=",
    cure: `give the target ${option}; else the same devices, firmware and memory backends (their id= is the block's name)`,
  };
}
