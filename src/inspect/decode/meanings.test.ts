// Descriptions of values, with the names of the processors' specifications.
import { describe, expect, it } from "vitest";
import { describeValue } from "./meanings.ts";

const text = (s: string): Uint8Array => new TextEncoder().encode(s);

describe("descriptions of plain values", () => {
  it.each<[field: string, type: string, value: bigint, words: string | undefined]>([
    ["env.priv", "uint64", 1n, "S"],
    ["env.mstatus", "uint64", 0xa000000a0n, "SPIE MPIE MPP=U VS=off FS=off"],
    ["env.mstatus", "uint64", (1n << 63n) | 0x6000n | 0x1800n, "SD MPP=M VS=off FS=dirty"],
    ["env.mie", "uint64", 0x22an, "SSIP MSIP STIP SEIP"],
    ["env.scause", "uint64", 0x8000000000000005n, "interrupt STIP"],
    ["env.scause", "uint64", 13n, "load page fault"],
    ["env.satp", "uint64", 0xa002700000083195n, "Sv57, ASID 39, root 0x83195000"],
    ["env.satp", "uint64", 0n, "bare"],
    ["env.misa_ext", "uint32", 0x14112dn, "ACDFIMSU"],
    ["env.cr[0]", "uint64", 0x80050033n, "PE MP ET NE WP AM PG"],
    ["env.cr[4]", "uint64", 0x20n, "PAE"],
    ["env.cr[3]", "uint64", 0x1000n, undefined],
    ["env.efer", "uint64", 0xd01n, "SCE LME LMA NXE"],
    ["env.eflags", "uint64", 0x246n, "PF ZF IF"],
    ["ioredtbl[2]", "uint64", 0x18030n, "vector 0x30, level, masked"],
    ["lvt[4]", "uint32", 0x8400n, "vector 0x0, NMI, level"],
    ["apicbase", "uint32", 0xfee00900n, "boot processor enabled"],
    ["halted", "uint32", 0n, undefined],
    ["halted", "uint32", 1n, "waits for an interrupt"],
    ["lcr", "uint8", 0x83n, "8 bits, divisor shown"],
    ["lsr", "uint8", 0x60n, "THRE TEMT"],
    ["cpsr", "cpsr", 0x800003c5n, "EL1h F I A D N"],
    ["cpsr", "cpsr", 0x1d3n, "SVC F I A"],
    ["env.psw.mask", "uint64", 0x0002000180000000n, "64-bit 31-bit wait"],
    ["cpreg_vmstate_indexes[4]", "uint64", 0x603000000013c080n, "SCTLR_EL1"],
    ["cpreg_vmstate_indexes[5]", "uint64", 0x6030000000138024n, "DBGBVR4_EL1"],
    ["cpreg_vmstate_indexes[6]", "uint64", 0x603000000013fe00n, "S3_7_C12_C0_0"],
    ["cpreg_vmstate_indexes[7]", "uint64", 0x40200000000f6801n, "p15, opc1 0, c13, c0, opc2 1"],
    ["anything", "timer", 0xffffffffffffffffn, "not armed"],
    ["anything", "timer", 1_500_000_000n, "1.500000000 s"],
    ["base_rtc", "uint64", 0x6b0045c8n, "2026-11-20T13:06:16.000Z"],
    ["cpu_clock_offset", "int64", -1n, "-0.000000001 s"],
    ["config_reg", "uint32", 0x8000ff00n, "00:1f.7 register 0x00"],
    ["interrupt_request", "uint32", 2n, "hard"],
    ["constructor", "uint32", 2n, undefined],
  ])("%s (%s) %d", (field, type, value, words) => {
    expect(describeValue(field, type, value)).toBe(words);
  });

  it("text in buffers, up to its zero, where it is text", () => {
    expect(describeValue("runstate", "buffer", text("paused\0\0\0"))).toBe("paused");
    expect(describeValue("runstate", "buffer", new Uint8Array([1, 2]))).toBeUndefined();
    expect(describeValue("palette", "buffer", text("paused"))).toBeUndefined();
  });
});
