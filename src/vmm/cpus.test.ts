// Writeback of vCPU state: which register is written at which level, and which vCPU is paused for it.
import { expect, test } from "vitest";
import { oneReg, oneRegOf, REG_TYPE } from "../accelerator/one-reg-ids.ts";
import { MP_STATE } from "../accelerator/mp-state.ts";
import type { AcceleratorVcpu, AcceleratorVm } from "../accelerator/accelerator.ts";
import { type Cpu, Cpus, CpusError } from "./cpus.ts";
import { CPU_ROWS, PUT } from "./riscv-cpu-state.ts";

/**
 * Records what is written to it. Like a real vCPU, it stops some turns of the event loop after the request.
 */
class RecordingVcpu implements AcceleratorVcpu {
  readonly id: number;
  readonly registers = new Map<bigint, bigint>();
  readonly log: string[] = [];
  paused = true;
  pausing = false;
  mpState = 0;
  fetches = 0;
  constructor(id: number) {
    this.id = id;
  }
  resume(): void {
    this.paused = false;
    this.pausing = false;
    this.log.push("resume");
  }
  async pause(): Promise<void> {
    this.pausing = true;
    await new Promise((resolve) => setTimeout(resolve, 5));
    if (this.pausing) this.paused = true;
  }
  #mustBePaused(): void {
    if (!this.paused) throw new Error(`vCPU ${this.id} is running`);
  }
  getOneReg(id: bigint): bigint {
    this.#mustBePaused();
    this.fetches++;
    return this.registers.get(id) ?? 0n;
  }
  setOneReg(id: bigint, value: bigint): void {
    this.#mustBePaused();
    this.registers.set(id, value);
    this.log.push(name(id));
  }
  getMpState(): number {
    this.#mustBePaused();
    return this.mpState;
  }
  setMpState(state: number): void {
    this.#mustBePaused();
    this.mpState = state;
    this.log.push(`mp=${state}`);
  }
  regList(): bigint[] {
    return [];
  }
  clearTransient(): void {
    this.log.push("reservation");
  }
}

const NAMES = new Map(CPU_ROWS.map((r) => [r.id, `${r.field}${r.element ?? ""}`]));
const name = (id: bigint): string => NAMES.get(id) ?? String(id);
const PC = oneReg(REG_TYPE.CORE, 0);

function harts(n: number, builtinFirmware = true): { cpus: Cpus; vcpus: RecordingVcpu[] } {
  const vcpus = Array.from({ length: n }, (_, i) => new RecordingVcpu(i));
  return { cpus: new Cpus({ vcpus, builtinFirmware } as unknown as AcceleratorVm), vcpus };
}

async function written(level: (typeof PUT)[keyof typeof PUT]): Promise<string[]> {
  const { cpus, vcpus } = harts(1);
  await cpus.synchronizeAllStates();
  (cpus.all[0] as Cpu).put(level);
  return (vcpus[0] as RecordingVcpu).log;
}

// The levels of docs/architecture.md, "The life of a vCPU's state", not derived from CPU_ROWS: what one level
// writes and another does not.
const GENERAL = [
  "pc",
  ...Array.from({ length: 31 }, (_, i) => `x${i + 1}`),
  ...Array.from({ length: 32 }, (_, i) => `f${i}`),
  "fcsr",
  "priv",
  ...["stvec", "sscratch", "sepc", "scause", "stval", "satp", "scounteren", "senvcfg"],
  ...["mhartid", "mstatus", "medeleg", "mideleg", "mie", "mtvec", "mcounteren", "menvcfg", "mcountinhibit"],
  "svade",
  ...["mscratch", "mepc", "mcause", "mtval", "mcycle", "minstret"],
  ...Array.from({ length: 16 }, (_, i) => `pmpcfg${i}`),
  ...Array.from({ length: 16 }, (_, i) => `pmpaddr${i}`),
];
const RUN_STATE = [
  ...["mip", "halted", "startAddress", "startArgument", "suspendType", "stealTimeShmem", "stealNs"],
  ...["timerTime", "timerCompare", "fwft", "pmuRuns", "pmuSnapshot"],
  ...Array.from({ length: 19 }, (_, i) => `pmuEvent${i}`),
  ...Array.from({ length: 19 }, (_, i) => `pmuValue${i}`),
];

