// A RISC-V vCPU's state as the VMM holds it (the cached copy), and what of it is written back when: both made
// of the register table (src/riscv/registers.ts), whose order is that of the `cpu` section.
import { RISCV_MP_STATES } from "../accelerator/mp-state.ts";
import { ONE_REG_ROWS } from "../accelerator/one-reg-ids.ts";
import type { Register } from "../riscv/register-row.ts";
import { registerEntries, REGISTERS } from "../riscv/registers.ts";
import { defineState, type StateOf, subsection, u32, varBuffer } from "../state/schema.ts";

/** QEMU's KVM_PUT_*_STATE. */
export const PUT = { RUNTIME: 1, RESET: 2, FULL: 3 } as const;
export type PutLevel = (typeof PUT)[keyof typeof PUT];

type Rows = typeof REGISTERS;
type InCopy = { readonly copyField: unknown } | { readonly field: unknown; readonly oneReg: unknown };
type InSubsection = { readonly subsection: true };
type NameOf<K extends keyof Rows> = Rows[K] extends { readonly copyName: infer N extends string } ? N : K;
type FieldOf<R> = R extends { readonly copyField: infer F } | { readonly field: infer F } ? F : never;
type CopyFields = {
  readonly [K in keyof Rows as Rows[K] extends InCopy
    ? Rows[K] extends InSubsection
      ? never
      : NameOf<K>
    : never]: FieldOf<Rows[K]>;
};
type SubsectionFields = {
  [K in keyof Rows as Rows[K] extends InSubsection ? NameOf<K> : never]: FieldOf<Rows[K]>;
};

const copyFieldOf = ({ copyField, field, oneReg }: Register) =>
  copyField ?? (oneReg === undefined ? undefined : field);
const copyFields = Object.fromEntries(
  registerEntries.flatMap(([name, row]) => {
    const field = copyFieldOf(row);
    return field === undefined || row.subsection ? [] : [[row.copyName ?? name, field]];
  }),
) as CopyFields;
const isZero = (value: unknown): boolean =>
  typeof value === "object" ? (value as BigUint64Array).every((v) => v === 0n) : Number(value) === 0;
const subsectionFields = registerEntries.flatMap(([name, { subsection: isInSubsection, field }]) =>
  isInSubsection === undefined || field === undefined
    ? []
    : subsection(`cpu/${name}`, { version: 1, needed: (s) => !isZero(s[name]) }, {
        [name]: field,
      } as unknown as SubsectionFields),
);

const mpState = copyFields.mpState.check((m) =>
  RISCV_MP_STATES.includes(m) ? undefined : `one of ${RISCV_MP_STATES.join(", ")}`,
);

/**
 * `kept` is this hart's section of another VMM's stream as it was last loaded, and `keptVersion` its version:
 * its content that no hart here has is written back if the guest returns. A reset clears it.
 */
export const cpuState = defineState("cpu", { version: 1, minimumVersion: 1 }, { ...copyFields, mpState }, [
  subsection(
    "cpu/kept",
    { version: 1, needed: (s) => s.keptVersion !== 0 },
    { keptVersion: u32, keptLength: u32, kept: varBuffer("keptLength", 16384) },
  ),
  ...subsectionFields,
]);
export type CpuState = StateOf<typeof cpuState>;

/**
 * QEMU's cpu_common: waiting in WFI. `interruptRequest` is always 0 here: lines are driven again after a
 * load.
 */
export const cpuCommonState = defineState(
  "cpu_common",
  { version: 1, minimumVersion: 1 },
  { halted: u32.range(0, 1), interruptRequest: u32 },
);
export type CpuCommonState = StateOf<typeof cpuCommonState>;

interface Row {
  readonly field: keyof CopyFields | keyof SubsectionFields | "halted";
  readonly element: number | undefined;
  readonly id: bigint;
  /** Written at this level and higher levels. */
  readonly from: PutLevel;
}

/**
 * What is fetched and written back. KVM's partial views of mstatus, mie and mip are not: the whole registers
 * are.
 */
export const CPU_ROWS: readonly Row[] = ONE_REG_ROWS.flatMap(({ id, register, element }) => {
  const row: Register = REGISTERS[register];
  if (register !== "halted" && copyFieldOf(row) === undefined) return [];
  const field = (row.copyName ?? register) as Row["field"];
  return [{ field, element, id, from: PUT[row.level ?? "RUNTIME"] }];
});
