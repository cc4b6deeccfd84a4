// The fields of a row of the register table (registers.ts), and helpers to write rows.
import type { Field } from "../state/field.ts";

/**
 * A register of KVM_GET/SET_ONE_REG: its type and its index (of the first element, if the row has several).
 */
export interface OneRegPlace {
  readonly type: "CORE" | "CSR" | "FP_D" | "TIMER" | "SBI_STATE" | "WHERRY";
  readonly index: number;
  /** 64 by default. */
  readonly size?: 32;
}

const placeOf =
  (type: OneRegPlace["type"]) =>
  (index: number): OneRegPlace => ({ type, index });
/**
 * Indexes in KVM's structs kvm_riscv_core, kvm_riscv_csr, __riscv_d_ext_state, kvm_riscv_timer,
 * kvm_riscv_sbi_sta.
 */
export const core = placeOf("CORE");
export const csr = placeOf("CSR");
export const fpD = placeOf("FP_D");
export const timer = placeOf("TIMER");
export const sta = placeOf("SBI_STATE");
/** Run state for which KVM has no register. */
export const wherry = placeOf("WHERRY");
/** Machine mode's CSRs, which KVM's guests do not have: the index is the CSR number. */
export const RAW = "RAW";

export interface Register {
  /** CSR number; of the first CSR if the row has several. */
  readonly csr?: number;
  /**
   * If the row has several CSRs: how many, the number in the first one's name (0), the step between their CSR
   * numbers (1).
   */
  readonly count?: number;
  readonly first?: number;
  readonly step?: number;
  /** Bits of the CSR that software may change. Without it, and without behaviour, writes change nothing. */
  readonly writable?: bigint;
  /** The value of a CSR without state. */
  readonly constant?: bigint;
  /** Its field of the hart's state, and its value after a reset (`init`; otherwise 0). */
  readonly field?: Field<number> | Field<bigint> | Field<Uint8Array> | Field<BigUint64Array>;
  readonly oneReg?: OneRegPlace | typeof RAW;
  /** Number of leading elements without a register: x0. */
  readonly skip?: number;
  /**
   * A field that was added after the first streams: it is stored in the subsection `cpu/NAME`, if it, or an
   * element, is not 0. A stream without the subsection must mean 0.
   */
  readonly subsection?: true;
  /** A field of the VMM's copy alone: the hart stores it elsewhere, or in other fields. */
  readonly copyField?: Field<number> | Field<bigint>;
  /** Its name in the VMM's copy. Default: the row's. */
  readonly copyName?: string;
  /**
   * When the VMM writes its copy back. RUNTIME, the default, is before each entry; RESET is after a reset and
   * after a load, for state that the interrupt controllers, the timer or the firmware change while other
   * harts run.
   */
  readonly level?: "RESET";
  /**
   * Its name in the `cpu` sections of QEMU's releases, after `env.`; absent if they have it in another form.
   */
  readonly qemu?: string;
  /** A description of its value; undefined if the number is sufficient. */
  readonly words?: (value: bigint) => string | undefined;
}
