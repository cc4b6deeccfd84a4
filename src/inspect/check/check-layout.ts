// Whether state written by one description can be read by another, by QEMU's rules: fields have no names on
// the wire, so only order, sizes, conditions and subsections count. Finds the best alignment of the two field
// lists; names serve for messages and to choose among alignments. A renamed field, a struct added or removed
// around the same fields, padding of the size of the fields that it replaces, and an optional field are not
// problems.
import type { FieldLayout, Layout } from "./dump-vmstate.ts";

export interface LayoutFinding {
  /** `certain`: state with this layout does not load. `possible`: it depends on facts that no dump has. */
  readonly kind: "certain" | "possible";
  readonly code: "check.version" | "check.subsection" | "check.layout" | "check.size";
  /** Path of the field or subsection, without the description's name. */
  readonly path: string;
  readonly expected: string;
  readonly found: string;
}

interface Result {
  readonly cost: number;
  readonly findings: readonly LayoutFinding[];
}

// Costs of an alignment. One fault costs more than any number of harmless differences.
const CANNOT = 1000;
const COST = {
  same: 0,
  /** The target's condition may make the field absent. */
  targetConditional: 0.3,
  padding: 0.5,
  renamed: 1,
  unclearSize: 2,
  /** The source may omit the field. */
  sourceConditional: 5,
  /** An array of structs without elements in the stream. */
  emptyArray: 5,
  /** Either an array without elements, or a field that the source lacks. */
  absent: 50,
  otherSize: CANNOT,
  /** Costs more than another size of a field of the same name, and less than omitting both fields. */
  otherSizeAndName: 1.5 * CANNOT,
  leftOut: CANNOT,
} as const;
/**
 * Cells of the alignment tables of one comparison: more than any of QEMU's devices needs; at most one second
 * of work.
 */
const BUDGET = 8_000_000;

const SCALAR_SIZES = new Set([1, 2, 4, 8]);
/** Types of the VMDESCRIPTION whose bytes on the wire are the bytes that a dump shows. */
const PLAIN =
  /^(bool|u?int(8|16|32|64)|u?int(8|16|32|64) equal|buffer|unused_buffer|timer|float64|CPU_Double_U|uint64 leq)$/;

const isPadding = (field: FieldLayout) => field.name === "unused" || field.type === "unused_buffer";
/** True for a buffer whose end became new fields. */
const isRoom = (buffer: FieldLayout, start: FieldLayout) =>
  buffer.type === "buffer" && start.type === "buffer" && buffer.name === start.name;
/** Bytes on the wire; undefined if not known. */
function bytesOf(field: FieldLayout): number | undefined {
  return field.streamBytes ?? (field.size === undefined ? undefined : field.size * (field.count ?? 1));
}
const sizeText = (field: FieldLayout) => {
  const bytes = bytesOf(field);
  return bytes === undefined ? "of varying size" : `${bytes} byte${bytes === 1 ? "" : "s"}`;
};
const fieldText = (field: FieldLayout | undefined) =>
  field === undefined ? "nothing more" : `'${field.name}' (${sizeText(field)})`;

function sizes(source: FieldLayout, target: FieldLayout): "same" | "different" | "unclear" {
  if (source.size === undefined || target.size === undefined) return "same";
  if (source.streamBytes !== undefined) {
    // The size of an opaque type on the wire is not its size in memory.
    if (!PLAIN.test(source.type ?? "")) return "same";
    if (target.streamBytes !== undefined || target.count !== undefined) {
      return source.streamBytes === bytesOf(target) ? "same" : "different";
    }
    const multiple = target.size === 1 || source.size === target.size;
    return multiple && source.streamBytes % target.size === 0 ? "same" : "different";
  }
  if (source.size === target.size) {
    const known = source.count !== undefined && target.count !== undefined;
    return known && source.count !== target.count ? "different" : "same";
  }
  if (bytesOf(source) === bytesOf(target)) return "same";
  if (isPadding(source) || isPadding(target)) {
    // The padding may replace an array whose length is not printed.
    const [padding, field] = isPadding(source) ? [source, target] : [target, source];
    return field.count === undefined && (bytesOf(padding) ?? 0) % (field.size ?? 1) === 0
      ? "same"
      : "different";
  }
  // An array of a QEMU release that does not print its length, or a type whose size on the wire differs from
  // its size in memory.
  const scalars = SCALAR_SIZES.has(source.size) && SCALAR_SIZES.has(target.size);
  return scalars && (source.count === undefined) === (target.count === undefined) ? "different" : "unclear";
}

