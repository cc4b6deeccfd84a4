// A report as JSON. Integers are written in full whatever their width (JSON sets no limit; JavaScript's own parser rounds
// those beyond 2^53), bytes as hexadecimal, heat as averages. The VMDESCRIPTION is left out: its names are the fields'.
import type { StreamReport } from "./model.ts";
import { heatCells } from "./text.ts";

// In V8 since 2023, in the other browsers' engines since 2025, not yet in the compiler's library.
const { rawJSON } = JSON as unknown as { rawJSON: (text: string) => unknown };

/** Indented by two spaces. */
export function reportJson(report: StreamReport): string {
  const { vmDescription: _, ram, ...rest } = report;
  const blocks = ram.map(({ heat, ...block }) => ({ ...block, heat: heatCells(heat) }));
  return stringify({ ...rest, ram: blocks });
}

/** Any part of a report. */
export function stringify(value: unknown): string {
  return JSON.stringify(value, replace, 2);
}

function replace(_key: string, value: unknown): unknown {
  if (typeof value === "bigint") return rawJSON(value.toString());
  if (!(value instanceof Uint8Array)) return value;
  let text = "";
  for (const byte of value) text += byte.toString(16).padStart(2, "0");
  return text;
}
