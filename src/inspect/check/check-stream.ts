// Predicts whether a QEMU loads a stream. The facts about the target are its `-dump-vmstate` (the state it
// can read), a stream that it wrote (its devices, RAM blocks, machine and capabilities), or both. Follows
// QEMU's loader (migration/savevm.c, vmstate.c, ram.c). Not checked: a device's own checks after loading,
// other than virtio's features and queues (check-virtio.ts). `unchecked` lists what cannot be decided.
import { compareLayouts, type LayoutFinding, versionFinding } from "./check-layout.ts";
import { systemRegisterProblems } from "./check-arm.ts";
import { cpuCure, perCpuCure } from "./check-cpus.ts";
import { ACPI_CURE, checkMachine, checkSettings, Findings, NO_ACPI } from "./check-machine.ts";
import { pciProblems } from "./check-pci.ts";
import { featureWarnings } from "./check-virtio.ts";
import { describedSections, type Layout, type VmstateDump } from "./dump-vmstate.ts";
import type { Problem, SectionReport, StreamReport } from "../model/stream-report.ts";
import { checkOffers, type VirtioOffer } from "./virtio-status.ts";

/** Facts about the target QEMU. `name` is a file's name, for messages. */
export type CheckTarget =
  | { readonly kind: "dump"; readonly name: string; readonly dump: VmstateDump }
  | { readonly kind: "stream"; readonly name: string; readonly report: StreamReport }
  /** Answers to x-query-virtio-status. */
  | { readonly kind: "virtio"; readonly name: string; readonly offers: readonly VirtioOffer[] };

/** Whether a stream loads. */
export interface CheckReport {
  /** Reasons why it does not load, each with its cure. */
  readonly problems: readonly Problem[];
  /** Reasons why it may not load, or may load wrong state. */
  readonly warnings: readonly Problem[];
  /** Descriptions of what cannot be decided with these facts. */
  readonly unchecked: readonly string[];
}

const sectionKey = ({ idstr, instanceId }: SectionReport) => `${idstr}/${instanceId}`;
/** Sections that begin a device or subsystem, without later parts. */
const heads = (report: StreamReport) =>
  report.sections.filter(({ kind }) => kind === "full" || kind === "start");

/** The first head of each device, by key, and all heads of each kind of device. */
interface Heads {
  readonly byKey: ReadonlyMap<string, SectionReport>;
  readonly byDevice: ReadonlyMap<string, readonly SectionReport[]>;
}
const headsByReport = new WeakMap<StreamReport, Heads>();
function headsOf(report: StreamReport): Heads {
  const before = headsByReport.get(report);
  if (before !== undefined) return before;
  const byKey = new Map<string, SectionReport>();
  const byDevice = new Map<string, SectionReport[]>();
  for (const section of heads(report)) {
    const key = sectionKey(section);
    if (!byKey.has(key)) byKey.set(key, section);
    const { device } = splitPath(section.idstr);
    const same = byDevice.get(device);
    if (same === undefined) byDevice.set(device, [section]);
    else same.push(section);
  }
  const found = { byKey, byDevice };
  headsByReport.set(report, found);
  return found;
}
/** Most names in one message. */
const MAX_NAMED = 20;

const layoutsByReport = new WeakMap<StreamReport, ReadonlyMap<string, Layout>>();
function layoutsOf(report: StreamReport): ReadonlyMap<string, Layout> {
  const known = layoutsByReport.get(report) ?? describedSections(report.vmDescription ?? { devices: [] });
  layoutsByReport.set(report, known);
  return known;
}

function sameLayout(section: SectionReport, layout: Layout, target: StreamReport): boolean {
  const key = sectionKey(section);
  const other = headsOf(target).byKey.get(key);
  const known = layoutsOf(target).get(key);
  return other?.version === section.version && JSON.stringify(known) === JSON.stringify(layout);
}

