// The state of a hart: the fields of the register table's rows. The engine defines its layout in shared
// memory.
import { defineState } from "../state/schema.ts";
import { registerEntries, type RegisterName, REGISTERS } from "./registers.ts";

type Rows = typeof REGISTERS;
type HartFields = {
  readonly [K in keyof Rows as Rows[K] extends { readonly field: unknown } ? K : never]: Rows[K] extends {
    readonly field: infer F;
  }
    ? F
    : never;
};
export type HartField = keyof HartFields;
export const isHartField = (register: RegisterName): register is HartField => "field" in REGISTERS[register];

const fields = Object.fromEntries(
  registerEntries.flatMap(([name, { field }]) => (field === undefined ? [] : [[name, field]])),
) as HartFields;

export const hartState = defineState("riscv_hart", { version: 1, minimumVersion: 1 }, fields);
