// ISA extensions by their names in device trees. Each has KVM's id (KVM_RISCV_ISA_EXT_*, Linux
// arch/riscv/include/uapi/asm/kvm.h); a single letter is a bit of misa too (privileged specification, 3.1.1).
import { bit } from "./bits.ts";

interface Extension {
  /** Index of its ONE_REG register of type ISA_EXT. */
  readonly isaExt: number;
}

/** The extensions of a hart here, in the order of ISA strings. */
export const EXTENSIONS = {
  i: { isaExt: 5 },
  m: { isaExt: 6 },
  a: { isaExt: 0 },
  f: { isaExt: 3 },
  d: { isaExt: 2 },
  c: { isaExt: 1 },
  zicbom: { isaExt: 11 },
  zicboz: { isaExt: 12 },
  zicntr: { isaExt: 19 },
  zicond: { isaExt: 24 },
  zicsr: { isaExt: 20 },
  zifencei: { isaExt: 21 },
  zihintpause: { isaExt: 10 },
  zihpm: { isaExt: 22 },
  zawrs: { isaExt: 61 },
  zfa: { isaExt: 51 },
  zfh: { isaExt: 46 },
  zfhmin: { isaExt: 47 },
  zba: { isaExt: 17 },
  zbb: { isaExt: 13 },
  zbc: { isaExt: 25 },
  zbs: { isaExt: 18 },
  sstc: { isaExt: 8 },
  /** With Svadu: A and D bits are not updated at boot, and a supervisor turns that on by SBI's FWFT. */
  svade: { isaExt: 64 },
  svadu: { isaExt: 65 },
} as const satisfies Readonly<Record<string, Extension>>;

/** Size of the block of Zicbom's and Zicboz's instructions, in bytes. */
export const CACHE_BLOCK_SIZE = 64;

/** The order and spelling of ISA strings. */
export const EXTENSION_NAMES: readonly string[] = Object.keys(EXTENSIONS);

/** The bits of misa for these letters. */
export const misaLetters = (letters: string): bigint =>
  [...letters].reduce((misa, letter) => misa | bit(letter.toUpperCase().charCodeAt(0) - 65), 0n);

/** misa's bits of the single letters. */
export const LETTERS = misaLetters(EXTENSION_NAMES.filter((name) => name.length === 1).join(""));
/**
 * misa's extensions, with the modes S and U, which have letters there but are not extensions in a device
 * tree.
 */
export const MISA_EXTENSIONS = LETTERS | misaLetters("SU");
/** misa.MXL: 64 bits. */
export const MXL_64 = 2;
export const MISA = (BigInt(MXL_64) << 62n) | MISA_EXTENSIONS;

/** The letters of misa's low bits, in alphabetical order. */
export const misaWords = (misa: bigint): string =>
  [..."ABCDEFGHIJKLMNOPQRSTUVWXYZ"].filter((_, i) => (misa & bit(i)) !== 0n).join("");
