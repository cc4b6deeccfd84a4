// A hart's state in shared memory, field by field: what ONE_REG, resets and the firmware read and write while the
// vCPU is outside the guest. Offsets are the schema's (hart-schema.ts).
import { hartBase } from "../shared/memory-map.ts";
import { CONFIG_BUILTIN_FIRMWARE, CONFIG_EXACT_TIMER, SCRATCH } from "../shared/hart-scratch.ts";
import { type HartField, hartLayout, hartState, PRIV } from "./hart-schema.ts";

/** UXL and SXL say 64 bits and cannot change. */
const MSTATUS_RESET = (2n << 34n) | (2n << 32n);
/** Exceptions and interrupts that a guest in S-mode gets itself when the firmware is built in. */
const BUILTIN_MEDELEG = 0xb1ffn;
const BUILTIN_MIDELEG = 0x222n;
/** CY, TM, IR: the kernel leaves it so, and its vDSO reads the time in U-mode. */
const BUILTIN_SCOUNTEREN = 7n;
/** STCE, and CBIE, CBCFE, CBZE: Sstc and the cache-block operations. */
const BUILTIN_MENVCFG = (1n << 63n) | 0xf0n;
const NEVER = 0xffffffffffffffffn;
/** PMP: NAPOT over all addresses, R, W and X. */
const PMP_ALL_CFG = 0x1fn;
const PMP_ALL_ADDR = (1n << 54n) - 1n;

export class HartImage {
  readonly #hart: number;
  readonly #view: DataView<SharedArrayBuffer>;

  constructor(buffer: SharedArrayBuffer, hart: number) {
    this.#hart = hart;
    this.#view = new DataView(buffer, hartBase(hart));
  }

  /** A field, or one element of an array, as an unsigned value. */
  get(field: HartField, index = 0): bigint {
    const at = hartLayout.offsetOf(field);
    if (field === "pmpcfg") return BigInt(this.#view.getUint8(at + index));
    return this.#view.getBigUint64(at + index * 8, true);
  }

  /** x0 stays 0. */
  set(field: HartField, value: bigint, index = 0): void {
    const at = hartLayout.offsetOf(field);
    if (field === "x" && index === 0) return;
    if (field === "pmpcfg") this.#view.setUint8(at + index, Number(value & 0xffn));
    else this.#view.setBigUint64(at + index * 8, BigInt.asUintN(64, value), true);
  }

  /** No LR reservation. */
  clearReservation(): void {
    this.#view.setBigUint64(SCRATCH.reservation, 0n, true);
  }

  /** What is fixed for a hart's life, no part of its state: who answers ecalls from S-mode, and CONFIG_EXACT_TIMER. */
  configure(config: { readonly builtinFirmware: boolean; readonly exactTimer?: boolean }): void {
    const bits =
      (config.builtinFirmware ? CONFIG_BUILTIN_FIRMWARE : 0) |
      (config.exactTimer === true ? CONFIG_EXACT_TIMER : 0);
    this.#view.setUint32(SCRATCH.config, bits, true);
  }

  /** Reset (privileged specification §3.4): M-mode at `pc`, no translation, interrupts off, all else 0 but `kept`. */
  reset(pc: bigint, kept: readonly HartField[] = []): void {
    for (const [field, value] of Object.entries(hartState.create())) {
      if (kept.includes(field as HartField)) continue;
      const length = typeof value === "object" ? value.length : 1;
      for (let i = 0; i < length; i++) this.set(field as HartField, 0n, i);
    }
    this.set("pc", pc);
    this.set("mhartid", BigInt(this.#hart));
    this.set("priv", BigInt(PRIV.M));
    this.set("mstatus", MSTATUS_RESET);
    if (!kept.includes("stimecmp")) this.set("stimecmp", NEVER);
    this.clearReservation();
  }

  /**
   * Supervisor entry as SBI hart_start and a non-retentive resume define it (SBI 2.0 §9.1): S-mode at `address`,
   * satp 0, SIE 0, a0 hart id, a1 `argument`. Machine mode is what the built-in firmware would have set up.
   */
  resetForStart(address: bigint, argument: bigint, kept: readonly HartField[] = []): void {
    this.reset(address, kept);
    this.set("priv", BigInt(PRIV.S));
    this.set("medeleg", BUILTIN_MEDELEG);
    this.set("mideleg", BUILTIN_MIDELEG);
    this.set("mcounteren", 0xffffffffn);
    this.set("scounteren", BUILTIN_SCOUNTEREN);
    this.set("menvcfg", BUILTIN_MENVCFG);
    this.set("pmpcfg", PMP_ALL_CFG);
    this.set("pmpaddr", PMP_ALL_ADDR);
    this.set("x", BigInt(this.#hart), 10);
    this.set("x", argument, 11);
  }
}
