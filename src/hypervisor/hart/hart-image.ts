// Access to a hart's state in shared memory, field by field: ONE_REG, resets and the firmware read and write
// it while the vCPU is outside guest mode. hart-layout.ts has the offsets.
import { SUPERVISOR_ENTRY } from "../../riscv/supervisor-entry.ts";
import { hartBase } from "../shared/memory-map.ts";
import { CONFIG_BUILTIN_FIRMWARE, CONFIG_EXACT_TIMER, SCRATCH } from "../shared/hart-scratch.ts";
import { type HartField, hartState } from "../../riscv/hart-state.ts";
import { hartLayout } from "./hart-layout.ts";

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

  /** Writes to x0 are ignored. */
  set(field: HartField, value: bigint, index = 0): void {
    const at = hartLayout.offsetOf(field);
    if (field === "x" && index === 0) return;
    if (field === "pmpcfg") this.#view.setUint8(at + index, Number(value & 0xffn));
    else this.#view.setBigUint64(at + index * 8, BigInt.asUintN(64, value), true);
  }

  /** Clear the LR reservation. */
  clearReservation(): void {
    this.#view.setBigUint64(SCRATCH.reservation, 0n, true);
  }

  /**
   * Settings that are fixed from the hart's first instruction on and not part of its state: whether the
   * built-in firmware handles ecalls from S-mode, and CONFIG_EXACT_TIMER.
   */
  configure(config: { readonly builtinFirmware: boolean; readonly exactTimer?: boolean }): void {
    const bits =
      (config.builtinFirmware ? CONFIG_BUILTIN_FIRMWARE : 0) |
      (config.exactTimer === true ? CONFIG_EXACT_TIMER : 0);
    this.#view.setUint32(SCRATCH.config, bits, true);
  }

  /**
   * Reset (privileged specification §3.4): M-mode at `pc`; all other fields take the schema's initial values,
   * except `kept`.
   */
  reset(pc: bigint, kept: readonly HartField[] = []): void {
    for (const [field, value] of Object.entries(hartState.create())) {
      if (kept.includes(field as HartField)) continue;
      if (typeof value === "object") value.forEach((e, i) => this.set(field as HartField, BigInt(e), i));
      else this.set(field as HartField, BigInt(value));
    }
    this.set("pc", pc);
    this.set("mhartid", BigInt(this.#hart));
    this.clearReservation();
  }

  /**
   * Supervisor entry as SBI hart_start and a non-retentive resume define it (SBI 3.0 §9.1): S-mode at
   * `address`, satp 0, SIE 0, a0 hart id, a1 `argument`. Machine mode is as the built-in firmware would have
   * set it up.
   */
  resetForStart(address: bigint, argument: bigint, kept: readonly HartField[] = []): void {
    this.reset(address, kept);
    for (const [field, value] of Object.entries(SUPERVISOR_ENTRY))
      if (!kept.includes(field as HartField)) this.set(field as HartField, BigInt(value));
    this.set("x", BigInt(this.#hart), 10);
    this.set("x", argument, 11);
  }
}