class Comparison {
  /** The source is a stream, which does not show empty arrays. */
  readonly #fromStream: boolean;
  #budget = BUDGET;
  readonly #known = new Map<Layout, Map<Layout, Result>>();

  constructor(fromStream: boolean) {
    this.#fromStream = fromStream;
  }

  /**
   * `version` is the version that the target must load. A struct's version is not in the stream: the target
   * uses its own.
   */
  layouts(source: Layout, target: Layout, version: number): Result {
    const memo = this.#known.get(source)?.get(target);
    if (memo !== undefined) return memo;
    const written = source.fields.filter((field) => field.conditional || field.version <= source.version);
    const read = target.fields.filter((field) => field.conditional || field.version <= version);
    let result = this.#fields(written, read);
    let subsections = this.#subsections(source.subsections, target.subsections);
    if (result.cost >= CANNOT) {
      // Fields that moved into a struct, or out of one, are the same bytes.
      const flat = this.#fields(flattened(written), flattened(read));
      if (flat.cost < CANNOT) {
        result = flat;
        subsections = this.#subsections(allSubsections(source), allSubsections(target));
      }
    }
    result = {
      cost: result.cost + subsections.cost,
      findings: [...result.findings, ...subsections.findings],
    };
    const memos = this.#known.get(source) ?? new Map<Layout, Result>();
    this.#known.set(source, memos.set(target, result));
    return result;
  }

