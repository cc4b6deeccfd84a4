// KVM_GET/SET_ONE_REG for a RISC-V vCPU: the only way into and out of a hart's state. Ids are in
// src/accelerator/one-reg-ids.ts. The thread must be parked; the caller checks that.
import {
  CONFIG_REGS,
  CSR_GENERAL,
  CSR_SUBTYPE,
  type DecodedReg,
  decodeOneReg,
  ISA_EXT_ID,
  oneReg,
  REG_TYPE,
  SBI_EXT_ID,
  TIMER_REGS,
  TIMER_STATE_OFF,
  TIMER_STATE_ON,
  WHERRY_REG,
} from "../../accelerator/one-reg-ids.ts";
import { WherryError } from "../../base/errors.ts";
import { hex } from "../../base/hex.ts";
import { type GuestClock, TIMEBASE_HZ } from "../requests/guest-clock.ts";
import {
  CTL_HALTED,
  CTL_MP_STATE,
  SBI_STA_SHMEM,
  SBI_START_ADDRESS,
  SBI_START_ARGUMENT,
  SBI_STEAL_NS,
  SBI_SUSPEND_TYPE,
} from "../shared/memory-map.ts";
import { MP_STATE } from "../../accelerator/mp-state.ts";
import { checkRiscvMpState } from "./riscv-mp-state.ts";
import { REQ, type VcpuRequests } from "../requests/vcpu-requests.ts";
import { HartImage } from "../hart/hart-image.ts";
import { RAW_CSRS } from "../hart/raw-csrs.ts";

export class OneRegError extends WherryError {}

/** Fields of mstatus that S-mode sees (privileged specification §4.1.1, RV64, no vector state off). */
const SSTATUS_MASK = 0x80000003000de762n;
const S_INTERRUPTS = 0x222n;
const NEVER = 0xffffffffffffffffn;
const CACHE_BLOCK_SIZE = 64n;
const ISA_IMAFDC = 0x800000000014112dn;
const SATP_MODE_SV57 = 10n;
/** Index of fcsr among the D registers. */
const FCSR = 32;

/** A single-precision value in a double's register (unprivileged specification, D: NaN boxing). */
const NAN_BOX = 0xffffffff00000000n;

/** KVM: 1 enabled, 0 disabled. */
const ISA_EXT_PRESENT: readonly number[] = Object.entries(ISA_EXT_ID)
  .filter(([name]) => name !== "H" && name !== "V")
  .map(([, id]) => id);
const SBI_EXT_PRESENT: readonly number[] = [
  SBI_EXT_ID.V01,
  SBI_EXT_ID.TIME,
  SBI_EXT_ID.IPI,
  SBI_EXT_ID.RFENCE,
  SBI_EXT_ID.SRST,
  SBI_EXT_ID.HSM,
  SBI_EXT_ID.DBCN,
  SBI_EXT_ID.STA,
  SBI_EXT_ID.SUSP,
];

/** Each register has one size, and only CSRs have subtypes. */
function decode(id: bigint): DecodedReg | undefined {
  const reg = decodeOneReg(id);
  if (reg === undefined) return undefined;
  const { type, subtype, index, size } = reg;
  const narrow = type === REG_TYPE.FP_F || (type === REG_TYPE.FP_D && index === FCSR);
  const expected = narrow ? 32 : 64;
  return size === expected && (subtype === 0 || type === REG_TYPE.CSR) ? reg : undefined;
}

export class OneRegs {
  readonly #image: HartImage;
  readonly #vcpu: VcpuRequests;
  readonly #clock: GuestClock;

  /** The thread must be parked whenever a method is called. */
  constructor(buffer: SharedArrayBuffer, hart: number, vcpu: VcpuRequests, clock: GuestClock) {
    this.#image = new HartImage(buffer, hart);
    this.#vcpu = vcpu;
    this.#clock = clock;
  }

