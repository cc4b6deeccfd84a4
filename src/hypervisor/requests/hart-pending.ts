// Software-owned interrupt-pending bits of a hart (the low word of its mip): set by other harts' IPIs,
// cleared by the hart's own CSR writes. Both use atomic read-modify-write operations.
import type { VcpuRequests } from "./vcpu-requests.ts";

export class HartPending {
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #index: number;
  readonly #vcpu: VcpuRequests;

  /** `mipOffset`: byte offset of the hart's mip field in the shared memory. */
  constructor(buffer: SharedArrayBuffer, mipOffset: number, vcpu: VcpuRequests) {
    this.#words = new Int32Array(buffer);
    this.#index = mipOffset >>> 2;
    this.#vcpu = vcpu;
  }

  get bits(): number {
    return Atomics.load(this.#words, this.#index);
  }

  /** Set bits and notify the hart. */
  raise(bits: number): void {
    Atomics.or(this.#words, this.#index, bits);
    this.#vcpu.interrupt();
  }

  clear(bits: number): void {
    Atomics.and(this.#words, this.#index, ~bits);
  }
}