  #subsections(source: readonly Layout[], target: readonly Layout[]): Result {
    let cost = 0;
    const findings: LayoutFinding[] = [];
    for (const written of source) {
      const known = target.find(({ name }) => name === written.name);
      const add = (
        kind: LayoutFinding["kind"],
        code: LayoutFinding["code"],
        expected: string,
        found: string,
      ) => {
        cost += kind === "certain" ? CANNOT : COST.sourceConditional;
        findings.push({ kind, code, path: written.name, expected, found });
      };
      // A dump lists subsections that are written only when needed; a stream has those that were written.
      const kind = written.minimumVersion === undefined ? "certain" : "possible";
      if (known === undefined) {
        const names = target.map(({ name }) => name).join(", ");
        add(kind, "check.subsection", names === "" ? "no subsection" : `one of ${names}`, written.name);
        continue;
      }
      const range = versionFinding(written, known);
      if (range !== undefined) {
        add(kind, "check.version", range, `version ${written.version}`);
        continue;
      }
      const inside = this.layouts(written, known, written.version);
      cost += inside.cost;
      findings.push(...inside.findings.map((finding) => within(written.name, finding, kind)));
    }
    return { cost, findings };
  }

  #field(source: FieldLayout, target: FieldLayout): Result {
    const name = source.name === target.name || isPadding(source) || isPadding(target) ? 0 : COST.renamed;
    const [struct] = target.structs;
    if (struct !== undefined && source.structs.length > 0) {
      let cost = name;
      const findings: LayoutFinding[] = [];
      const counts = [source.count, target.count];
      if (counts[0] !== counts[1] && !counts.includes(undefined)) {
        // The number of elements may depend on the device. If both are fixed, they must be equal.
        cost += COST.otherSize;
        findings.push(sizeFinding("certain", source, `${target.count} elements`, `${source.count} elements`));
      }
      for (const variant of source.structs) {
        const inside = this.layouts(variant, struct, struct.version);
        cost += inside.cost;
        findings.push(...inside.findings.map((finding) => within(source.name, finding)));
      }
      return { cost, findings };
    }
    if (struct !== undefined && source.streamBytes !== undefined && source.size === undefined) {
      return { cost: name, findings: [] };
    }
    if (struct !== undefined || source.structs.length > 0) {
      const opaque = struct === undefined ? target : source;
      // Bytes of a type that QEMU does not describe may be the struct.
      const kind = opaque.size === undefined ? "possible" : "certain";
      const finding = sizeFinding(kind, source, shape(target), shape(source));
      return { cost: name + (kind === "certain" ? COST.otherSize : COST.unclearSize), findings: [finding] };
    }
    switch (sizes(source, target)) {
      case "same":
        return { cost: name, findings: [] };
      case "unclear":
        return {
          cost: name + COST.unclearSize,
          findings: [sizeFinding("possible", source, sizeText(target), sizeText(source))],
        };
      case "different":
        return {
          cost: name === 0 ? COST.otherSize : COST.otherSizeAndName,
          findings: [sizeFinding("certain", source, sizeText(target), sizeText(source))],
        };
    }
  }

  /** The cheapest alignment, by dynamic programming from the end. */
  #fields(source: readonly FieldLayout[], target: readonly FieldLayout[]): Result {
    const [n, m] = [source.length, target.length];
    this.#budget -= (n + 1) * (m + 1);
    if (this.#budget < 0) {
      const finding = { kind: "possible", code: "check.layout", path: "" } as const;
      const findings = [{ ...finding, expected: "fields that can be compared", found: "too many of them" }];
      return { cost: COST.unclearSize, findings };
    }
    const width = m + 1;
    const best = new Float64Array((n + 1) * width).fill(Infinity);
    const step: Step[] = new Array((n + 1) * width);
    best[n * width + m] = 0;
    for (let i = n; i >= 0; i--) {
      for (let j = m; j >= 0; j--) {
        const at = i * width + j;
        for (const candidate of this.#steps(source, target, i, j)) {
          const cost =
            candidate.cost + (best[(i + candidate.source) * width + j + candidate.target] as number);
          if (cost < (best[at] as number)) {
            best[at] = cost;
            step[at] = candidate;
          }
        }
      }
    }
    const findings: LayoutFinding[] = [];
    // Neighbouring fields that only one side has are one finding.
    let run:
      | { readonly first: LayoutFinding; readonly side: "found" | "expected"; length: number }
      | undefined;
    for (let i = 0, j = 0; i < n || j < m; ) {
      const taken = step[i * width + j] as Step;
      i += taken.source;
      j += taken.target;
      const [finding] = taken.findings;
      const side = taken.target === 0 ? "found" : "expected";
      if (taken.source + taken.target !== 1 || finding === undefined) {
        if (taken.source > 0) run = undefined;
        findings.push(...taken.findings);
      } else if (run === undefined || run.side !== side || run.first.kind !== finding.kind) {
        run = { first: finding, side, length: 1 };
        findings.push(finding);
      } else {
        run.length++;
        findings[findings.length - 1] = {
          ...run.first,
          [side]: `${run.first[side]} and ${run.length - 1} more`,
        };
      }
    }
    return { cost: best[0] as number, findings };
  }

  *#steps(
    source: readonly FieldLayout[],
    target: readonly FieldLayout[],
    i: number,
    j: number,
  ): Iterable<Step> {
    const written = source[i];
    const read = target[j];
    if (written !== undefined && read !== undefined) {
      yield { source: 1, target: 1, ...this.#field(written, read) };
      if (isPadding(written) || isRoom(written, read)) {
        const covered = covers(written, target, j);
        if (covered > 1) yield { source: 1, target: covered, cost: COST.padding, findings: [] };
      }
      if (isPadding(read) || isRoom(read, written)) {
        const covered = covers(read, source, i);
        if (covered > 1) yield { source: covered, target: 1, cost: COST.padding, findings: [] };
      }
    }
    if (read !== undefined) yield leftOutOfSource(read, written, this.#fromStream);
    if (written !== undefined) yield leftOutOfTarget(written, read);
  }
}

interface Step extends Result {
  /** Number of fields that the step consumes on each side. */
  readonly source: number;
  readonly target: number;
}

function leftOutOfSource(read: FieldLayout, next: FieldLayout | undefined, fromStream: boolean): Step {
  if (read.conditional) return { source: 0, target: 1, cost: COST.targetConditional, findings: [] };
  const perhapsEmpty = fromStream && read.count === undefined;
  if (perhapsEmpty && read.structs.length > 0) {
    return { source: 0, target: 1, cost: COST.emptyArray, findings: [] };
  }
  const found = fieldText(next);
  const kind = perhapsEmpty ? "possible" : "certain";
  const finding = { kind, code: "check.layout", path: read.name } as const;
  return {
    source: 0,
    target: 1,
    cost: perhapsEmpty ? COST.absent : COST.leftOut,
    findings: [{ ...finding, expected: fieldText(read), found }],
  };
}

function leftOutOfTarget(written: FieldLayout, next: FieldLayout | undefined): Step {
  const finding = {
    kind: written.conditional ? "possible" : "certain",
    code: "check.layout",
    path: written.name,
    expected: fieldText(next),
    found: fieldText(written),
  } as const;
  const cost = written.conditional ? COST.sourceConditional : COST.leftOut;
  return { source: 1, target: 0, cost, findings: [finding] };
}

/** How many fields from index `from` on have exactly the size of this padding; 0 if none fit. */
function covers(padding: FieldLayout, fields: readonly FieldLayout[], from: number): number {
  const bytes = bytesOf(padding);
  let sum = 0;
  for (let count = 1; bytes !== undefined && from + count <= fields.length; count++) {
    const next = fields[from + count - 1] as FieldLayout;
    const size = next.structs.length > 0 ? undefined : bytesOf(next);
    if (size === undefined) return 0;
    sum += size;
    if (sum >= bytes) return sum === bytes ? count : 0;
  }
  return 0;
}

/** Replaces structs, but not arrays of structs, by their fields. */
function flattened(fields: readonly FieldLayout[]): FieldLayout[] {
  return fields.flatMap((field) => {
    const [struct] = field.structs;
    const single = struct !== undefined && field.structs.length === 1 && (field.count ?? 1) === 1;
    if (!single) return [field];
    const inner = struct.fields.filter((inside) => inside.conditional || inside.version <= struct.version);
    return flattened(field.conditional ? inner.map((inside) => ({ ...inside, conditional: true })) : inner);
  });
}

function allSubsections(layout: Layout): Layout[] {
  return [...layout.fields.flatMap(({ structs }) => structs.flatMap(allSubsections)), ...layout.subsections];
}

function shape(field: FieldLayout): string {
  return field.structs.length > 0
    ? `a struct (${field.structs[0]?.name})`
    : `'${field.name}', ${sizeText(field)}`;
}

function sizeFinding(
  kind: LayoutFinding["kind"],
  field: FieldLayout,
  expected: string,
  found: string,
): LayoutFinding {
  return { kind, code: "check.size", path: field.name, expected, found };
}

function within(name: string, finding: LayoutFinding, kind = finding.kind): LayoutFinding {
  // A field that may not be written is not a certain fault.
  const weaker = kind === "possible" ? kind : finding.kind;
  return { ...finding, kind: weaker, path: finding.path === "" ? name : `${name}.${finding.path}` };
}

/** The versions that `target` loads, if `source` has another. */
export function versionFinding(source: Layout, target: Layout): string | undefined {
  const minimum = target.minimumVersion;
  if (source.version <= target.version && source.version >= (minimum ?? 0)) return undefined;
  return minimum === undefined || minimum === target.version
    ? `version ${target.version}`
    : `version ${minimum} to ${target.version}`;
}

/**
 * The reasons why state described by `source` does not load into `target`: fields and subsections. The caller
 * checks the versions of the two layouts themselves (versionFinding). Findings in several structs of one
 * array are merged.
 */
export function compareLayouts(source: Layout, target: Layout): LayoutFinding[] {
  const fromStream = source.minimumVersion === undefined;
  const { findings } = new Comparison(fromStream).layouts(source, target, source.version);
  const seen = new Set<string>();
  return findings.filter((finding) => {
    const key = JSON.stringify(finding);
    return !seen.has(key) && seen.add(key);
  });
}