test("RUNTIME writes registers and neither timer, MP state, pending interrupts nor SBI state", async () => {
  expect((await written(PUT.RUNTIME)).toSorted()).toEqual(GENERAL.toSorted());
});

test.each(["RESET", "FULL"] as const)(
  "%s writes everything, MP state, and clears the reservation",
  async (level) => {
    const log = await written(PUT[level]);
    expect(log.toSorted()).toEqual([...GENERAL, ...RUN_STATE, "mp=0", "reservation"].toSorted());
    // INIT_RECEIVED resumes at the start address, which must be set first.
    expect(log.indexOf("mp=0")).toBeGreaterThan(log.indexOf("startArgument"));
  },
);

test("everything that the cached copy has is fetched", async () => {
  const { cpus, vcpus } = harts(1);
  const vcpu = vcpus[0] as RecordingVcpu;
  for (const [i, { id }] of CPU_ROWS.entries()) vcpu.registers.set(id, BigInt(i + 1));
  vcpu.mpState = MP_STATE.SUSPENDED;
  await cpus.synchronizeAllStates();
  const { state, common } = cpus.all[0] as Cpu;
  for (const [i, { field, element }] of CPU_ROWS.entries()) {
    const value = field === "halted" ? common.halted : state[field];
    const expected = element === undefined ? value : (value as ArrayLike<bigint | number>)[element];
    expect([field, element, BigInt(expected as bigint)]).toEqual([field, element, BigInt(i + 1)]);
  }
  expect(state.mpState).toBe(MP_STATE.SUSPENDED);
  const fields = new Set<string>(CPU_ROWS.map((r) => r.field));
  expect(Object.keys(state).filter((k) => !fields.has(k))).toEqual([
    "mpState",
    // Registers of another VMM, which no vCPU has.
    ...["keptVersion", "keptLength", "kept"],
  ]);
});

test.each([
  [true, [MP_STATE.RUNNABLE, MP_STATE.STOPPED, MP_STATE.STOPPED]],
  [false, [MP_STATE.RUNNABLE, MP_STATE.RUNNABLE, MP_STATE.RUNNABLE]],
])("a system reset (built-in firmware: %s) starts the right harts", async (builtin, mpStates) => {
  const { cpus, vcpus } = harts(3, builtin);
  for (const vcpu of vcpus) {
    vcpu.mpState = MP_STATE.SUSPENDED;
    for (const { id } of CPU_ROWS) vcpu.registers.set(id, 1n);
  }
  cpus.resetVector = 0x1000n;
  await cpus.synchronizeAllStates();
  cpus.resetAll();
  cpus.synchronizeAllPostReset();
  expect(vcpus.map((v) => v.mpState)).toEqual(mpStates);
  for (const vcpu of vcpus) {
    expect(vcpu.registers.get(PC)).toBe(0x1000n);
    for (const cleared of [
      "mip",
      "halted",
      "startAddress",
      "startArgument",
      "suspendType",
      "fwft",
      "pmuRuns",
      "pmuSnapshot",
    ] as const) {
      expect([cleared, vcpu.registers.get(oneRegOf(cleared))]).toEqual([cleared, 0n]);
    }
    expect(vcpu.registers.get(oneRegOf("priv"))).toBe(builtin ? 1n : 3n);
    // A and D bits are updated from the reset on in M-mode, whose firmware decides.
    expect(vcpu.registers.get(oneRegOf("svade"))).toBe(builtin ? 1n : 0n);
    const scounteren = CPU_ROWS.find((row) => row.field === "scounteren")?.id as bigint;
    expect(vcpu.registers.get(scounteren)).toBe(builtin ? 7n : 0n);
    expect(vcpu.registers.get(oneReg(REG_TYPE.TIMER, 1))).toBe(0n);
    expect(vcpu.registers.get(oneReg(REG_TYPE.TIMER, 2))).toBe(2n ** 64n - 1n);
    expect(vcpu.registers.get(oneReg(REG_TYPE.SBI_STATE, 0))).toBe(2n ** 64n - 1n);
  }
});