/** Checks a stream against the facts about one target; without facts, checks it alone. */
export function checkStream(report: StreamReport, targets: readonly CheckTarget[]): CheckReport {
  const findings = new Findings();
  if (report.problem !== undefined) findings.problem(report.problem);
  for (const warning of report.warnings) findings.warn(warning);
  const dumps = targets.filter((target) => target.kind === "dump");
  const streams = targets.filter((target) => target.kind === "stream");
  const offers = targets.flatMap((target) => (target.kind === "virtio" ? target.offers : []));
  const layouts = layoutsOf(report);
  const isQemu = (target: CheckTarget) => target.kind !== "stream" || !isOwnForm(target.report);
  if (isOwnForm(report) && targets.some(isQemu)) {
    findings.problem(OWN_FORM);
    return findings;
  }
  const unjudged: string[] = [];
  for (const { name, dump } of dumps) checkMachine(report, dump.machine, name, findings);
  for (const { name, report: target } of streams) {
    checkMachine(report, target.configuration?.machine, name, findings);
  }
  for (const section of heads(report)) {
    for (const { report: target } of streams) checkPresence(section, report, target, findings);
    const layout = layouts.get(sectionKey(section));
    if (section.idstr === "ram") continue;
    // A target that wrote this layout itself can read it, whatever its dump omits.
    const proven =
      layout !== undefined && streams.some(({ report: target }) => sameLayout(section, layout, target));
    if (proven) continue;
    const judged = dumps.filter(({ dump }) => checkByDump(section, layout, dump, findings)).length > 0;
    for (const { report: target } of streams) checkByStream(section, layout, target, judged, findings);
    if (!judged && streams.length === 0) unjudged.push(sectionKey(section));
  }
  for (const { report: target } of streams) {
    checkMissing(report, target, findings);
    checkSettings(report, target, findings);
    for (const problem of systemRegisterProblems(report, target)) findings.problem(problem);
    for (const problem of pciProblems(report, target)) findings.problem(problem);
    if (offers.length > 0) continue;
    for (const warning of featureWarnings(report, target)) findings.warn(warning);
  }
  if (offers.length > 0) {
    const { problems, warnings } = checkOffers(report, offers);
    problems.forEach((problem) => findings.problem(problem));
    warnings.forEach((problem) => findings.warn(problem));
  }
  if (streams.length === 0) {
    findings.unchecked.push(
      "which devices, RAM blocks, capabilities and virtio features the target has: give a stream that it wrote, too",
    );
  }
  if (unjudged.length > 0) {
    findings.unchecked.push(
      `${unjudged.join(", ")}: no states of device types, which are all that a dump lists`,
    );
  }
  if (dumps.length === 0) {
    findings.unchecked.push(
      "which older versions and which subsections the target can read: give its -dump-vmstate, too",
    );
  }
  return findings;
}

/** In Wherry's streams, the first device section is wherry/machine. */
const isOwnForm = (report: StreamReport) => report.sections.some(({ idstr }) => idstr === "wherry/machine");
const OWN_FORM: Problem = {
  code: "check.own-form",
  where: "section wherry/machine/0",
  expected: "a stream in QEMU's format",
  found: "a stream in Wherry's own format",
  cause: "Wherry saved or sent it without a profile",
  cure: "save or migrate with --profile qemu-7.2, qemu-10.0 or qemu-11.1 (docs/qemu.md)",
};

/** Splits a device's idstr into address and name: `0000:00:03.0/e1000e`. */
function splitPath(idstr: string): { bus: string; device: string } {
  const slash = idstr.lastIndexOf("/");
  return { bus: slash < 0 ? "" : idstr.slice(0, slash), device: idstr.slice(slash + 1) };
}

