// The invariant of every decoder: fields cover their bytes in order, without gap or overlap, and the sizes of
// children add up to their parent's. For tests and the fuzzer.
import type { Field } from "../../src/inspect/model/stream-report.ts";

/** Errors of fields that should cover `size` bytes from `offset`, one per line; empty if there are none. */
export function accountingErrors(fields: readonly Field[], offset: number, size: number): string[] {
  const errors: string[] = [];
  let at = offset;
  for (const { name, offset: start, size: length, children, value } of fields) {
    if (start !== at) errors.push(`${name}: at ${start}, expected at ${at}`);
    if (children !== undefined) {
      errors.push(...accountingErrors(children, start, length).map((error) => `${name}.${error}`));
    } else if (value === undefined) {
      errors.push(`${name}: neither value nor children`);
    }
    at = start + length;
  }
  if (at !== offset + size) errors.push(`all: ends at ${at}, expected ${offset + size}`);
  return errors;
}
