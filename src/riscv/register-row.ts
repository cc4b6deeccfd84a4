// What a row of the register table says (registers.ts), and the words that rows are written in.
import type { Field } from "../state/field.ts";

/**
 * A register of KVM_GET/SET_ONE_REG: its type, and its index there (of the first element, if the row has
 * several).
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
/** Run state that KVM has no register for. */
export const wherry = placeOf("WHERRY");
/** Machine mode's CSRs, which KVM's guests do not have: the index is the CSR number. */
export const RAW = "RAW";

export interface Register {
  /** CSR number, of the first if the row has several. */
  readonly csr?: number;
  /**
   * Of several CSRs in a row: how many, the number in the first one's name (0), CSR numbers from one to the
   * next (1).
   */
  readonly count?: number;
  readonly first?: number;
  readonly step?: number;
  /** Bits of the CSR that software may change. Without it, and without behaviour, writes change nothing. */
  readonly writable?: bigint;
  /** What a CSR without state reads as. */
  readonly constant?: bigint;
  /** Its field of the hart's state, and its value after a reset (`init`; else 0). */
  readonly field?: Field<number> | Field<bigint> | Field<Uint8Array> | Field<BigUint64Array>;
  readonly oneReg?: OneRegPlace | typeof RAW;
  /** Elements that there is no register for: x0. */
  readonly skip?: number;
  /**
   * It came after the first streams: there it is the subsection `cpu/NAME`, if it is not 0. 0 must be what a
   * stream without it means.
   */
  readonly apart?: true;
  /** A field of the VMM's copy alone: the hart keeps it elsewhere, or in other fields. */
  readonly copyField?: Field<number> | Field<bigint>;
  /** Its name in the VMM's copy. Default: the row's. */
  readonly copyName?: string;
  /**
   * When the VMM writes its copy back. At RUNTIME by default, which is before each entry; at RESET, which is
   * after a reset and after a load, what the interrupt controllers, the timer or the firmware change while
   * others run.
   */
  readonly level?: "RESET";
  /**
   * What it is called in the `cpu` sections of QEMU's releases, after `env.`; without it they have it in
   * another shape.
   */
  readonly qemu?: string;
  /** Its value in words; undefined: the number says it all. */
  readonly words?: (value: bigint) => string | undefined;
}
