// Compares two streams of any writer: configuration, sections field by field, RAM page by page
// (diff-ram.ts). Sections are matched by idstr and instance, fields by name or place (diff-align.ts), so
// streams of different QEMUs, or of QEMU and Wherry, can be compared; differing layouts are reported as
// such. The order of sections, commands and the encoding of pages are ignored, because they are not part
// of the machine.
import { hex } from "../../base/hex.ts";
import { isHeader, pairFields, type Starts } from "./diff-align.ts";
import { diffRam, type RamDifference, type RamPages } from "./diff-ram.ts";
import type { Field, FieldValue, SectionReport, StreamReport } from "../model/stream-report.ts";
import { registerName } from "../decode/register-names.ts";

/** A field or section in which two streams differ. */
export interface Difference {
  /** `cpu/0/env.gpr[10]`, `0000:00:02.0/virtio-blk/0/virtio.vq[0].last_avail_idx`, `ram/pc.ram`. */
  readonly path: string;
  readonly kind: "changed" | "only in first" | "only in second" | "layout";
  /** The values as text; absent on the side that lacks the field or section. */
  readonly first?: string;
  readonly second?: string;
  /** The register's name, or the bits or flags that were set and cleared. */
  readonly meaning?: string;
}

/** All differences of two streams, in device state and in RAM. */
export interface StreamDifferences {
  readonly state: readonly Difference[];
  readonly ram: readonly RamDifference[];
}

/** Options of a comparison. */
export interface DiffOptions {
  /** Paths that are ignored, with everything below them; `*` stands for any characters. */
  readonly ignore?: readonly string[];
}

/** The section of hashes at the end of Wherry's own streams. */
const HASHES = /^wherry\/integrity\//;
const SHOWN_BYTES = 8;
const SHOWN_RANGES = 4;
/** Maximum number of differing bits to list; with more, the value is probably a number, not flags. */
const SHOWN_BITS = 2;

/**
 * Differences in order: configuration, sections in the order of the first stream, sections of the second
 * only, RAM.
 */
export function diffStreams(
  first: { report: StreamReport; ram?: RamPages },
  second: { report: StreamReport; ram?: RamPages },
  options: DiffOptions = {},
): StreamDifferences {
  const ignored = ignorer(options.ignore ?? []);
  const state: Difference[] = [];
  const hashes: Difference[] = [];
  let others = 0;
  const differ = new FieldDiff((difference) => {
    const isHash = HASHES.test(difference.path);
    if (!isHash) others++;
    if (!ignored(difference.path)) (isHash ? hashes : state).push(difference);
  });
  const [a, b] = [first.report, second.report];
  differ.text("configuration/machine", a.configuration?.machine, b.configuration?.machine);
  const named = (fields: readonly Field[] | undefined) =>
    (fields ?? []).filter(({ name }) => !["len", "name"].includes(name));
  differ.fields("configuration/", named(a.configuration?.fields), named(b.configuration?.fields));
  differ.sections(deviceSections(a), deviceSections(b));
  differ.blocks(a, b);
  const ram =
    first.ram === undefined || second.ram === undefined
      ? undefined
      : diffRam({ report: a, ram: first.ram }, { report: b, ram: second.ram });
  // The hashes differ whenever the contents do. They are reported only if no other difference was found.
  if (others === 0 && ram?.length === 0) state.push(...hashes);
  return { state: gathered(state), ram: (ram ?? []).filter(({ block }) => !ignored(`ram/${block}`)) };
}

