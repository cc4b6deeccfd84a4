// Formats a report as text: the overview of a stream, the fields of a section, bytes in hexadecimal. Lines
// have no line ends. Control characters in a stream's text are escaped, because a terminal would execute
// them.
import { hex } from "../../base/hex.ts";
import type { Field, Problem, RamBlockReport, SectionReport, StreamReport } from "../model/stream-report.ts";

/** A size with its unit: 4 KiB, 1.5 GiB. */
export function sizeText(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  let value = bytes;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${Number.isInteger(value) ? value : value.toFixed(1)} ${units[unit]}`;
}

/** Escapes control characters in text from a stream. */
export function printable(text: string): string {
  return text.replaceAll(/\p{Cc}/gu, (char) => `\\x${char.charCodeAt(0).toString(16).padStart(2, "0")}`);
}

function table(rows: readonly (readonly string[])[], right: readonly number[]): string[] {
  const widths = rows.reduce<number[]>(
    (all, row) => row.map((cell, i) => Math.max(all[i] ?? 0, cell.length)),
    [],
  );
  return rows.map((row) =>
    row
      .map((cell, i) => (right.includes(i) ? cell.padStart(widths[i] ?? 0) : cell.padEnd(widths[i] ?? 0)))
      .join("  ")
      .trimEnd(),
  );
}

export const sectionName = ({ idstr, instanceId }: SectionReport): string => `${idstr}/${instanceId}`;

/** The overview of a stream. */
export function overview(report: StreamReport): string[] {
  const { channel, configuration, capabilities, commands, iterative, integrity } = report;
  const opened = report.problem === undefined ? "complete" : "incomplete";
  const machine =
    configuration === undefined ? "unknown (no configuration section)" : printable(configuration.machine);
  const what =
    channel === undefined
      ? [
          `stream         version ${report.streamVersion}, ${report.size} bytes read, ${opened}`,
          `machine        ${machine}`,
        ]
      : [
          `multifd        channel ${channel.id}, ${channel.packets} packets, ${report.size} bytes read, ${opened}`,
        ];
  const lines = [...what, `target page    ${sizeText(report.pageSize)}`];
  for (const { name, children = [] } of configuration?.fields ?? []) {
    for (const field of children) {
      if (name !== "configuration/capabilities" && field.name !== "header")
        lines.push(`${name.replace("configuration/", "").padEnd(14)} ${valueText(field)}`);
    }
  }
  if (capabilities.length > 0) lines.push(`capabilities   ${printable(capabilities.join(", "))}`);
  if (integrity !== undefined) lines.push(`hashes         ${INTEGRITY[integrity]}`);
  // Spreading into push would fail: there may be more lines than a call can have arguments.
  const add = (title: string, body: readonly string[]): void => {
    lines.push("", title);
    for (const line of indent(body)) lines.push(line);
  };
  if (report.sections.length > 0) add("sections", sectionTable(report));
  if (report.ram.length > 0) add("ram", ramLines(report.ram));
  for (const { idstr, instanceId, counts, names } of iterative) {
    const parts = Object.entries(counts).map(([name, count]) => `${name} ${count}`);
    const listed = names.length > 0 ? [printable(names.join(", "))] : [];
    add(`${printable(idstr)}/${instanceId}`, [parts.join(", ") || "nothing", ...listed]);
  }
  if (commands.length > 0) add("commands", commandLines(report));
  if (report.warnings.length > 0) add("warnings", report.warnings.flatMap(problemLines));
  if (report.problem !== undefined) add("stops here", problemLines(report.problem));
  return lines;
}

const INTEGRITY = {
  agrees: "all bytes are unchanged since they were saved (wherry/integrity)",
  differs: "DIFFER: bytes were changed after they were saved (wherry/integrity)",
  "not checked": "not compared: needs a file, not a pipe (wherry/integrity)",
};

const indent = (lines: readonly string[]): string[] => lines.map((line) => (line === "" ? "" : `  ${line}`));

/** Place, difference, cause and remedy. */
export function problemLines(problem: Problem): string[] {
  const at = problem.offset === undefined ? "" : ` at offset ${hex(problem.offset)}`;
  const lines = [
    `${printable(problem.where)}${at}: expected ${printable(problem.expected)}, found ${printable(problem.found)} [${problem.code}]`,
  ];
  if (problem.cause !== undefined) lines.push(`  cause: ${problem.cause}`);
  return [...lines, `  to do: ${problem.cure}`];
}

const countFields = (fields: readonly Field[]): number =>
  fields.reduce((sum, { children }) => sum + (children === undefined ? 1 : countFields(children)), 0);

const ARE_PARTS = new Set(["part", "end"]);

function sectionTable({ sections }: StreamReport): string[] {
  const rows = [["id", "section", "kind", "version", "priority", "offset", "bytes", "fields", ""]];
  for (let i = 0; i < sections.length; i++) {
    const section = sections[i]!;
    let { size } = section;
    let count = 1;
    // Consecutive parts of one section are one line.
    for (
      ;
      section.kind === "part" && sections[i + 1]?.kind === "part" && sections[i + 1]?.id === section.id;
      i++
    ) {
      size += sections[i + 1]!.size;
      count++;
    }
    const { unaccounted } = section;
    const fields =
      ARE_PARTS.has(section.kind) || section.fields.length === 0 ? "" : `${countFields(section.fields)}`;
    rows.push([
      `${section.id}`,
      printable(sectionName(section)),
      count > 1 ? `${count} parts` : section.kind,
      `${section.version}`,
      section.priority?.replace(/^MIG_PRI_/, "").toLowerCase() ?? "",
      hex(section.offset),
      `${size}`,
      fields,
      unaccounted === 0 ? "" : `${unaccounted} ${unaccounted === 1 ? "byte" : "bytes"} not decoded`,
    ]);
  }
  return table(rows, [0, 3, 5, 6, 7]);
}

const HEAT_CELLS = 64;
const HEAT_LEAST_PAGES = 256;

function ramLines(blocks: readonly RamBlockReport[]): string[] {
  const rows = [["block", "size", "full", "zero", "xbzrle", "deflated", "pages", "resent"]];
  for (const { name, size, records, pages, repeated } of blocks) {
    const { page, zero, xbzrle, compressed } = records;
    const numbers = [page, zero, xbzrle, compressed, pages, repeated].map(String);
    rows.push([printable(name), sizeText(size), ...numbers]);
  }
  const lines = table(rows, [1, 2, 3, 4, 5, 6, 7]);
  for (const block of blocks) {
    const { name, address, hostPageSize, mapped, zeroContent, pageSize } = block;
    const more = [
      ...(pageSize === blocks[0]?.pageSize ? [] : [`pages of ${sizeText(pageSize)}`]),
      ...(hostPageSize === undefined ? [] : [`host pages of ${sizeText(hostPageSize)}`]),
      ...(address === undefined ? [] : [`at guest address ${hex(address)}`]),
      ...(mapped === undefined ? [] : [`pages at file offset ${hex(mapped.pagesOffset)}`]),
      ...(zeroContent === undefined || zeroContent === 0
        ? []
        : [`${zeroContent} of the full pages are zeros`]),
    ];
    if (more.length > 0) lines.push(`${printable(name)}: ${more.join(", ")}`);
  }
  const hot = blocks.filter(
    ({ heat, pages, repeated }) =>
      pages > 0 && heat.length >= HEAT_LEAST_PAGES && (repeated > 0 || pages < heat.length),
  );
  if (hot.length === 0) return lines;
  lines.push("", "heat (records per page of each part: blank none, . below one, 1 to 9, # more)");
  for (const { name, heat } of hot) {
    lines.push(`|${heatLine(heat)}| ${printable(name)}`);
  }
  return lines;
}

/** Average number of records per page, for each part of a block; one part per cell. */
export function heatCells(heat: Uint8Array, cells = HEAT_CELLS): number[] {
  const n = Math.min(cells, heat.length);
  return Array.from({ length: n }, (_, cell) => {
    const first = Math.floor((cell * heat.length) / n);
    const end = Math.floor(((cell + 1) * heat.length) / n);
    let sum = 0;
    for (let page = first; page < end; page++) sum += heat[page]!;
    return sum / (end - first);
  });
}

function heatLine(heat: Uint8Array): string {
  const cells = heatCells(heat).map((average) => {
    if (average === 0) return " ";
    if (average < 1) return ".";
    return average < 9.5 ? `${Math.round(average)}` : "#";
  });
  return cells.join("");
}

function commandLines({ commands }: StreamReport): string[] {
  const rows: string[][] = [];
  for (let i = 0; i < commands.length; i++) {
    const { offset, name, meaning = "" } = commands[i]!;
    let again = 0;
    while (
      commands[i + 1]?.name === name &&
      commands[i + 1]?.meaning !== meaning &&
      name === "POSTCOPY_RAM_DISCARD"
    ) {
      again++;
      i++;
    }
    const more = again > 0 ? ` (and ${again} more of these)` : "";
    rows.push([hex(offset), name, printable(meaning) + more]);
  }
  return table(rows, [0]);
}

/** Longest text of a value; `--field` and JSON have the whole value. */
const MAX_VALUE = 64;

/** A field's value on one line; at most `limit` bytes are shown. */
export function valueText({ value, meaning, type, size }: Field, limit = MAX_VALUE): string {
  const words = meaning === undefined ? "" : ` (${printable(meaning)})`;
  if (value === undefined) return words.trim();
  if (typeof value === "boolean") return `${value}${words}`;
  if (typeof value === "string") return `"${printable(value)}"${words}`;
  if (value instanceof Uint8Array) {
    if (value.length > 8 && limit === MAX_VALUE && value.every((byte) => byte === 0)) {
      return `${value.length} bytes of zeros${words}`;
    }
    const shown = value.subarray(0, limit / 2);
    const more = value.length > shown.length ? `… ${value.length} bytes` : "";
    const text = asText(value);
    return `${bytesHex(shown)}${more}${text === undefined ? "" : ` "${text}"`}${words}`;
  }
  if (value < 0n || /^(int|timer)/.test(type)) {
    const unsigned = BigInt.asUintN(size * 8, value);
    return value > -10n && value < 10n ? `${value}${words}` : `${value} (${hex(unsigned)})${words}`;
  }
  return value < 10n ? `${value}${words}` : `${hex(value)} (${value})${words}`;
}

/** Text in a zero-padded buffer, such as a name or state. */
function asText(bytes: Uint8Array): string | undefined {
  const end = bytes.indexOf(0);
  const text = String.fromCharCode(...bytes.subarray(0, Math.min(end < 0 ? bytes.length : end, MAX_VALUE)));
  const padding = end < 0 || bytes.subarray(end).every((byte) => byte === 0);
  return padding && text.length > 2 && text.length < MAX_VALUE && /^[\x20-\x7e]+$/.test(text)
    ? text
    : undefined;
}

function bytesHex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** A section's head and all its fields. */
export function sectionText(section: SectionReport): string[] {
  const { vmsdName, version, priority, dataOffset, size } = section;
  const named = vmsdName === undefined || vmsdName === section.idstr ? "" : ` (${printable(vmsdName)})`;
  const order = priority === undefined ? "" : `, priority ${priority}`;
  const head = `section ${printable(sectionName(section))}${named}: version ${version}${order}, ${size} bytes at ${hex(dataOffset)}`;
  return [head, ...indent(fieldLines(section.fields))];
}

/** Elements per row in arrays of numbers without descriptions. */
const ROW = 8;

export function fieldLines(fields: readonly Field[]): string[] {
  return fields.flatMap((field) => {
    const { name, type, children } = field;
    const head = `${printable(name)}: ${printable(type)}`;
    if (children === undefined) return [`${head} ${valueText(field)}`.trimEnd()];
    const words = field.meaning === undefined ? "" : ` (${printable(field.meaning)})`;
    const plain = children.every(
      (c) => typeof c.value === "bigint" && c.meaning === undefined && c.name.startsWith("["),
    );
    if (!plain || children.length < 2) return [`${head}${words}`, ...indent(fieldLines(children))];
    return [`${head}${words}`, ...indent(numberRows(children))];
  });
}

function numberRows(elements: readonly Field[]): string[] {
  const texts = elements.map(({ value }) =>
    typeof value === "bigint" ? hex(value).replace("0x-", "-0x") : "",
  );
  const lines: string[] = [];
  let zeros = false;
  for (let i = 0; i < texts.length; i += ROW) {
    const row = texts.slice(i, i + ROW);
    const empty = row.every((text) => text === "0x0");
    const last = i + ROW >= texts.length;
    if (empty && zeros && !last) continue;
    if (
      empty &&
      !last &&
      texts.slice(i, i + 2 * ROW).every((text) => text === "0x0") &&
      texts.length > 2 * ROW
    ) {
      if (!zeros) lines.push(`[${i}] 0x0 …`);
      zeros = true;
      continue;
    }
    zeros = false;
    lines.push(`[${i}] ${row.join(" ")}`);
  }
  return lines;
}

/** Sixteen bytes per line, with their stream offsets. */
export function* hexdump(bytes: Uint8Array, offset: number): Generator<string> {
  for (let at = 0; at < bytes.length; at += 16) {
    const row = bytes.subarray(at, at + 16);
    const numbers = Array.from(row, (byte) => byte.toString(16).padStart(2, "0"));
    const left = numbers.slice(0, 8).join(" ");
    const right = numbers.slice(8).join(" ");
    const chars = String.fromCharCode(...row).replaceAll(/[^\x20-\x7e]/g, ".");
    yield `${(offset + at).toString(16).padStart(8, "0")}  ${left.padEnd(23)}  ${right.padEnd(23)}  |${chars}|`;
  }
}
