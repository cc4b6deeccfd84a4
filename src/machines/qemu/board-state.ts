// Sections of QEMU's `virt` board that differ in shape from the same device here: the virtual clock, the
// timers of the ACLINT, the PLIC and fw_cfg. Names and order are those of the VMDESCRIPTIONs of the three
// releases.
import {
  bool,
  qemuState,
  i64,
  type StateDefinition,
  type StateOf,
  subsection,
  u16,
  u32,
  u32Array,
  u64,
  u64Array,
  unused,
} from "../../state/schema.ts";
import { PLIC_NDEV } from "../boot/virt-map.ts";

/** With source 0, which means none. */
export const PLIC_SOURCES = PLIC_NDEV + 1;
export const PLIC_WORDS = 3;

/** `clock` is QEMU_CLOCK_VIRTUAL in ns. `ticks` are the host's ticks while the machine ran. */
export const clockState = qemuState(
  "timer",
  { version: 2, minimumVersion: 2 },
  {
    ticks: i64.named("cpu_ticks_offset"),
    unused: unused(8),
    clock: i64
      .named("cpu_clock_offset")
      .check((ns) => (ns >= 0n ? undefined : "a time that is not negative")),
  },
);

/** `interruptRequest` has QEMU's CPU_INTERRUPT_* bits. */
export const commonState = qemuState(
  "cpu_common",
  { version: 1, minimumVersion: 1 },
  { halted: u32.range(0, 1), interruptRequest: u32 },
);

function defineMtimer(version: number, harts: number) {
  const timed = (): boolean => version === 3;
  return qemuState(
    "riscv_mtimer",
    { version, minimumVersion: version },
    {
      /** mtime − virtual clock, in ticks. Nonzero once the guest was reset. Version 1 does not send it. */
      delta: u64.when(timed).named("time_delta"),
      timecmp: u64Array(harts),
      timers: u64Array(harts).when(timed).typed("timer"),
    },
  );
}
export type MtimerState = StateOf<ReturnType<typeof defineMtimer>>;

export function mtimerDefinition(version: number, harts: number): StateDefinition<MtimerState> {
  return defineMtimer(version, harts);
}

function definePlic(harts: number) {
  return qemuState(
    "riscv_sifive_plic",
    { version: 1, minimumVersion: 1 },
    {
      sourcePriority: u32Array(PLIC_SOURCES),
      targetPriority: u32Array(2 * harts),
      pending: u32Array(PLIC_WORDS),
      claimed: u32Array(PLIC_WORDS),
      enable: u32Array(2 * harts * PLIC_WORDS),
    },
  );
}
export type QemuPlicState = StateOf<ReturnType<typeof definePlic>>;

export function plicDefinition(harts: number): StateDefinition<QemuPlicState> {
  return definePlic(harts);
}

/** With ACPI (10.0 and later) it has the lengths of the tables, which are generated at each start. */
export const fwCfgWithAcpiState = qemuState(
  "fw_cfg",
  { version: 2, minimumVersion: 2 },
  { curEntry: u16, curOffset: u32.named("cur_offset[1]") },
  [
    subsection("fw_cfg/dma", { version: 0, needed: () => true }, { dmaAddr: u64 }),
    subsection(
      "fw_cfg/acpi_mr",
      { version: 1, needed: () => false },
      {
        tables: u64.named("table_mr_size"),
        linker: u64.named("linker_mr_size"),
        rsdp: u64.named("rsdp_mr_size"),
      },
    ),
  ],
);

/** Whether firmware has fetched the ACPI tables. */
export const acpiBuildState = qemuState(
  "virt_acpi_build",
  { version: 1, minimumVersion: 1 },
  { patched: bool },
);
