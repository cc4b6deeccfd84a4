// The invariant of every decoder: fields cover their bytes in order, without gap or overlap, and the sizes of children add
// up to their parent's. For tests and for the fuzzer.
import type { Field } from "../model.ts";

/** What is wrong with fields that should cover `size` bytes from `offset`, a line each; empty if nothing is. */
export function accountingErrors(
  fields: readonly Field[],
  offset: number,
  size: number,
  path = "",
): string[] {
  const errors: string[] = [];
  let at = offset;
  for (const field of fields) {
    const name = path === "" ? field.name : `${path}.${field.name}`;
    if (field.offset !== at) errors.push(`${name}: at ${field.offset}, expected at ${at}`);
    if (field.children !== undefined) {
      errors.push(...accountingErrors(field.children, field.offset, field.size, name));
    } else if (field.value === undefined) {
      errors.push(`${name}: neither value nor children`);
    }
    at = field.offset + field.size;
  }
  if (at !== offset + size) errors.push(`${path || "all"}: ends at ${at}, expected ${offset + size}`);
  return errors;
}
