// A hart's counters of firmware events (SBI 3.0, 11.5): the harts that send an IPI or a fence count it for
// the sender and for the receiver, on the sender's thread. The registers of the hart hold them.
import { PMU_COUNTERS, PMU_FIRST_FIRMWARE } from "../../riscv/firmware-features.ts";
import { hartBase } from "../shared/memory-map.ts";
import { hartLayout } from "../hart/hart-layout.ts";

/** Events that happen here. */
export const FIRMWARE_EVENT = {
  SET_TIMER: 5,
  IPI_SENT: 6,
  IPI_RECEIVED: 7,
  FENCE_I_SENT: 8,
  FENCE_I_RECEIVED: 9,
  SFENCE_VMA_SENT: 10,
  SFENCE_VMA_RECEIVED: 11,
  SFENCE_VMA_ASID_SENT: 12,
  SFENCE_VMA_ASID_RECEIVED: 13,
} as const;
export type FirmwareEvent = (typeof FIRMWARE_EVENT)[keyof typeof FIRMWARE_EVENT];

export const PMU_TYPE_FIRMWARE = 0xf;
/**
 * All events up to this one can be counted, as with OpenSBI and KVM. Of the others there are none here: traps
 * of loads, stores and instructions are delegated, and fences of the hypervisor extension are not supported.
 */
export const LAST_FIRMWARE_EVENT = 21;

export class FirmwareCounters {
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #values: BigUint64Array<SharedArrayBuffer>;
  readonly #runs: number;
  readonly #events: number;

  constructor(buffer: SharedArrayBuffer, hart: number) {
    const at = (field: "pmuRuns" | "pmuEvent" | "pmuValue"): number =>
      hartBase(hart) + hartLayout.offsetOf(field);
    this.#words = new Int32Array(buffer);
    this.#runs = at("pmuRuns") >>> 2;
    this.#events = at("pmuEvent") >>> 2;
    this.#values = new BigUint64Array(buffer, at("pmuValue"), PMU_COUNTERS);
  }

  count(event: FirmwareEvent): void {
    const runs = Atomics.load(this.#words, this.#runs);
    if (runs === 0) return;
    const index = (PMU_TYPE_FIRMWARE << 16) | event;
    for (let i = PMU_FIRST_FIRMWARE; i < PMU_COUNTERS; i++) {
      const counts = (runs & (1 << i)) !== 0 && this.#words[this.#events + 2 * i] === index;
      if (counts) Atomics.add(this.#values, i, 1n);
    }
  }
}
