// A value of satp for programs of tests and benches.
import { SATP } from "../../src/riscv/paging.ts";

/** `mode` is one of SATP_MODE, `root` the address of the root page table. */
export const satpOf = (mode: number, root: bigint | number, asid = 0): bigint =>
  (BigInt(mode) << BigInt(SATP.MODE)) | (BigInt(asid) << BigInt(SATP.ASID)) | (BigInt(root) >> 12n);
