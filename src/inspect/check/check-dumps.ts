// Compares two QEMUs by their `-dump-vmstate`: whether the state that the first writes loads in the second,
// per device type. It has the purpose of QEMU's static checker, but compares bytes (check-layout.ts) instead
// of names. Types that only one QEMU has are counted and not reported as problems: only machines with such a
// device are affected.
import { compareLayouts, type LayoutFinding, versionFinding } from "./check-layout.ts";
import type { Layout, VmstateDump } from "./dump-vmstate.ts";
import type { Problem } from "../model/stream-report.ts";

/** Whether device state of one QEMU loads in another. */
export interface DumpCheck {
  /** State of these types does not load. */
  readonly problems: readonly Problem[];
  /**
   * Types whose state may not load: it depends on conditions that no dump shows, such as enabled features.
   */
  readonly warnings: readonly Problem[];
  /** Types of the first QEMU that the second lacks. */
  readonly missing: readonly string[];
  /** Types without state in the first QEMU: it cannot migrate machines with them. */
  readonly unmigratable: readonly string[];
  /** Types that were compared. */
  readonly compared: number;
}

type Finding = Omit<LayoutFinding, "code"> & { readonly code: LayoutFinding["code"] | "check.unmigratable" };

const CURES: Readonly<Record<Finding["code"], string>> = {
  "check.unmigratable": "move machines with this device only to a QEMU that can migrate it",
  "check.version": "move machines with this device only to a QEMU that reads the version",
  "check.subsection":
    "move to a QEMU that knows the subsection, or use the older one's machine type on both sides, if it keeps the feature off",
  "check.layout":
    "move machines with this device only between QEMUs with the same fields; report it to QEMU: the version should have changed",
  "check.size":
    "give the device the same properties on both sides; if the size is fixed, move only between QEMUs that agree on it",
};

/** The target's layout of a type: found by name, or, if the type was renamed, by the name of its state. */
function counterpart(type: string, layout: Layout, target: VmstateDump): Layout | undefined {
  const known = target.types.get(type);
  if (known !== undefined) return known;
  // Several types may share a description; one with another layout is another device.
  return [...target.types.values()].find(
    (other) =>
      other.name === layout.name &&
      versionFinding(layout, other) === undefined &&
      compareLayouts(layout, other).length === 0,
  );
}

/** `only` has the names of the types to compare; default: all. */
export function checkDumps(from: VmstateDump, to: VmstateDump, only: readonly string[] = []): DumpCheck {
  // Many types share one description (a flash chip, a hundred parts): report its findings once.
  const found = new Map<string, { types: string[]; name: string; finding: Finding }>();
  const missing: string[] = [];
  const unmigratable: string[] = [];
  let compared = 0;
  const types = [...from.types].filter(([type]) => only.length === 0 || only.includes(type));
  for (const [type, layout] of types.sort(([a], [b]) => (a < b ? -1 : 1))) {
    if (layout.fields.length + layout.subsections.length === 0) {
      unmigratable.push(type);
      continue;
    }
    const known = counterpart(type, layout, to);
    if (known === undefined) {
      missing.push(type);
      continue;
    }
    compared++;
    for (const finding of typeFindings(layout, known)) {
      const key = JSON.stringify([layout.name, finding]);
      const entry = found.get(key) ?? { types: [], name: layout.name, finding };
      entry.types.push(type);
      found.set(key, entry);
    }
  }
  const problems: Problem[] = [];
  const warnings: Problem[] = [];
  for (const { types: concerned, name, finding } of found.values()) {
    const [first = "", ...more] = concerned;
    const others = more.length === 0 ? "" : ` and ${more.length} more of '${name}'`;
    (finding.kind === "certain" ? problems : warnings).push({
      code: finding.code,
      where: `${first}${others}${finding.path === "" ? "" : `, ${finding.path}`}`,
      expected: finding.expected,
      found: finding.found,
      cure: CURES[finding.code],
    });
  }
  if (from.machine !== undefined && to.machine !== undefined && from.machine !== to.machine) {
    warnings.unshift({
      code: "check.machine",
      where: "machine type",
      expected: `${from.machine} on both sides`,
      found: to.machine,
      cure: "the types are compared nevertheless; a stream loads only into the machine type that wrote it",
    });
  }
  return { problems, warnings, missing, unmigratable, compared };
}

function typeFindings(layout: Layout, known: Layout): Finding[] {
  if (known.fields.length + known.subsections.length === 0) {
    const found = "none: it cannot migrate this device";
    return [
      {
        kind: "certain",
        code: "check.unmigratable",
        path: "",
        expected: "state that the second loads",
        found,
      },
    ];
  }
  const range = versionFinding(layout, known);
  if (range === undefined) return compareLayouts(layout, known);
  return [
    { kind: "certain", code: "check.version", path: "", expected: range, found: `version ${layout.version}` },
  ];
}