/** Merges neighbouring elements of an array with the same difference into one: `pmp[16..63]`. */
function gathered(differences: readonly Difference[]): Difference[] {
  const found: Difference[] = [];
  const runs = new Map<string, { readonly place: number; readonly first: number; last: number }>();
  for (const difference of differences) {
    const [, head, index, tail] = /^(.*)\[(\d+)\]([^[]*)$/.exec(difference.path) ?? [];
    if (head === undefined) {
      found.push(difference);
      continue;
    }
    const { path: _path, meaning, ...rest } = difference;
    // Ignore a register's name for elements that one stream lacks.
    const shape = difference.kind === "changed" ? { ...rest, meaning } : rest;
    const key = JSON.stringify([shape, head, tail]);
    const run = runs.get(key);
    if (run?.last === Number(index) - 1) {
      run.last = Number(index);
      const shared = difference.kind === "changed" && meaning !== undefined ? { meaning } : {};
      found[run.place] = { ...rest, ...shared, path: `${head}[${run.first}..${run.last}]${tail}` };
    } else runs.set(key, { place: found.push(difference) - 1, first: Number(index), last: Number(index) });
  }
  return found;
}

/** Device sections by `idstr/instance`; `iterative` and `ram` have the sections with parts. */
function deviceSections(report: StreamReport): Map<string, SectionReport> {
  const found = new Map<string, SectionReport>();
  const seen = new Map<string, number>();
  for (const section of report.sections) {
    if (section.kind !== "full") continue;
    const name = `${section.idstr}/${section.instanceId}`;
    const count = (seen.get(name) ?? 0) + 1;
    seen.set(name, count);
    found.set(count === 1 ? name : `${name}#${count}`, section);
  }
  return found;
}

function ignorer(patterns: readonly string[]): (path: string) => boolean {
  const tests = patterns.map((pattern) => {
    const parts = pattern.split("*").map((part) => part.replace(/[.+?^${}()|[\]\\]/g, "\\$&"));
    return new RegExp(`^${parts.join(".*")}($|[/.[#])`);
  });
  return (path) => tests.some((test) => test.test(path));
}

class FieldDiff {
  readonly #report: (difference: Difference) => void;

  constructor(report: (difference: Difference) => void) {
    this.#report = report;
  }

  text(path: string, first: string | undefined, second: string | undefined): void {
    if (first !== second) this.#report({ path, kind: "changed", ...sides(first, second) });
  }

  sections(first: ReadonlyMap<string, SectionReport>, second: ReadonlyMap<string, SectionReport>): void {
    for (const [path, a] of first) {
      const b = second.get(path);
      if (b === undefined) {
        this.#report({ path, kind: "only in first", first: sectionText(a) });
        continue;
      }
      if (a.version !== b.version) {
        this.#report({ path, kind: "layout", first: `version ${a.version}`, second: `version ${b.version}` });
      }
      const starts = a.version === b.version ? ([a.dataOffset, b.dataOffset] as const) : undefined;
      this.fields(`${path}/`, a.fields, b.fields, starts);
    }
    for (const [path, b] of second) {
      if (!first.has(path)) this.#report({ path, kind: "only in second", second: sectionText(b) });
    }
  }

  blocks(a: StreamReport, b: StreamReport): void {
    const named = ({ ram }: StreamReport) => new Map(ram.map((block) => [block.name, block]));
    const [first, second] = [named(a), named(b)];
    for (const block of a.ram) {
      const path = `ram/${block.name}`;
      const other = second.get(block.name);
      if (other === undefined) this.#report({ path, kind: "only in first", first: `${block.size} bytes` });
      else if (other.size !== block.size) {
        const texts = { first: `${block.size} bytes`, second: `${other.size} bytes` };
        this.#report({ path, kind: "layout", ...texts });
      }
    }
    for (const block of b.ram) {
      if (first.has(block.name)) continue;
      this.#report({ path: `ram/${block.name}`, kind: "only in second", second: `${block.size} bytes` });
    }
    const counts = (report: StreamReport) =>
      new Map(
        report.iterative.map((item) => [
          `${item.idstr}/${item.instanceId}`,
          [...item.names, ...Object.entries(item.counts).map(([name, count]) => `${name} ${count}`)].join(
            ", ",
          ),
        ]),
      );
    const [left, right] = [counts(a), counts(b)];
    for (const path of new Set([...left.keys(), ...right.keys()])) {
      this.text(path, left.get(path), right.get(path));
    }
  }

  /** Compares fields by name, and with `starts` also by bytes. */
  fields(path: string, first: readonly Field[], second: readonly Field[], starts?: Starts): void {
    for (const { name, first: a, second: b } of pairFields(first, second, starts)) {
      const at = joined(path, name);
      if (a !== undefined && b !== undefined) this.#field(at, a, b, first, starts);
      else if (a !== undefined) this.#report({ path: at, kind: "only in first", first: fieldText(a) });
      else if (b !== undefined) this.#report({ path: at, kind: "only in second", second: fieldText(b) });
    }
  }

  #field(path: string, a: Field, b: Field, siblings: readonly Field[], starts: Starts | undefined): void {
    if (a.children !== undefined && b.children !== undefined) {
      const [version, other] = [header(a), header(b)];
      if (version !== other) this.#report({ path, kind: "layout", ...sides(version, other) });
      const register = registerName(siblings, a.name);
      let diff: FieldDiff = this;
      if (register !== undefined) diff = new FieldDiff((found) => this.#register(path, found, register));
      else if (a.name.startsWith("[") && a.meaning !== undefined) diff = this.#named(a.meaning);
      const inside: Starts | undefined =
        starts === undefined || version !== other ? undefined : [a.offset, b.offset];
      diff.fields(path, a.children, b.children, inside);
      return;
    }
    if (a.value === undefined || b.value === undefined) {
      if (a.value === b.value && a.size === b.size) return;
      this.#report({ path, kind: "layout", first: fieldText(a), second: fieldText(b) });
      return;
    }
    const same = equal(a.value, b.value);
    if (same && (a.size === b.size || typeof a.value === "string")) return;
    if (typeof a.value !== typeof b.value || same) {
      this.#report({ path, kind: "layout", first: fieldText(a), second: fieldText(b) });
      return;
    }
    const meaning = changeMeaning(a, b);
    this.#report({
      path,
      kind: "changed",
      ...valueTexts(a, b),
      ...(meaning === undefined ? {} : { meaning }),
    });
  }

  /** Adds the name of an element, such as a queue's, to the differences in it. */
  #named(name: string): FieldDiff {
    return new FieldDiff(({ meaning, ...rest }) =>
      this.#report({ ...rest, meaning: meaning === undefined ? name : `${name}: ${meaning}` }),
    );
  }

  /** Adds the register's name to a difference in an array of registers. */
  #register(path: string, found: Difference, name: (index: number) => string | undefined): void {
    const index = /^\[(\d+)\]/.exec(found.path.slice(path.length))?.[1];
    const register = index === undefined ? undefined : name(Number(index));
    if (register === undefined) this.#report(found);
    else this.#named(register).#report(found);
  }
}