  /** Throws OneRegError for an id that this vCPU does not have. */
  get(id: bigint): bigint {
    const reg = decode(id);
    const value = reg === undefined ? undefined : this.#get(reg);
    if (value === undefined) throw this.#unknown(id);
    return value;
  }

  /** Throws OneRegError for an unknown id, or a configuration register set to another value than it has. */
  set(id: bigint, value: bigint): void {
    const reg = decode(id);
    if (reg === undefined || !this.#set(reg, value)) throw this.#unknown(id);
  }

  #unknown(id: bigint): OneRegError {
    return new OneRegError(
      "one-reg.unknown",
      `register ${hex(id)}: this vCPU has no such register (see regList)`,
    );
  }

  list(): bigint[] {
    const ids: bigint[] = [];
    const range = (type: number, n: number, subtype = 0): void => {
      for (let i = 0; i < n; i++) ids.push(oneReg(type, i, subtype));
    };
    range(REG_TYPE.CONFIG, CONFIG_REGS.length);
    range(REG_TYPE.CORE, 33);
    range(REG_TYPE.CSR, CSR_GENERAL.length, CSR_SUBTYPE.GENERAL);
    for (const csr of RAW_CSRS.keys()) ids.push(oneReg(REG_TYPE.CSR, csr, CSR_SUBTYPE.WHERRY_RAW));
    range(REG_TYPE.TIMER, TIMER_REGS.length);
    for (let i = 0; i <= FCSR; i++) ids.push(oneReg(REG_TYPE.FP_F, i, 0, 32));
    range(REG_TYPE.FP_D, 32);
    ids.push(oneReg(REG_TYPE.FP_D, FCSR, 0, 32));
    for (const e of ISA_EXT_PRESENT) ids.push(oneReg(REG_TYPE.ISA_EXT, e));
    for (const e of SBI_EXT_PRESENT) ids.push(oneReg(REG_TYPE.SBI_EXT, e));
    range(REG_TYPE.SBI_STATE, 2);
    range(REG_TYPE.WHERRY, Object.keys(WHERRY_REG).length);
    return ids;
  }

