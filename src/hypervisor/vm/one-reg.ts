// KVM_GET/SET_ONE_REG for a RISC-V vCPU: the only access to a hart's state from outside. The ids are in
// src/accelerator/one-reg-ids.ts. The thread must be parked; the caller checks that.
import {
  CONFIG_REGS,
  type DecodedReg,
  decodeOneReg,
  ONE_REG_ROWS,
  oneReg,
  oneRegOf,
  type OneRegRow,
  REG_TYPE,
  SBI_EXT_ID,
  TIMER_REGS,
  TIMER_STATE_OFF,
  TIMER_STATE_ON,
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
import { ALL_ONES } from "../../base/uint64.ts";
import { NEVER } from "../../riscv/bits.ts";
import { SUPERVISOR_INTERRUPTS } from "../../riscv/causes.ts";
import { CACHE_BLOCK_SIZE, EXTENSIONS, LETTERS } from "../../riscv/extensions.ts";
import { type HartField, isHartField } from "../../riscv/hart-state.ts";
import { SATP_MODE } from "../../riscv/paging.ts";
import { isPrivilege, PRIVILEGES } from "../../riscv/privilege.ts";
import { type RegisterName, REGISTERS } from "../../riscv/registers.ts";
import { sstatusOf, withSstatus } from "../../riscv/status.ts";

export class OneRegError extends WherryError {}

/** Index of fcsr among the D registers. */
const FCSR = 32;

const MODE = oneReg(REG_TYPE.CORE, 32);
const TIMER_FREQUENCY = oneReg(REG_TYPE.TIMER, TIMER_REGS.indexOf("frequency"));
const TIMER_STATE = oneReg(REG_TYPE.TIMER, TIMER_REGS.indexOf("state"));
const STA_SHMEM_HIGH = oneReg(REG_TYPE.SBI_STATE, 1);

/** The box of a single-precision value in a double's register (unprivileged specification, D: NaN boxing). */
const NAN_BOX = 0xffffffff00000000n;

/** KVM: 1 enabled, 0 disabled. */
const ISA_EXT_PRESENT: readonly number[] = Object.values(EXTENSIONS).map(({ isaExt }) => isaExt);
const SBI_EXT_PRESENT: readonly number[] = [
  SBI_EXT_ID.V01,
  SBI_EXT_ID.TIME,
  SBI_EXT_ID.IPI,
  SBI_EXT_ID.RFENCE,
  SBI_EXT_ID.SRST,
  SBI_EXT_ID.HSM,
  SBI_EXT_ID.PMU,
  SBI_EXT_ID.DBCN,
  SBI_EXT_ID.STA,
  SBI_EXT_ID.SUSP,
  SBI_EXT_ID.FWFT,
];

/** The registers of the table, by id. */
const ROWS: ReadonlyMap<bigint, OneRegRow> = new Map(ONE_REG_ROWS.map((row) => [row.id, row]));

/** KVM's other views of a hart. Each register has one size, and only CSRs have subtypes. */
function decodeView(id: bigint): DecodedReg | undefined {
  const reg = decodeOneReg(id);
  if (reg === undefined || reg.subtype !== 0) return undefined;
  return reg.size === (reg.type === REG_TYPE.FP_F ? 32 : 64) ? reg : undefined;
}

/** Run state in the control block. */
const CONTROL = {
  startAddress: SBI_START_ADDRESS,
  startArgument: SBI_START_ARGUMENT,
  suspendType: SBI_SUSPEND_TYPE,
  stealTimeShmem: SBI_STA_SHMEM,
  stealNs: SBI_STEAL_NS,
} as const;
const isControl = (register: RegisterName): register is keyof typeof CONTROL => register in CONTROL;

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
    const row = ROWS.get(id);
    const value = row === undefined ? this.#view(decodeView(id)) : this.#get(row);
    if (value === undefined) throw this.#unknown(id);
    return value;
  }

  /** Throws OneRegError for an unknown id, or if the value of a configuration register differs. */
  set(id: bigint, value: bigint): void {
    const row = ROWS.get(id);
    if (row === undefined ? !this.#setView(decodeView(id), value) : !this.#set(row, value))
      throw this.#unknown(id);
  }

  #unknown(id: bigint): OneRegError {
    return new OneRegError(
      "one-reg.unknown",
      `register ${hex(id)}: this vCPU has no such register (see regList)`,
    );
  }

  /** In the order of their ids: a register that is a view of others comes before them. */
  list(): bigint[] {
    const ids: bigint[] = [...ROWS.keys()];
    const range = (type: number, n: number): void => {
      for (let i = 0; i < n; i++) ids.push(oneReg(type, i));
    };
    range(REG_TYPE.CONFIG, CONFIG_REGS.length);
    ids.push(MODE, TIMER_FREQUENCY, TIMER_STATE, STA_SHMEM_HIGH);
    for (let i = 0; i <= FCSR; i++) ids.push(oneReg(REG_TYPE.FP_F, i, 0, 32));
    for (const e of ISA_EXT_PRESENT) ids.push(oneReg(REG_TYPE.ISA_EXT, e));
    for (const e of SBI_EXT_PRESENT) ids.push(oneReg(REG_TYPE.SBI_EXT, e));
    return ids.sort((a, b) => (a < b ? -1 : 1));
  }

  #get({ register, element = 0 }: OneRegRow): bigint | undefined {
    const image = this.#image;
    if (isHartField(register)) return image.get(register, element);
    if (isControl(register)) return this.#vcpu.read64(CONTROL[register]);
    switch (register) {
      case "fcsr":
        return image.get("fflags") | (image.get("frm") << 5n);
      case "sstatus":
        return sstatusOf(image.get("mstatus"));
      case "sie":
        return image.get("mie") & image.get("mideleg");
      case "sip":
        return image.get("mip") & image.get("mideleg");
      case "halted":
        return BigInt(this.#vcpu.load(CTL_HALTED));
      case "timerTime":
        return this.#clock.read();
      default:
        return undefined;
    }
  }

  #set({ register, element = 0 }: OneRegRow, value: bigint): boolean {
    const image = this.#image;
    if (isHartField(register)) {
      checkValue(register, value);
      image.set(register, value, element);
      return true;
    }
    if (isControl(register)) {
      this.#vcpu.write64(CONTROL[register], value);
      return true;
    }
    const merge = (field: "mie" | "mip"): void => {
      const mask = SUPERVISOR_INTERRUPTS & image.get("mideleg");
      image.set(field, (image.get(field) & ~mask) | (value & mask));
    };
    switch (register) {
      case "fcsr":
        image.set("fflags", value & REGISTERS.fflags.writable);
        image.set("frm", (value >> 5n) & REGISTERS.frm.writable);
        return true;
      case "sstatus":
        image.set("mstatus", withSstatus(image.get("mstatus"), value));
        return true;
      case "sie":
        merge("mie");
        return true;
      case "sip":
        merge("mip");
        return true;
      case "halted":
        this.#vcpu.store(CTL_HALTED, value === 0n ? 0 : 1);
        return true;
      case "timerTime":
        this.#clock.write(value);
        return true;
      default:
        return false;
    }
  }

  #config(index: number): bigint | undefined {
    switch (CONFIG_REGS[index]) {
      case "isa":
        // KVM: the letters alone, without misa's modes and width.
        return LETTERS;
      case "zicbomBlockSize":
      case "zicbozBlockSize":
        return BigInt(CACHE_BLOCK_SIZE);
      case "mvendorid":
      case "marchid":
      case "mimpid":
        return 0n;
      case "satpMode":
        return BigInt(SATP_MODE.SV57);
      default:
        return undefined;
    }
  }

  #view(view: DecodedReg | undefined): bigint | undefined {
    const image = this.#image;
    switch (view && oneReg(view.type, view.index)) {
      case MODE:
        return image.get("priv") & 1n;
      case TIMER_FREQUENCY:
        return BigInt(TIMEBASE_HZ);
      case TIMER_STATE:
        return image.get("stimecmp") === NEVER ? TIMER_STATE_OFF : TIMER_STATE_ON;
      case STA_SHMEM_HIGH:
        return this.#vcpu.read64(SBI_STA_SHMEM) === ALL_ONES ? ALL_ONES : 0n;
    }
    switch (view?.type) {
      case REG_TYPE.CONFIG:
        return this.#config(view.index);
      case REG_TYPE.FP_F:
        if (view.index === FCSR) return this.get(oneRegOf("fcsr"));
        return view.index < FCSR ? BigInt.asUintN(32, image.get("f", view.index)) : undefined;
      case REG_TYPE.ISA_EXT:
        return ISA_EXT_PRESENT.includes(view.index) ? 1n : undefined;
      case REG_TYPE.SBI_EXT:
        return SBI_EXT_PRESENT.includes(view.index) ? 1n : undefined;
      default:
        return undefined;
    }
  }

  #setView(view: DecodedReg | undefined, value: bigint): boolean {
    const image = this.#image;
    const now = this.#view(view);
    if (view === undefined || now === undefined) return false;
    const { type, index } = view;
    switch (oneReg(type, index)) {
      case MODE:
        image.set("priv", value & 1n);
        return true;
      case TIMER_FREQUENCY:
        if (value === now) return true;
        throw new OneRegError("one-reg.fixed", `timer frequency is ${now} Hz, the state has ${value}`);
      case TIMER_STATE:
        if (value === TIMER_STATE_OFF) image.set("stimecmp", NEVER);
        else if (value !== TIMER_STATE_ON) {
          throw new OneRegError("one-reg.value", `timer state ${value}: expected 0 (off) or 1 (on)`);
        }
        return true;
      case STA_SHMEM_HIGH:
        if (value === 0n || value === ALL_ONES) return true;
        throw new OneRegError("one-reg.value", `shared page of steal time at ${hex(value)}·2^64: expected 0`);
    }
    if (type === REG_TYPE.FP_F) {
      if (index === FCSR) this.set(oneRegOf("fcsr"), value);
      else image.set("f", NAN_BOX | value, index);
      return true;
    }
    if (now === value) return true;
    throw new OneRegError(
      "one-reg.fixed",
      `register type ${type} index ${index}: it is ${hex(now)} on this vCPU and cannot become ${hex(value)}`,
    );
  }

  getMpState(): number {
    return this.#vcpu.load(CTL_MP_STATE);
  }

  /** INIT_RECEIVED: reset at the SBI start address before the next entry; STOPPED and SUSPENDED: sleep. */
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

/**
 * Values that no hart can have. Machine-level bits of mip are lines of controllers: a bit set here would
 * never be cleared.
 */
function checkValue(register: HartField, value: bigint): void {
  if (register === "priv" && !isPrivilege(value)) {
    throw new OneRegError("one-reg.privilege", `privilege mode ${value}: expected ${PRIVILEGES}`);
  }
  if (register === "mip" && (value & ~REGISTERS.mip.writable) !== 0n) {
    throw new OneRegError(
      "one-reg.pending",
      `pending interrupts ${hex(value)}: software owns only the bits ${hex(REGISTERS.mip.writable)}`,
    );
  }
}