const sides = (first: string | undefined, second: string | undefined) => ({
  ...(first === undefined ? {} : { first }),
  ...(second === undefined ? {} : { second }),
});

/** Builds paths as in `wherry inspect --field`: `/` after the section, `.` between fields. */
const joined = (path: string, name: string) =>
  path.endsWith("/") || name.startsWith("[") ? path + name : `${path}.${name}`;

const header = (field: Field) => field.children?.find(isHeader)?.meaning;

const sectionText = ({ version, size, vmsdName }: SectionReport) =>
  `${vmsdName === undefined ? "" : `${vmsdName}, `}version ${version}, ${size} bytes`;

function fieldText(field: Field): string {
  if (field.value === undefined) return `${field.type}, ${field.size} bytes`;
  return `${valueText(field.value)} (${field.type}, ${field.size} bytes)`;
}

function equal(a: FieldValue, b: FieldValue): boolean {
  if (a instanceof Uint8Array && b instanceof Uint8Array) {
    return a.length === b.length && a.every((byte, i) => byte === b[i]);
  }
  return a === b;
}

function bytesText(bytes: Uint8Array): string {
  const shown = Array.from(bytes.subarray(0, SHOWN_BYTES), (byte) => byte.toString(16).padStart(2, "0"));
  return shown.join("") + (bytes.length > SHOWN_BYTES ? `… (${bytes.length} bytes)` : "");
}

function valueText(value: FieldValue): string {
  if (typeof value === "bigint") return value < 0n ? value.toString() : hex(value);
  if (typeof value === "string") return JSON.stringify(value);
  return value instanceof Uint8Array ? bytesText(value) : String(value);
}

/** Two values as text; for bytes, from the first difference on. */
function valueTexts(a: Field, b: Field): { first: string; second: string } {
  if (!(a.value instanceof Uint8Array && b.value instanceof Uint8Array)) {
    return { first: valueText(a.value as FieldValue), second: valueText(b.value as FieldValue) };
  }
  const [start = 0] = changedRanges(a.value, b.value).first[0] ?? [];
  const part = (value: Uint8Array) => (start < value.length ? bytesText(value.subarray(start)) : "nothing");
  return { first: part(a.value), second: part(b.value) };
}

/** The first ranges, and the number of all: a framebuffer may have millions. */
function changedRanges(a: Uint8Array, b: Uint8Array): { first: [number, number][]; count: number } {
  const first: [number, number][] = [];
  let count = 0;
  let end = -1;
  for (let i = 0; i < Math.max(a.length, b.length); i++) {
    if (a[i] === b[i]) continue;
    if (end !== i) count++;
    end = i + 1;
    if (count > SHOWN_RANGES) continue;
    if (first.length < count) first.push([i, end]);
    else first[count - 1]![1] = end;
  }
  return { first, count };
}

/** Describes a change: flags by name, otherwise single bits; ranges of bytes. */
function changeMeaning(a: Field, b: Field): string | undefined {
  if (a.value instanceof Uint8Array && b.value instanceof Uint8Array) {
    const { first, count } = changedRanges(a.value, b.value);
    const shown = first.map(([start, end]) => `${hex(start)}..${hex(end)}`);
    const more = count > shown.length ? ` and ${count - shown.length} more` : "";
    return `bytes ${shown.join(", ")}${more}`;
  }
  if (a.meaning !== undefined || b.meaning !== undefined) {
    const words = (text: string | undefined) =>
      new Set((text ?? "").split(/\s+/).filter((word) => word !== ""));
    const [before, after] = [words(a.meaning), words(b.meaning)];
    const flags = [...before, ...after].every((word) => /^[A-Z0-9_]+$/.test(word));
    if (!flags || (before.size === 1 && after.size === 1))
      return `${a.meaning ?? valueText(a.value ?? "")} → ${b.meaning ?? valueText(b.value ?? "")}`;
    const gone = [...before].filter((word) => !after.has(word)).map((word) => `-${word}`);
    const come = [...after].filter((word) => !before.has(word)).map((word) => `+${word}`);
    if (gone.length + come.length > 0) return [...gone, ...come].join(" ");
  }
  if (typeof a.value !== "bigint" || typeof b.value !== "bigint" || a.value < 0n || b.value < 0n)
    return undefined;
  const bits: string[] = [];
  for (let bit = 0n, left = a.value ^ b.value; left !== 0n && bits.length <= SHOWN_BITS; bit++, left >>= 1n) {
    if ((left & 1n) === 1n) bits.push(`${((b.value >> bit) & 1n) === 1n ? "+" : "-"}bit ${bit}`);
  }
  return bits.length > SHOWN_BITS ? undefined : bits.join(" ");
}
