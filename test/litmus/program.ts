// Litmus programs: a few memory operations for each hart, on variables x, y, z in separate cache lines. The
// model (rvwmo.ts) computes the allowed outcomes of a program, and the guest (guest.ts) executes it.

export type Variable = "x" | "y" | "z";
export const VARIABLES: readonly Variable[] = ["x", "y", "z"];

/** Ordering bits of an AMO, LR or SC. */
export type Ordering = "" | ".aq" | ".rl" | ".aqrl";

interface Dependent {
  /**
   * The address (`addr`) or a store's data (`data`) depends on this register of the hart, or a branch on it
   * precedes the operation (`ctrl`).
   */
  readonly after?: { readonly kind: "addr" | "data" | "ctrl"; readonly register: string };
}
export interface Load extends Dependent {
  readonly op: "load";
  readonly variable: Variable;
  readonly register: string;
}
export interface Store extends Dependent {
  readonly op: "store";
  readonly variable: Variable;
  readonly value: number;
}
export interface Amo {
  readonly op: "amo";
  readonly kind: "swap" | "add" | "or";
  readonly variable: Variable;
  readonly value: number;
  readonly register: string;
  readonly ordering: Ordering;
}
/**
 * Load-reserved and store-conditional to the same variable, repeated until the SC succeeds: register = old,
 * variable = old + value.
 */
export interface Exchange {
  readonly op: "lrsc";
  readonly variable: Variable;
  readonly value: number;
  readonly register: string;
  readonly lr: Ordering;
  readonly sc: Ordering;
}
export interface Fence {
  readonly op: "fence";
  readonly before: "r" | "w" | "rw" | "tso";
  readonly after: "r" | "w" | "rw" | "tso";
}
export type Operation = Load | Store | Amo | Exchange | Fence;

export interface LitmusTest {
  readonly name: string;
  readonly harts: readonly (readonly Operation[])[];
  /** Variables whose final values are part of the outcome, after the registers. */
  readonly last?: readonly Variable[];
}

/** Values of an outcome, such as "a=1 b=0 x=2". */
export type Outcome = string;

/** Registers of all harts in the order of their first appearance; names are distinct among harts. */
export function registersOf(test: LitmusTest): { hart: number; register: string }[] {
  return test.harts.flatMap((operations, hart) =>
    operations.flatMap((o) => ("register" in o ? [{ hart, register: o.register }] : [])),
  );
}

// Short forms for tests.

type After = Dependent["after"];
const dependent = (after: After): Dependent => (after === undefined ? {} : { after });
export const R = (variable: Variable, register: string, after?: After): Load => ({
  op: "load",
  variable,
  register,
  ...dependent(after),
});
export const W = (variable: Variable, value: number, after?: After): Store => ({
  op: "store",
  variable,
  value,
  ...dependent(after),
});
export const F = (before: Fence["before"], after: Fence["after"] = before): Fence => ({
  op: "fence",
  before,
  after,
});
export const AMO = (
  kind: Amo["kind"],
  variable: Variable,
  value: number,
  register: string,
  ordering: Ordering = "",
): Amo => ({ op: "amo", kind, variable, value, register, ordering });
export const LRSC = (
  variable: Variable,
  value: number,
  register: string,
  lr: Ordering = "",
  sc: Ordering = "",
): Exchange => ({ op: "lrsc", variable, value, register, lr, sc });
export const addr = (register: string): After => ({ kind: "addr", register });
export const data = (register: string): After => ({ kind: "data", register });
export const ctrl = (register: string): After => ({ kind: "ctrl", register });
