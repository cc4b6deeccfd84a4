import { expect, test } from "vitest";
import {
  CONFIG_REGS,
  CSR_SUBTYPE,
  decodeOneReg,
  oneReg,
  oneRegOf,
  REG_TYPE,
  SBI_EXT_ID,
} from "./one-reg-ids.ts";
import { EXTENSIONS } from "../riscv/extensions.ts";

// Constants as Linux defines them (arch/riscv/include/uapi/asm/kvm.h;
// tools/testing/selftests/kvm/riscv/get-reg-list.c).
test.each([
  ["core.regs.pc", 0x8030000002000000n, oneRegOf("pc")],
  ["core.regs.t6", 0x803000000200001fn, oneRegOf("x", 31)],
  ["core.mode", 0x8030000002000020n, oneReg(REG_TYPE.CORE, 32)],
  ["csr.sstatus", 0x8030000003000000n, oneRegOf("sstatus")],
  ["csr.satp", 0x8030000003000008n, oneRegOf("satp")],
  ["csr.senvcfg", 0x803000000300000an, oneRegOf("senvcfg")],
  ["csr.smstateen.sstateen0", 0x8030000003020000n, oneReg(REG_TYPE.CSR, 0, CSR_SUBTYPE.SMSTATEEN)],
  ["config.satp_mode", 0x8030000001000006n, oneReg(REG_TYPE.CONFIG, CONFIG_REGS.indexOf("satpMode"))],
  ["timer.time", 0x8030000004000001n, oneRegOf("timerTime")],
  ["timer.compare", 0x8030000004000002n, oneRegOf("stimecmp")],
  ["fp_d.f[0]", 0x8030000006000000n, oneRegOf("f", 0)],
  ["fp_d.fcsr", 0x8020000006000020n, oneRegOf("fcsr")],
  ["isa_ext.sstc", 0x8030000007000008n, oneReg(REG_TYPE.ISA_EXT, EXTENSIONS.sstc.isaExt)],
  ["isa_ext.zihintpause", 0x803000000700000an, oneReg(REG_TYPE.ISA_EXT, EXTENSIONS.zihintpause.isaExt)],
  ["sbi_ext.hsm", 0x8030000008000005n, oneReg(REG_TYPE.SBI_EXT, SBI_EXT_ID.HSM)],
  ["sbi_ext.dbcn", 0x8030000008000009n, oneReg(REG_TYPE.SBI_EXT, SBI_EXT_ID.DBCN)],
  ["sbi_state.sta.shmem_lo", 0x803000000a000000n, oneRegOf("stealTimeShmem")],
])("%s has the kernel's id", (_name, id, ours) => {
  expect(ours).toBe(id);
});

test("decodeOneReg returns the parts that oneReg was given", () => {
  expect(decodeOneReg(oneReg(3, 0x300, 0x7f))).toEqual({ type: 3, subtype: 0x7f, index: 0x300, size: 64 });
  expect(decodeOneReg(oneReg(6, 32, 0, 32))).toEqual({ type: 6, subtype: 0, index: 32, size: 32 });
});

test.each([
  ["another architecture", 0x6030000000100000n],
  ["8 bits", 0x8000000002000000n],
  ["128 bits", 0x8040000002000000n],
  ["reserved bits set", 0x8030000102000000n],
  ["reserved bits in the size set", 0x8030800002000000n],
])("an id with %s is rejected", (_what, id) => {
  expect(decodeOneReg(id)).toBeUndefined();
});
