// Names of Arm's system registers from the numbers by which QEMU's streams list them: those of the KVM API (a
// register's size and coprocessor, then its encoding; Linux, Documentation/virt/kvm/api.rst, 4.68). Names of
// the encodings: Arm ARM, chapter D17; only those that Linux guests set. Others are written as an assembler
// takes them, S3_0_C1_C0_1.

import { table } from "./field-layout.ts";

const NAMES = table({
  "3_0_0_0_5": "MPIDR_EL1",
  "3_0_0_4_0": "ID_AA64PFR0_EL1",
  "3_0_0_4_1": "ID_AA64PFR1_EL1",
  "3_0_0_5_0": "ID_AA64DFR0_EL1",
  "3_0_0_6_0": "ID_AA64ISAR0_EL1",
  "3_0_0_6_1": "ID_AA64ISAR1_EL1",
  "3_0_0_6_2": "ID_AA64ISAR2_EL1",
  "3_0_0_7_0": "ID_AA64MMFR0_EL1",
  "3_0_0_7_1": "ID_AA64MMFR1_EL1",
  "3_0_0_7_2": "ID_AA64MMFR2_EL1",
  "3_0_2_1_0": "APIAKeyLo_EL1",
  "3_0_2_1_1": "APIAKeyHi_EL1",
  "3_0_2_1_2": "APIBKeyLo_EL1",
  "3_0_2_1_3": "APIBKeyHi_EL1",
  "3_0_2_2_0": "APDAKeyLo_EL1",
  "3_0_2_2_1": "APDAKeyHi_EL1",
  "3_0_2_2_2": "APDBKeyLo_EL1",
  "3_0_2_2_3": "APDBKeyHi_EL1",
  "3_0_2_3_0": "APGAKeyLo_EL1",
  "3_0_2_3_1": "APGAKeyHi_EL1",
  "3_0_1_0_0": "SCTLR_EL1",
  "3_0_1_0_1": "ACTLR_EL1",
  "3_0_1_0_2": "CPACR_EL1",
  "3_0_2_0_0": "TTBR0_EL1",
  "3_0_2_0_1": "TTBR1_EL1",
  "3_0_2_0_2": "TCR_EL1",
  "3_0_4_0_0": "SPSR_EL1",
  "3_0_4_0_1": "ELR_EL1",
  "3_0_4_1_0": "SP_EL0",
  "3_0_5_1_0": "AFSR0_EL1",
  "3_0_5_1_1": "AFSR1_EL1",
  "3_0_5_2_0": "ESR_EL1",
  "3_0_6_0_0": "FAR_EL1",
  "3_0_7_4_0": "PAR_EL1",
  "3_0_10_2_0": "MAIR_EL1",
  "3_0_10_3_0": "AMAIR_EL1",
  "3_0_12_0_0": "VBAR_EL1",
  "3_0_13_0_1": "CONTEXTIDR_EL1",
  "3_0_13_0_4": "TPIDR_EL1",
  "3_0_14_1_0": "CNTKCTL_EL1",
  "2_0_0_2_2": "MDSCR_EL1",
  "2_0_1_0_4": "OSLAR_EL1",
  "2_0_1_1_4": "OSLSR_EL1",
  "2_0_1_3_4": "OSDLR_EL1",
  "3_2_0_0_0": "CSSELR_EL1",
  "3_3_9_12_0": "PMCR_EL0",
  "3_3_9_12_1": "PMCNTENSET_EL0",
  "3_3_9_12_3": "PMOVSCLR_EL0",
  "3_3_9_12_5": "PMSELR_EL0",
  "3_3_9_13_0": "PMCCNTR_EL0",
  "3_3_9_14_0": "PMUSERENR_EL0",
  "3_0_9_14_1": "PMINTENSET_EL1",
  "3_3_14_15_7": "PMCCFILTR_EL0",
  "3_3_13_0_2": "TPIDR_EL0",
  "3_3_13_0_3": "TPIDRRO_EL0",
  "3_3_14_0_0": "CNTFRQ_EL0",
  "3_3_14_2_1": "CNTP_CTL_EL0",
  "3_3_14_2_2": "CNTP_CVAL_EL0",
  "3_3_14_3_1": "CNTV_CTL_EL0",
  "3_3_14_3_2": "CNTV_CVAL_EL0",
  "3_4_1_0_0": "SCTLR_EL2",
  "3_4_1_1_0": "HCR_EL2",
  "3_4_1_1_1": "MDCR_EL2",
  "3_4_1_1_2": "CPTR_EL2",
  "3_4_2_0_0": "TTBR0_EL2",
  "3_4_2_0_2": "TCR_EL2",
  "3_4_2_1_0": "VTTBR_EL2",
  "3_4_2_1_2": "VTCR_EL2",
  "3_4_4_0_0": "SPSR_EL2",
  "3_4_4_0_1": "ELR_EL2",
  "3_4_5_2_0": "ESR_EL2",
  "3_4_6_0_0": "FAR_EL2",
  "3_4_12_0_0": "VBAR_EL2",
  "3_4_14_0_3": "CNTVOFF_EL2",
});

const DEBUG_FAMILIES = table({ 4: "DBGBVR", 5: "DBGBCR", 6: "DBGWVR", 7: "DBGWCR" });

/** Registers of which there are several: breakpoints and watchpoints, event counters. */
function numbered([op0, op1, crn, crm = 0, op2 = 0]: readonly number[]): string | undefined {
  if (op0 === 2 && op1 === 0 && crn === 0) {
    const name = DEBUG_FAMILIES.get(String(op2));
    return name && `${name}${crm}_EL1`;
  }
  if (op0 !== 3 || op1 !== 3 || crn !== 14 || crm < 8) return undefined;
  return `${crm < 12 ? "PMEVCNTR" : "PMEVTYPER"}${(crm % 4) * 8 + op2}_EL0`;
}

const ARM = 0x4n;
const ARM64 = 0x6n;
const SYSTEM = 0x13n;

/** `index` as the KVM API numbers it; undefined if it is not of a system register or coprocessor. */
export function sysregName(index: bigint): string | undefined {
  const part = (at: number, width: number): number =>
    Number((index >> BigInt(at)) & ((1n << BigInt(width)) - 1n));
  const coprocessor = (index >> 16n) & 0xfffn;
  if (index >> 60n === ARM64 && coprocessor === SYSTEM) {
    const parts = [part(14, 2), part(11, 3), part(7, 4), part(3, 4), part(0, 3)];
    const [op0, op1, crn, crm, op2] = parts;
    return NAMES.get(parts.join("_")) ?? numbered(parts) ?? `S${op0}_${op1}_C${crn}_C${crm}_${op2}`;
  }
  if (index >> 60n !== ARM) return undefined;
  const wide = part(52, 4) === 3;
  if (wide) return `p${coprocessor & 0xfn}, opc1 ${part(3, 4)}, c${part(7, 4)}`;
  return `p${coprocessor & 0xfn}, opc1 ${part(3, 4)}, c${part(11, 4)}, c${part(7, 4)}, opc2 ${part(0, 3)}`;
}
