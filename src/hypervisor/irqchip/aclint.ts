// The hypervisor's ACLINT: mtimer, mswi and sswi (RISC-V ACLINT specification 1.0-rc4; the first two at the
// SiFive CLINT's offsets). vCPU threads handle guest accesses; mtime is the VM's clock.
import { NEVER } from "../../riscv/bits.ts";
import { INTERRUPT } from "../../riscv/causes.ts";
import { WherryError } from "../../base/errors.ts";
import { defineState, type StateOf, u32, varU32Array, varU64Array } from "../../state/schema.ts";
import type { GuestClock } from "../requests/guest-clock.ts";
import { CTL_LINES, MAX_VCPUS, VM_ACLINT } from "../shared/memory-map.ts";
import type { HartPending } from "../requests/hart-pending.ts";
import { REQ, type VcpuRequests } from "../requests/vcpu-requests.ts";

const MTIMECMP = 0x4000;
const MTIME = 0xbff8;

export const MIP_MSIP = 1 << INTERRUPT.MSI;
const MIP_SSIP = 1 << INTERRUPT.SSI;

/** mtimecmp of each hart and the software-interrupt latches; QEMU's riscv_mtimer has only `timecmp`. */
export const aclintState = defineState(
  "riscv_mtimer",
  { version: 1, minimumVersion: 1 },
  {
    numHarts: u32.range(1, MAX_VCPUS),
    timecmp: varU64Array("numHarts", MAX_VCPUS),
    msip: varU32Array("numHarts", MAX_VCPUS),
  },
);
export type AclintState = StateOf<typeof aclintState>;

export class AclintError extends WherryError {}

export class Aclint {
  readonly #timecmp: BigUint64Array<SharedArrayBuffer>;
  readonly #vcpus: readonly VcpuRequests[];
  readonly #pending: readonly HartPending[];
  readonly #clock: GuestClock;

  constructor(
    buffer: SharedArrayBuffer,
    vcpus: readonly VcpuRequests[],
    pending: readonly HartPending[],
    clock: GuestClock,
  ) {
    this.#timecmp = new BigUint64Array(buffer, VM_ACLINT, MAX_VCPUS);
    this.#vcpus = vcpus;
    this.#pending = pending;
    this.#clock = clock;
  }

  /** Machine timer deadline of a hart in ticks, as a double (2^64−1 means never). */
  deadline(hart: number): number {
    return Number(Atomics.load(this.#timecmp, hart));
  }

  /** Guest read of 4 or 8 bytes in the mswi/mtimer window. */
  read(offset: number, size: number): bigint {
    if (offset < MTIMECMP) {
      const vcpu = this.#vcpus[offset >>> 2];
      return vcpu !== undefined && (vcpu.load(CTL_LINES) & MIP_MSIP) !== 0 ? 1n : 0n;
    }
    let value: bigint | undefined;
    if (offset >= MTIME && offset < MTIME + 8) value = BigInt(this.#clock.now());
    else if ((offset - MTIMECMP) >>> 3 < this.#vcpus.length) {
      value = Atomics.load(this.#timecmp, (offset - MTIMECMP) >>> 3);
    }
    if (value === undefined) return 0n;
    if (size === 8) return value;
    return (offset & 4) === 0 ? value & 0xffffffffn : value >> 32n;
  }

  /**
   * Guest write of 4 or 8 bytes in the mswi/mtimer window. Writes to mtime are ignored, as in QEMU's CLINT
   * before 7.0.
   */
  write(offset: number, size: number, value: bigint): void {
    if (offset < MTIMECMP) {
      const vcpu = this.#vcpus[offset >>> 2];
      if (vcpu === undefined) return;
      if ((value & 1n) !== 0n) this.#raise(vcpu, MIP_MSIP);
      else vcpu.and(CTL_LINES, ~MIP_MSIP);
      return;
    }
    const hart = (offset - MTIMECMP) >>> 3;
    const vcpu = this.#vcpus[hart];
    if (vcpu === undefined) return;
    let next = value;
    if (size !== 8) {
      const old = Atomics.load(this.#timecmp, hart);
      next =
        (offset & 4) === 0
          ? (old & 0xffffffff00000000n) | (value & 0xffffffffn)
          : (old & 0xffffffffn) | ((value & 0xffffffffn) << 32n);
    }
    Atomics.store(this.#timecmp, hart, next);
    // The hart recomputes its timer lines when it leaves guest mode or wakes.
    vcpu.make(REQ.UNBLOCK);
    vcpu.kick();
  }

  /** Guest write in the sswi window: SETSSIP of a hart. Reads return 0. */
  writeSswi(offset: number, value: bigint): void {
    const hart = offset >>> 2;
    if ((value & 1n) === 0n) return;
    this.#pending[hart]?.raise(MIP_SSIP);
  }

  #raise(vcpu: VcpuRequests, line: number): void {
    vcpu.or(CTL_LINES, line);
    vcpu.interrupt();
  }

  reset(): void {
    for (let i = 0; i < this.#vcpus.length; i++) {
      Atomics.store(this.#timecmp, i, NEVER);
      this.#vcpus[i]!.and(CTL_LINES, ~MIP_MSIP);
    }
  }

  get(): AclintState {
    const n = this.#vcpus.length;
    const state = aclintState.create();
    state.numHarts = n;
    state.timecmp = BigUint64Array.from(this.#timecmp.subarray(0, n));
    state.msip = Uint32Array.from(this.#vcpus, (v) => ((v.load(CTL_LINES) & MIP_MSIP) !== 0 ? 1 : 0));
    return state;
  }

  /** Throws if the state is for another number of harts. */
  check(state: AclintState): void {
    if (state.numHarts !== this.#vcpus.length) {
      throw new AclintError(
        "aclint.harts",
        `riscv_mtimer: the stream has ${state.numHarts} harts, this machine has ${this.#vcpus.length}: start it with ${state.numHarts} harts`,
      );
    }
  }

  set(state: AclintState): void {
    this.check(state);
    for (let i = 0; i < this.#vcpus.length; i++) {
      Atomics.store(this.#timecmp, i, state.timecmp[i]!);
      if (state.msip[i] !== 0) this.#raise(this.#vcpus[i]!, MIP_MSIP);
      else this.#vcpus[i]!.and(CTL_LINES, ~MIP_MSIP);
    }
  }
}