test("a reset of states that were not synchronised is refused", () => {
  expect(() => harts(1).cpus.resetAll()).toThrow(CpusError);
});

test("before a load the copy is authoritative: it is never fetched over, and post-init writes it", async () => {
  const { cpus, vcpus } = harts(2);
  cpus.synchronizeAllPreLoad();
  for (const cpu of cpus.all) cpu.state.pc = 0x8000n + BigInt(cpu.id);
  await cpus.synchronizeAllStates();
  cpus.synchronizeAllPostInit();
  expect(vcpus.map((v) => [v.fetches, v.registers.get(PC)])).toEqual([
    [0, 0x8000n],
    [0, 0x8001n],
  ]);
  for (const vcpu of vcpus) vcpu.log.length = 0;
  cpus.synchronizeAllPostInit();
  expect(vcpus.flatMap((v) => v.log)).toEqual([]);
});

test("access to a running vCPU pauses only that one, writes back at RUNTIME, and resumes it", async () => {
  const { cpus, vcpus } = harts(2);
  cpus.resumeAll();
  const [, other] = vcpus as [RecordingVcpu, RecordingVcpu];
  other.log.length = 0;
  await cpus.synchronizeState(cpus.all[0] as Cpu, (state) => (state.pc = 0x1234n));
  expect(vcpus[0]?.registers.get(PC)).toBe(0x1234n);
  expect(vcpus[0]?.log).not.toContain("timerCompare");
  expect(vcpus.map((v) => v.paused)).toEqual([false, false]);
  expect(other.log).toEqual([]);
});

test("access on a stopped machine leaves it stopped; a change takes effect on resume", async () => {
  const { cpus, vcpus } = harts(1);
  const [cpu] = cpus.all as [Cpu];
  await cpus.synchronizeState(cpu, (state) => (state.pc = 4n));
  expect(await cpus.synchronizeState(cpu, (state) => state.pc)).toBe(4n);
  expect(vcpus[0]?.log).toEqual([]);
  cpus.resumeAll();
  expect(vcpus[0]?.registers.get(PC)).toBe(4n);
  expect(vcpus[0]?.log.at(-1)).toBe("resume");
});

test("concurrent accesses to one vCPU do not interfere", async () => {
  const { cpus, vcpus } = harts(1);
  cpus.resumeAll();
  const [cpu] = cpus.all as [Cpu];
  await Promise.all(Array.from({ length: 4 }, () => cpus.synchronizeState(cpu, (state) => (state.pc += 4n))));
  expect(vcpus[0]?.registers.get(PC)).toBe(16n);
  expect(vcpus[0]?.paused).toBe(false);
});

test("a failing access resumes the vCPU", async () => {
  const { cpus, vcpus } = harts(1);
  cpus.resumeAll();
  const access = cpus.synchronizeState(cpus.all[0] as Cpu, () => {
    throw new RangeError("no");
  });
  await expect(access).rejects.toThrow("no");
  expect(vcpus[0]?.paused).toBe(false);
});

test("a vCPU accessed while the machine stops stays stopped", async () => {
  const { cpus, vcpus } = harts(2);
  cpus.resumeAll();
  const access = cpus.synchronizeState(cpus.all[0] as Cpu, (state) => state.pc);
  await cpus.pauseAll();
  await access;
  expect(vcpus.map((v) => v.paused)).toEqual([true, true]);
});

test("a vCPU accessed while the machine stops and starts again runs afterwards", async () => {
  const { cpus, vcpus } = harts(1);
  cpus.resumeAll();
  const access = cpus.synchronizeState(cpus.all[0] as Cpu, (state) => (state.pc = 8n));
  const stopped = cpus.pauseAll();
  cpus.resumeAll();
  await Promise.all([access, stopped]);
  expect(vcpus[0]?.paused).toBe(false);
  expect(vcpus[0]?.registers.get(PC)).toBe(8n);
});
