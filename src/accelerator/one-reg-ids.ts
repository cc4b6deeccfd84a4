// ONE_REG ids in the layout of RISC-V KVM (Linux arch/riscv/include/uapi/asm/kvm.h): the register ABI that
// the two halves share. id = arch | size | type | subtype | index. Wherry's own additions use subtype 0x7f of
// CSR (raw CSR numbers: machine mode, which KVM's guests do not have) and type 0x7f (run state for which KVM
// has no register).
import { RAW, type Register } from "../riscv/register-row.ts";
import { lengthOf, registerEntries, type RegisterName } from "../riscv/registers.ts";

const KVM_REG_RISCV = 0x8000000000000000n;
const KVM_REG_SIZE_U32 = 0x0020000000000000n;
const KVM_REG_SIZE_U64 = 0x0030000000000000n;
/** Bits above type, subtype and index that are neither architecture nor size. */
const UNUSED_BITS = 0x000fffff00000000n;

export const REG_TYPE = {
  CONFIG: 0x01,
  CORE: 0x02,
  CSR: 0x03,
  TIMER: 0x04,
  FP_F: 0x05,
  FP_D: 0x06,
  ISA_EXT: 0x07,
  SBI_EXT: 0x08,
  VECTOR: 0x09,
  SBI_STATE: 0x0a,
  WHERRY: 0x7f,
} as const;

export const CSR_SUBTYPE = { GENERAL: 0, AIA: 1, SMSTATEEN: 2, WHERRY_RAW: 0x7f } as const;

/** Index order of struct kvm_riscv_config. */
export const CONFIG_REGS = [
  "isa",
  "zicbomBlockSize",
  "mvendorid",
  "marchid",
  "mimpid",
  "zicbozBlockSize",
  "satpMode",
] as const;

/** Index order of struct kvm_riscv_timer. */
export const TIMER_REGS = ["frequency", "time", "compare", "state"] as const;
export const TIMER_STATE_OFF = 0n;
export const TIMER_STATE_ON = 1n;

/** enum KVM_RISCV_SBI_EXT_ID. */
export const SBI_EXT_ID = {
  V01: 0,
  TIME: 1,
  IPI: 2,
  RFENCE: 3,
  SRST: 4,
  HSM: 5,
  PMU: 6,
  EXPERIMENTAL: 7,
  VENDOR: 8,
  DBCN: 9,
  STA: 10,
  SUSP: 11,
  FWFT: 12,
} as const;

/** Builds an id. `index` and `subtype` are small integers; size in bits. */
export function oneReg(type: number, index: number, subtype = 0, size: 32 | 64 = 64): bigint {
  const sizeBits = size === 64 ? KVM_REG_SIZE_U64 : KVM_REG_SIZE_U32;
  return KVM_REG_RISCV | sizeBits | (BigInt(type) << 24n) | (BigInt(subtype) << 16n) | BigInt(index);
}

const TYPE_OF = {
  CORE: [REG_TYPE.CORE, 0],
  CSR: [REG_TYPE.CSR, CSR_SUBTYPE.GENERAL],
  FP_D: [REG_TYPE.FP_D, 0],
  TIMER: [REG_TYPE.TIMER, 0],
  SBI_STATE: [REG_TYPE.SBI_STATE, 0],
  WHERRY: [REG_TYPE.WHERRY, 0],
} as const;

/** A register: its row of the register table, and the position in the row. */
export interface OneRegRow {
  readonly id: bigint;
  readonly register: RegisterName;
  /** undefined if the row is a single register. */
  readonly element: number | undefined;
}

function rowsOf(register: RegisterName, row: Register): OneRegRow[] {
  const { oneReg: place, csr = 0, skip = 0 } = row;
  if (place === undefined) return [];
  const id = (i: number): bigint => {
    if (place === RAW) return oneReg(REG_TYPE.CSR, csr + i, CSR_SUBTYPE.WHERRY_RAW);
    const [type, subtype] = TYPE_OF[place.type];
    return oneReg(type, place.index + i, subtype, place.size);
  };
  const length = lengthOf(row);
  if (length === undefined) return [{ id: id(0), register, element: undefined }];
  return Array.from({ length: length - skip }, (_, i) => {
    return { id: id(i + skip), register, element: i + skip };
  });
}

/** Every register of the table that ONE_REG can access, in the table's order. */
export const ONE_REG_ROWS: readonly OneRegRow[] = registerEntries.flatMap(([name, row]) => rowsOf(name, row));

/** Id of a register of the table. */
export function oneRegOf(register: RegisterName, element?: number): bigint {
  const row = ONE_REG_ROWS.find((r) => r.register === register && r.element === element);
  if (row === undefined) throw new RangeError(`ONE_REG has no register ${register}`);
  return row.id;
}

export interface DecodedReg {
  readonly type: number;
  readonly subtype: number;
  readonly index: number;
  readonly size: 32 | 64;
}

/** Splits an id; undefined if it is not a RISC-V register of 32 or 64 bits. */
export function decodeOneReg(id: bigint): DecodedReg | undefined {
  if ((id & 0xff00000000000000n) !== KVM_REG_RISCV || (id & UNUSED_BITS) !== 0n) return undefined;
  const sizeBits = id & 0x00f0000000000000n;
  if (sizeBits !== KVM_REG_SIZE_U64 && sizeBits !== KVM_REG_SIZE_U32) return undefined;
  const low = Number(id & 0xffffffffn);
  return {
    type: (low >>> 24) & 0xff,
    subtype: (low >>> 16) & 0xff,
    index: low & 0xffff,
    size: sizeBits === KVM_REG_SIZE_U64 ? 64 : 32,
  };
}
