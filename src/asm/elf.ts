// A static RV64 Linux executable of an assembled program (ELF-64, System V ABI; RISC-V psABI): one PT_LOAD
// segment for each section, code read-only and executable, the others read-write. No symbols.
import type { Assembled } from "./assembler.ts";

const EHDR_SIZE = 64;
const PHDR_SIZE = 56;
const PAGE = 4096;
const EM_RISCV = 243;
const EF_RISCV_RVC = 1;
const EF_RISCV_FLOAT_ABI_DOUBLE = 4;

/**
 * The bytes of the file. Sections must be assembled with `sectionAlign` ≥ 4096. `entry` is a symbol's name.
 */
export function staticElf(program: Assembled, entry = "_start"): Uint8Array<ArrayBuffer> {
  const start = program.symbols.get(entry);
  if (start === undefined) throw new Error(`program has no symbol '${entry}'`);
  const segments = program.sections.filter((section) => section.size > 0);
  let fileOffset = PAGE;
  const placed = segments.map((section) => {
    const at = fileOffset;
    fileOffset += Math.ceil(section.bytes.length / PAGE) * PAGE;
    return { section, at };
  });
  const file = new Uint8Array(fileOffset);
  const view = new DataView(file.buffer);
  file.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setUint16(16, 2, true);
  view.setUint16(18, EM_RISCV, true);
  view.setUint32(20, 1, true);
  view.setBigUint64(24, start, true);
  view.setBigUint64(32, BigInt(EHDR_SIZE), true);
  view.setUint32(48, EF_RISCV_RVC | EF_RISCV_FLOAT_ABI_DOUBLE, true);
  view.setUint16(52, EHDR_SIZE, true);
  view.setUint16(54, PHDR_SIZE, true);
  view.setUint16(56, placed.length, true);
  view.setUint16(58, 64, true);
  for (const [n, { section, at }] of placed.entries()) {
    const header = EHDR_SIZE + n * PHDR_SIZE;
    view.setUint32(header, 1, true);
    view.setUint32(header + 4, section.name.startsWith(".text") ? 5 : 6, true);
    view.setBigUint64(header + 8, BigInt(at), true);
    view.setBigUint64(header + 16, section.address, true);
    view.setBigUint64(header + 24, section.address, true);
    view.setBigUint64(header + 32, BigInt(section.bytes.length), true);
    view.setBigUint64(header + 40, BigInt(section.size), true);
    view.setBigUint64(header + 48, BigInt(PAGE), true);
    file.set(section.bytes, at);
  }
  return file;
}
