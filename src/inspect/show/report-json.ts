// A report as JSON. Integers of any width are written in full (JSON has no limit; JavaScript's parser rounds
// them beyond 2^53), bytes in hexadecimal, the heat map as averages. The VMDESCRIPTION is omitted, because
// the fields have its names.
import type { StreamReport } from "../model/stream-report.ts";
import { heatCells } from "./report-text.ts";

/**
 * A report as text, indented by two spaces. A report with millions of fields exceeds the longest string: use
 * `reportPieces`.
 */
export function reportJson(report: StreamReport): string {
  let text = "";
  for (const piece of reportPieces(report)) text += piece;
  return text;
}

/** The same text in pieces. */
export function reportPieces(report: StreamReport): Generator<string> {
  const { vmDescription: _, ram, ...rest } = report;
  const blocks = ram.map(({ heat, ...block }) => ({ ...block, heat: heatCells(heat) }));
  return jsonPieces({ ...rest, ram: blocks });
}

/** Bytes in one piece. */
const HEX_BYTES = 16 * 1024;

/** Any part of a report in short pieces, equal to JSON.stringify with two spaces. */
export function* jsonPieces(value: unknown, indent = ""): Generator<string> {
  if (value instanceof Uint8Array) {
    yield '"';
    yield* hexPieces(value);
    yield '"';
    return;
  }
  if (typeof value !== "object" || value === null) {
    yield typeof value === "bigint" ? value.toString() : (JSON.stringify(value) ?? "null");
    return;
  }
  const isList = Array.isArray(value);
  const members = Object.entries(value).filter(([, member]) => isList || member !== undefined);
  const [open, close] = isList ? "[]" : "{}";
  yield open as string;
  let separator = "\n";
  for (const [name, member] of members) {
    yield `${separator}${indent}  ${isList ? "" : `${JSON.stringify(name)}: `}`;
    yield* jsonPieces(member, `${indent}  `);
    separator = ",\n";
  }
  yield `${members.length === 0 ? "" : `\n${indent}`}${close}`;
}

/** Bytes as hexadecimal digits. */
export function* hexPieces(bytes: Uint8Array): Generator<string> {
  for (let at = 0; at < bytes.length; at += HEX_BYTES) yield hexText(bytes.subarray(at, at + HEX_BYTES));
}

function hexText(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += byte.toString(16).padStart(2, "0");
  return text;
}
