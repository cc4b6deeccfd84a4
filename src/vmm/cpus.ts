// The cached copy of each vCPU's state with its dirty mark, and the four hooks that synchronise it (QEMU's
// cpu_synchronize_*), the only ones that may. A dirty copy is authoritative; entry to the guest writes it
// back. The architecture's table gives the level of each register (riscv-cpu-state.ts).
import { WherryError } from "../base/errors.ts";
import { MP_STATE } from "../accelerator/mp-state.ts";
import type { AcceleratorVcpu, AcceleratorVm } from "../accelerator/accelerator.ts";
import { SUPERVISOR_ENTRY } from "../riscv/supervisor-entry.ts";
import type { SynchronizeHooks } from "./machine.ts";
import {
  CPU_ROWS,
  type CpuCommonState,
  type CpuState,
  cpuCommonState,
  cpuState,
  PUT,
  type PutLevel,
} from "./riscv-cpu-state.ts";

export class CpusError extends WherryError {}

export class Cpu {
  readonly id: number;
  readonly vcpu: AcceleratorVcpu;
  /** Valid while `dirty`. */
  readonly state: CpuState = cpuState.create();
  readonly common: CpuCommonState = cpuCommonState.create();
  /** If true, `state` is as new as the vCPU's or newer, and is written back before the vCPU runs. */
  dirty = false;
  /** Calls of synchronizeState under way, and whether the last of them resumes the vCPU. */
  accesses = 0;
  resumeAfter = false;

  constructor(vcpu: AcceleratorVcpu) {
    this.id = vcpu.id;
    this.vcpu = vcpu;
  }

  /** kvm_arch_get_registers. The vCPU is paused. */
  fetch(): void {
    const fields = this.state as Record<string, unknown>;
    for (const { field, element, id } of CPU_ROWS) {
      const value = this.vcpu.getOneReg(id);
      if (field === "halted") this.common.halted = Number(value);
      else if (element === undefined)
        fields[field] = typeof fields[field] === "bigint" ? value : Number(value);
      else if (fields[field] instanceof Uint8Array) fields[field][element] = Number(value);
      else (fields[field] as BigUint64Array)[element] = value;
    }
    this.state.mpState = this.vcpu.getMpState();
    this.dirty = true;
  }

  /** kvm_arch_put_registers. The vCPU is paused. */
  put(level: PutLevel): void {
    const fields = this.state as Record<string, unknown>;
    for (const { field, element, id, from } of CPU_ROWS) {
      if (level < from) continue;
      const value = field === "halted" ? this.common.halted : fields[field];
      const scalar = element === undefined ? value : (value as ArrayLike<bigint | number>)[element];
      this.vcpu.setOneReg(id, BigInt(scalar as bigint | number));
    }
    if (level >= PUT.RESET) {
      this.vcpu.setMpState(this.state.mpState);
      this.vcpu.clearTransient();
    }
    this.dirty = false;
  }
}

export class Cpus implements SynchronizeHooks {
  readonly all: readonly Cpu[];
  readonly #vm: AcceleratorVm;
  /**
   * The start address of harts, set by the board. With the built-in firmware only hart 0 starts, in S-mode.
   */
  resetVector = 0n;
  /** True between resumeAll and pauseAll. */
  #running = false;

  constructor(vm: AcceleratorVm) {
    this.#vm = vm;
    this.all = vm.vcpus.map((v) => new Cpu(v));
  }

  /**
   * Runs `use` on the synchronised copy of one vCPU (QMP register dumps, a debugger). A running vCPU is
   * paused meanwhile and resumed, unless the machine was stopped in between; the others never stop.
   */
  async synchronizeState<T>(cpu: Cpu, use: (state: CpuState) => T): Promise<T> {
    cpu.accesses++;
    try {
      if (!cpu.vcpu.paused) {
        cpu.resumeAfter = this.#running;
        await cpu.vcpu.pause();
      }
      if (!cpu.dirty) cpu.fetch();
      return use(cpu.state);
    } finally {
      cpu.accesses--;
      if (cpu.accesses === 0 && cpu.resumeAfter) this.#enter(cpu);
    }
  }

  /** Entry to the guest writes a dirty copy back at level RUNTIME: other vCPUs keep running. */
  #enter(cpu: Cpu): void {
    cpu.resumeAfter = false;
    if (cpu.dirty) cpu.put(PUT.RUNTIME);
    cpu.vcpu.resume();
  }

  resumeAll(): void {
    this.#running = true;
    for (const cpu of this.all) cpu.resumeAfter = true;
    const free = this.all.filter((cpu) => cpu.accesses === 0);
    for (const cpu of free) if (cpu.dirty) cpu.put(PUT.RUNTIME);
    for (const cpu of free) this.#enter(cpu);
  }

  async pauseAll(): Promise<void> {
    this.#running = false;
    for (const cpu of this.all) cpu.resumeAfter = false;
    await Promise.all(this.all.map((cpu) => cpu.vcpu.pause()));
  }

  async synchronizeAllStates(): Promise<void> {
    await this.pauseAll();
    for (const cpu of this.all) if (!cpu.dirty) cpu.fetch();
  }

  synchronizeAllPreLoad(): void {
    for (const cpu of this.all) cpu.dirty = true;
  }

  synchronizeAllPostInit(): void {
    for (const cpu of this.all) if (cpu.dirty) cpu.put(PUT.FULL);
  }

  synchronizeAllPostReset(): void {
    for (const cpu of this.all) if (cpu.dirty) cpu.put(PUT.RESET);
  }

  /**
   * Architectural reset of the cached copies; all vCPUs are stopped. With the built-in firmware, machine mode
   * belongs to the hypervisor half and keeps its state. The board sets a0 and a1.
   */
  resetAll(): void {
    for (const cpu of this.all) {
      if (!cpu.dirty)
        throw new CpusError("cpus.reset", `vCPU ${cpu.id} is reset before its state was synchronised`);
      const { state } = cpu;
      const kept = this.#vm.builtinFirmware ? this.#machineMode(state) : {};
      cpuState.assign(state, {
        ...cpuState.create(),
        ...kept,
        mhartid: BigInt(cpu.id),
        pc: this.resetVector,
        mpState: !this.#vm.builtinFirmware || cpu.id === 0 ? MP_STATE.RUNNABLE : MP_STATE.STOPPED,
      });
      cpuCommonState.assign(cpu.common, cpuCommonState.create());
    }
  }

  #machineMode(state: CpuState): Partial<CpuState> {
    const { medeleg, mideleg, mcounteren, menvcfg, pmpcfg, pmpaddr } = state;
    return {
      priv: SUPERVISOR_ENTRY.priv,
      scounteren: SUPERVISOR_ENTRY.scounteren,
      svade: SUPERVISOR_ENTRY.svade,
      medeleg,
      mideleg,
      mcounteren,
      menvcfg,
      pmpcfg,
      pmpaddr,
    };
  }

  /**
   * First reset, at machine init: fetches the state from the accelerator; post-init writes it back at level
   * FULL.
   */
  async init(): Promise<void> {
    await this.synchronizeAllStates();
    this.resetAll();
  }
}