/** Whether the target has the section's device. */
function checkPresence(
  section: SectionReport,
  report: StreamReport,
  target: StreamReport,
  findings: Findings,
): void {
  const key = sectionKey(section);
  if (headsOf(target).byKey.has(key)) return;
  const { bus, device } = splitPath(section.idstr);
  const same = (headsOf(target).byDevice.get(device) ?? []).slice(0, MAX_NAMED);
  const acpi = device.includes("acpi_build");
  const elsewhere = same.filter(
    (known) => !findings.problems.some(({ where }) => where === `section ${sectionKey(known)}`),
  );
  const pci = /^[0-9a-f]{4}:([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])$/i.exec(bus);
  const address = pci === null ? "" : `,addr=0x${Number.parseInt(pci[2] ?? "0", 16).toString(16)}`;
  findings.problem({
    code: "check.device.missing",
    where: `section ${key}`,
    offset: section.offset,
    expected:
      elsewhere.length === 0
        ? "a device that the target has"
        : `one of the target's: ${elsewhere.map(sectionKey).join(", ")}`,
    found: key,
    cause:
      elsewhere.length === 0
        ? `the target has no '${device}' ("Unknown savevm section or instance '${section.idstr}' ${section.instanceId}")`
        : "the target has this device at another place or with another number: order or addresses of -device differ",
    cure: acpi
      ? ACPI_CURE
      : elsewhere.length === 0
        ? `start the target with the device that the source has${address === "" ? "" : ` (-device …${address})`}, or take it from the source before the migration`
        : `give the devices the same addresses and order on both sides${address === "" ? "" : ` (-device …${address})`}`,
    ...(device === USER_NETWORK
      ? { cure: "start the target with user networking (-nic user, -netdev user), as the source was" }
      : cpuCure(section, report, target)),
  });
}

/** False if the dump does not describe the section. */
function checkByDump(
  section: SectionReport,
  layout: Layout | undefined,
  dump: VmstateDump,
  findings: Findings,
): boolean {
  if (layout === undefined) return false;
  const types = [...dump.types].filter(([, known]) => known.name === layout.name);
  if (types.length === 0) {
    // An idstr with a bus address is a device, and a dump lists all device types.
    if (!/^[0-9a-f]{4}:[0-9a-f]{2}/i.test(section.idstr)) return false;
    findings.problem({
      code: "check.device.unknown",
      where: `section ${sectionKey(section)}`,
      offset: section.offset,
      expected: "a device type that the target knows",
      found: `state '${layout.name}'`,
      cause: "the target QEMU was built without this device, is older than it, or lacks the module with it",
      cure: "use a target that has the device (qemu -device help), or take it from the source before the migration",
    });
    return true;
  }
  const source = { ...layout, version: section.version };
  const [best = []] = types
    .map(([, known]) => known)
    .filter((known, i, all) => all.indexOf(known) === i)
    .map((known) => sectionProblems(section, source, known))
    .sort((a, b) => severity(a) - severity(b));
  for (const { certain, problem } of best) (certain ? findings.problems : findings.warnings).push(problem);
  return true;
}

/** `judged`: a dump decided on versions and subsections; a stream shows the conditions. */
function checkByStream(
  section: SectionReport,
  layout: Layout | undefined,
  target: StreamReport,
  judged: boolean,
  findings: Findings,
): void {
  const key = sectionKey(section);
  const other = headsOf(target).byKey.get(key);
  if (other === undefined) return;
  if (section.version !== other.version) {
    if (!judged) checkStreamVersion(section, other.version, findings);
    return;
  }
  const known = layoutsOf(target).get(key);
  if (layout === undefined || known === undefined) return;
  const seen = new Set<string>();
  for (const finding of compareLayouts(layout, known)) {
    if (judged && finding.code === "check.subsection") continue;
    // Arrays whose length is sent with them; check-arm.ts compares their contents.
    if (finding.path.startsWith("cpreg_vmstate_")) continue;
    const problem = layoutProblem(section, finding);
    const certain = finding.code === "check.size" && perCpuCure(section, finding.path) !== undefined;
    // The target's stream may lack a subsection or field only because it did not need it.
    if (!seen.has(problem.where)) (certain ? findings.problems : findings.warnings).push(problem);
    seen.add(problem.where);
  }
}

function checkStreamVersion(section: SectionReport, version: number, findings: Findings): void {
  if (section.version > version) {
    findings.problem(tooNew(section, section.version, `version ${version} or older`));
  } else if (isRiscvCpu(section)) {
    findings.problem(tooOld(section, section.version, `version ${version}`));
  } else {
    findings.warn({
      ...tooOld(section, section.version, `version ${version}, perhaps older ones`),
      cure: `give the target's -dump-vmstate to see which versions it reads; ${CURE_OLD}`,
    });
  }
}