  #csr(name: (typeof CSR_GENERAL)[number]): bigint {
    const image = this.#image;
    switch (name) {
      case "sstatus":
        return image.get("mstatus") & SSTATUS_MASK;
      case "sie":
        return image.get("mie") & image.get("mideleg");
      case "sip":
        return image.get("mip") & image.get("mideleg");
      default:
        return image.get(name);
    }
  }

  #setCsr(name: (typeof CSR_GENERAL)[number], value: bigint): void {
    const image = this.#image;
    const merge = (field: "mstatus" | "mie" | "mip", mask: bigint): void => {
      image.set(field, (image.get(field) & ~mask) | (value & mask));
    };
    switch (name) {
      case "sstatus":
        return merge("mstatus", SSTATUS_MASK);
      case "sie":
        return merge("mie", S_INTERRUPTS & image.get("mideleg"));
      case "sip":
        return merge("mip", S_INTERRUPTS & image.get("mideleg"));
      default:
        return image.set(name, value);
    }
  }

  #config(index: number): bigint | undefined {
    switch (CONFIG_REGS[index]) {
      case "isa":
        return ISA_IMAFDC;
      case "zicbomBlockSize":
      case "zicbozBlockSize":
        return CACHE_BLOCK_SIZE;
      case "mvendorid":
      case "marchid":
      case "mimpid":
        return 0n;
      case "satpMode":
        return SATP_MODE_SV57;
      default:
        return undefined;
    }
  }

  #get({ type, subtype, index }: DecodedReg): bigint | undefined {
    const image = this.#image;
    switch (type) {
      case REG_TYPE.CONFIG:
        return this.#config(index);
      case REG_TYPE.CORE:
        if (index === 0) return image.get("pc");
        if (index < 32) return image.get("x", index);
        return index === 32 ? image.get("priv") & 1n : undefined;
      case REG_TYPE.CSR: {
        if (subtype === CSR_SUBTYPE.WHERRY_RAW) {
          const raw = RAW_CSRS.get(index);
          return raw === undefined ? undefined : image.get(raw.field, raw.element);
        }
        const name = CSR_GENERAL[index];
        return subtype === CSR_SUBTYPE.GENERAL && name !== undefined ? this.#csr(name) : undefined;
      }
      case REG_TYPE.TIMER:
        switch (TIMER_REGS[index]) {
          case "frequency":
            return BigInt(TIMEBASE_HZ);
          case "time":
            return this.#clock.read();
          case "compare":
            return image.get("stimecmp");
          case "state":
            return image.get("stimecmp") === NEVER ? TIMER_STATE_OFF : TIMER_STATE_ON;
          default:
            return undefined;
        }
      case REG_TYPE.FP_F:
      case REG_TYPE.FP_D:
        if (index < 32) return BigInt.asUintN(type === REG_TYPE.FP_F ? 32 : 64, image.get("f", index));
        return index === FCSR ? image.get("fflags") | (image.get("frm") << 5n) : undefined;
      case REG_TYPE.ISA_EXT:
        return ISA_EXT_PRESENT.includes(index) ? 1n : undefined;
      case REG_TYPE.SBI_EXT:
        return SBI_EXT_PRESENT.includes(index) ? 1n : undefined;
      case REG_TYPE.SBI_STATE: {
        const shmem = this.#vcpu.read64(SBI_STA_SHMEM);
        if (index > 1) return undefined;
        return index === 0 ? shmem : shmem === NEVER ? NEVER : 0n;
      }
      case REG_TYPE.WHERRY:
        return this.#getRunState(index);
      default:
        return undefined;
    }
  }

  #getRunState(index: number): bigint | undefined {
    const vcpu = this.#vcpu;
    switch (index) {
      case WHERRY_REG.halted:
        return BigInt(vcpu.load(CTL_HALTED));
      case WHERRY_REG.startAddress:
        return vcpu.read64(SBI_START_ADDRESS);
      case WHERRY_REG.startArgument:
        return vcpu.read64(SBI_START_ARGUMENT);
      case WHERRY_REG.suspendType:
        return vcpu.read64(SBI_SUSPEND_TYPE);
      case WHERRY_REG.stealNs:
        return vcpu.read64(SBI_STEAL_NS);
      case WHERRY_REG.privilege:
        return this.#image.get("priv");
      case WHERRY_REG.pending:
        return this.#image.get("mip");
      default:
        return undefined;
    }
  }

  #set(reg: DecodedReg, value: bigint): boolean {
    const { type, subtype, index } = reg;
    const image = this.#image;
    switch (type) {
      case REG_TYPE.CONFIG:
      case REG_TYPE.ISA_EXT:
      case REG_TYPE.SBI_EXT: {
        const now = this.#get(reg);
        if (now === undefined) return false;
        if (now !== value) {
          throw new OneRegError(
            "one-reg.fixed",
            `register type ${type} index ${index}: it is ${hex(now)} on this vCPU and cannot become ${hex(value)}`,
          );
        }
        return true;
      }
      case REG_TYPE.CORE:
        if (index === 0) image.set("pc", value);
        else if (index < 32) image.set("x", value, index);
        else if (index === 32) image.set("priv", value & 1n);
        else return false;
        return true;
      case REG_TYPE.CSR: {
        if (subtype === CSR_SUBTYPE.WHERRY_RAW) {
          const raw = RAW_CSRS.get(index);
          if (raw === undefined) return false;
          image.set(raw.field, value, raw.element);
          return true;
        }
        const name = CSR_GENERAL[index];
        if (subtype !== CSR_SUBTYPE.GENERAL || name === undefined) return false;
        this.#setCsr(name, value);
        return true;
      }
      case REG_TYPE.TIMER:
        switch (TIMER_REGS[index]) {
          case "frequency":
            if (value !== BigInt(TIMEBASE_HZ)) {
              throw new OneRegError(
                "one-reg.fixed",
                `timer frequency is ${TIMEBASE_HZ} Hz, the state has ${value}`,
              );
            }
            return true;
          case "time":
            this.#clock.write(value);
            return true;
          case "compare":
            image.set("stimecmp", value);
            return true;
          case "state":
            if (value === TIMER_STATE_OFF) image.set("stimecmp", NEVER);
            else if (value !== TIMER_STATE_ON) {
              throw new OneRegError("one-reg.value", `timer state ${value}: expected 0 (off) or 1 (on)`);
            }
            return true;
          default:
            return false;
        }
      case REG_TYPE.FP_F:
      case REG_TYPE.FP_D:
        if (index < 32) image.set("f", type === REG_TYPE.FP_F ? NAN_BOX | value : value, index);
        else if (index === FCSR) {
          image.set("fflags", value & 31n);
          image.set("frm", (value >> 5n) & 7n);
        } else return false;
        return true;
      case REG_TYPE.SBI_STATE:
        if (index === 0) this.#vcpu.write64(SBI_STA_SHMEM, value);
        else if (index === 1 && value !== 0n && value !== NEVER) {
          throw new OneRegError(
            "one-reg.value",
            `shared page of steal time at ${hex(value)}·2^64: expected 0`,
          );
        }
        return index <= 1;
      case REG_TYPE.WHERRY:
        return this.#setRunState(index, value);
      default:
        return false;
    }
  }

  #setRunState(index: number, value: bigint): boolean {
    const vcpu = this.#vcpu;
    switch (index) {
      case WHERRY_REG.halted:
        vcpu.store(CTL_HALTED, value === 0n ? 0 : 1);
        return true;
      case WHERRY_REG.startAddress:
        vcpu.write64(SBI_START_ADDRESS, value);
        return true;
      case WHERRY_REG.startArgument:
        vcpu.write64(SBI_START_ARGUMENT, value);
        return true;
      case WHERRY_REG.suspendType:
        vcpu.write64(SBI_SUSPEND_TYPE, value);
        return true;
      case WHERRY_REG.stealNs:
        vcpu.write64(SBI_STEAL_NS, value);
        return true;
      case WHERRY_REG.privilege:
        if (value !== 0n && value !== 1n && value !== 3n) {
          throw new OneRegError(
            "one-reg.privilege",
            `privilege mode ${value}: expected 0 (U), 1 (S) or 3 (M)`,
          );
        }
        this.#image.set("priv", value);
        return true;
      case WHERRY_REG.pending:
        // Machine-level bits are lines of their controllers: a stream that sets them would leave them set for ever.
        if ((value & ~S_INTERRUPTS) !== 0n) {
          throw new OneRegError(
            "one-reg.pending",
            `pending interrupts ${hex(value)}: software owns the bits ${hex(S_INTERRUPTS)} alone`,
          );
        }
        this.#image.set("mip", value);
        return true;
      default:
        return false;
    }
  }

  getMpState(): number {
    return this.#vcpu.load(CTL_MP_STATE);
  }

  /** INIT_RECEIVED: reset at the SBI start address when it next runs; STOPPED and SUSPENDED: sleep. */
  setMpState(state: number): void {
    checkRiscvMpState(state);
    this.#vcpu.store(CTL_MP_STATE, state);
    this.#vcpu.clear(REQ.VCPU_RESET);
    if (state === MP_STATE.INIT_RECEIVED) this.#vcpu.make(REQ.VCPU_RESET);
    else if (state !== MP_STATE.RUNNABLE) this.#vcpu.make(REQ.SLEEP);
  }

  clearTransient(): void {
    this.#image.clearReservation();
  }
}