/** Each release reads only the version of this state that it writes, and no dump lists it. */
const isRiscvCpu = ({ vmsdName, fields }: SectionReport) =>
  vmsdName === "cpu" && ["env.gpr", "env.fpr"].every((name) => fields.some((field) => field.name === name));

interface Judged {
  readonly certain: boolean;
  readonly problem: Problem;
}
const severity = (problems: readonly Judged[]) =>
  problems.filter(({ certain }) => certain).length * 1000 + problems.length;

function sectionProblems(section: SectionReport, source: Layout, known: Layout): Judged[] {
  const range = versionFinding(source, known);
  if (range !== undefined) {
    const problem = source.version > known.version ? tooNew : tooOld;
    return [{ certain: true, problem: problem(section, source.version, range) }];
  }
  return compareLayouts(source, known).map((finding) => ({
    certain: finding.kind === "certain",
    problem: layoutProblem(section, finding),
  }));
}

const CURE_OLD =
  "migrate through an intermediate release that reads the old version and writes a newer one, or use a target nearer to the source's release";

function tooNew(section: SectionReport, version: number, range: string): Problem {
  return {
    code: "check.version.new",
    where: `section ${sectionKey(section)}`,
    offset: section.offset,
    expected: range,
    found: `version ${version}`,
    cause:
      'the source is newer than the target (QEMU: "is too new for local version_id", "unsupported version")',
    cure: "use a target at least as new as the source; or start the source with an older versioned machine type (-M help), if it then writes the older version",
  };
}

function tooOld(section: SectionReport, version: number, range: string): Problem {
  return {
    code: "check.version.old",
    where: `section ${sectionKey(section)}`,
    offset: section.offset,
    expected: range,
    found: `version ${version}`,
    cause:
      'the target no longer reads what this release wrote (QEMU: "is too old for local minimum version_id")',
    cure: CURE_OLD,
  };
}

const LAYOUT_CURES: Readonly<Record<LayoutFinding["code"], { cause: string; cure: string }>> = {
  "check.version": {
    cause: "the two releases have different versions of a subsection",
    cure: "use a target at least as new as the source, or the machine type of the older one on both sides",
  },
  "check.subsection": {
    cause:
      "the source is newer than the target, and the device uses what the subsection is for (QEMU: error -2 while loading)",
    cure: "use a target that knows the subsection; or turn the feature off on the source: its versioned machine types (-M help) or a property of the device (-device NAME,help)",
  },
  "check.layout": {
    cause: "the two releases or builds have different fields in this state, without a new version",
    cure: "use the same release on both sides, or the machine type of the older one on both",
  },
  "check.size": {
    cause: "a field or array has another size in the target: another release, build or device property",
    cure: "give the device the same properties on both sides (numbers of queues, ports, lines), or use the same release",
  },
};

function layoutProblem(section: SectionReport, finding: LayoutFinding): Problem {
  return {
    code: finding.code,
    where: `section ${sectionKey(section)}, ${finding.path}`,
    offset: section.offset,
    expected: finding.expected,
    found: finding.found,
    ...LAYOUT_CURES[finding.code],
    ...(finding.code === "check.size" ? perCpuCure(section, finding.path) : undefined),
  };
}

const EXTRA_DEVICE = {
  cause:
    "the target has a device that the source does not have, or the source's release did not save its state",
  cure: "start the target without it; QEMU loads, but the device then is as after a reset while the guest's driver is not",
};
/** Starts empty: connections to the outside end with the source's QEMU. */
const USER_NETWORK = "slirp";
/** Devices that the target has and the stream lacks: QEMU loads without a message. */
function checkMissing(report: StreamReport, target: StreamReport, findings: Findings): void {
  const there = new Set(heads(report).map(sectionKey));
  for (const section of heads(target)) {
    const key = sectionKey(section);
    if (there.has(key) || section.idstr === USER_NETWORK) continue;
    findings.warn({
      code: "check.device.extra",
      where: `section ${key}`,
      expected: "state for a device of the target",
      found: "none in the stream",
      ...(section.idstr.includes("acpi_build") ? NO_ACPI : EXTRA_DEVICE),
      ...cpuCure(section, report, target),
    });
  }
}
