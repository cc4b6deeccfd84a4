// Compares machine-wide facts of a stream with the target's: machine type, capabilities, page sizes,
// commands, RAM blocks. Follows QEMU's configuration_post_load (migration/savevm.c) and parse_ramblocks
// (migration/ram.c).
import type { Problem, RamBlockReport, StreamReport } from "../model/stream-report.ts";

export class Findings {
  readonly problems: Problem[] = [];
  readonly warnings: Problem[] = [];
  readonly unchecked: string[] = [];

  problem(problem: Problem): void {
    this.problems.push(problem);
  }
  warn(problem: Problem): void {
    this.warnings.push(problem);
  }
}

export const ACPI_CURE = "start the source with -M …,acpi=off, or use a target with ACPI on";
export const NO_ACPI = {
  cause: "the source generates no ACPI tables: an older release, acpi=off, or Wherry; its guest uses none",
  cure: "nothing needs to be done; -M …,acpi=off on the target makes both equal",
};

/** `wanted` is the target's machine type according to `name`. */
export function checkMachine(
  report: StreamReport,
  wanted: string | undefined,
  name: string,
  findings: Findings,
): void {
  const machine = report.configuration?.machine;
  if (machine === undefined || wanted === undefined || machine === wanted) return;
  // The target's dump and its stream would report the same difference twice.
  if (findings.problems.some(({ code }) => code === "check.machine")) return;
  findings.problem({
    code: "check.machine",
    where: "configuration",
    expected: `machine type ${wanted}, as in ${name}`,
    found: `machine type ${machine}`,
    cause:
      "QEMU loads a stream only into the same machine type that wrote it; aliases (pc, q35) change per release",
    cure: `start the target with -M ${machine}, also for its dump; or start the source with -M ${wanted}`,
  });
}

/** Compares all facts but the machine type with a stream of the target. */
export function checkSettings(report: StreamReport, target: StreamReport, findings: Findings): void {
  checkFrame(report, target, findings);
  checkConfiguration(report, target, findings);
  for (const warning of commandWarnings(report, target)) findings.warn(warning);
  checkRam(report, target, findings);
}

/** Whether footers stand between sections; undefined if there are too few sections. */
function hasFooters({ sections }: StreamReport): boolean | undefined {
  const gaps = sections.slice(1).map(({ offset }, i) => {
    const before = sections[i];
    return before === undefined ? 0 : offset - before.dataOffset - before.size;
  });
  return gaps.length === 0 ? undefined : gaps.every((gap) => gap > 0);
}

/** Parts that machine types before 2.4 omit, and that properties of the migration can disable. */
function checkFrame(report: StreamReport, target: StreamReport, findings: Findings): void {
  const parts = [
    ["a configuration section", "send-configuration", report.configuration, target.configuration],
    [
      "section footers",
      "send-section-footer",
      hasFooters(report) || undefined,
      hasFooters(target) || undefined,
    ],
  ] as const;
  for (const [part, property, sent, wanted] of parts) {
    if ((sent === undefined) === (wanted === undefined)) continue;
    const onOff = sent === undefined ? "off" : "on";
    findings.problem({
      code: "check.frame",
      where: "frame of the stream",
      expected: `${wanted === undefined ? "no" : "with"} ${part.replace(/^a /, "")}, as the target writes it`,
      found: `${sent === undefined ? "none" : part}`,
      cause:
        'machine types before 2.4 have none, and -global migration.… can leave it out (QEMU: "Configuration section missing", "Missing section footer")',
      cure: `use the same machine type on both sides, or start the target with -global migration.${property}=${onOff}`,
    });
  }
}

/** Capabilities that QEMU compares (migration/savevm.c). */
const COMPARED_CAPABILITIES = ["x-ignore-shared", "mapped-ram"];

function checkConfiguration(report: StreamReport, target: StreamReport, findings: Findings): void {
  const [sent, wanted] = [new Set(report.capabilities), new Set(target.capabilities)];
  for (const name of COMPARED_CAPABILITIES) {
    if (sent.has(name) === wanted.has(name)) continue;
    const state = (on: boolean) => (on ? "on" : "off");
    findings.warn({
      code: "check.capability",
      where: "configuration/capabilities",
      expected: `${name} ${state(wanted.has(name))}, as when the target's stream was written`,
      found: `${name} ${state(sent.has(name))}`,
      cause: "QEMU compares this capability of both sides",
      cure: `on the target, before migrate-incoming: migrate-set-capabilities ${name} ${state(sent.has(name))}`,
    });
  }
  if (report.pageSize !== target.pageSize) {
    findings.problem({
      code: "check.page-size",
      where: "configuration/target-page-bits",
      expected: `pages of ${target.pageSize} bytes`,
      found: `pages of ${report.pageSize} bytes`,
      cause: "another architecture, CPU model or machine type",
      cure: "use the same architecture, -cpu and -M on both sides",
    });
  }
}

/** Commands of the stream that the target does not send itself: older releases refuse unknown commands. */
function commandWarnings(report: StreamReport, target: StreamReport): Problem[] {
  if (target.commands.some(({ name }) => name === "SWITCHOVER_START")) return [];
  return report.commands
    .filter(({ name }) => name === "SWITCHOVER_START")
    .map(({ name, command, offset }) => ({
      code: "check.command",
      where: "commands",
      offset,
      expected: "commands that the target knows",
      found: `${name} (0x${command.toString(16)})`,
      cause: 'QEMU before 10.0 does not know it ("MIG_CMD 0xb unknown"); the target does not send it itself',
      cure: "if the target is older than 10.0: start the source with -global migration.send-switchover-start=off, or a machine type before 10.0",
    }));
}

function checkRam(report: StreamReport, target: StreamReport, findings: Findings): void {
  const blocks = new Map(target.ram.map((block) => [block.name, block]));
  const sent = new Set(report.ram.map(({ name }) => name));
  for (const block of report.ram) {
    const known = blocks.get(block.name);
    if (known === undefined) findings.problem(unknownBlock(block));
    else if (known.size !== block.size) checkBlockSize(block, known, findings);
    else if (
      known.hostPageSize !== undefined &&
      block.hostPageSize !== undefined &&
      known.hostPageSize !== block.hostPageSize
    ) {
      findings.problem({
        code: "check.ram.host-page",
        where: `ram block ${block.name}`,
        expected: `host pages of ${known.hostPageSize} bytes`,
        found: `host pages of ${block.hostPageSize} bytes`,
        cause: "postcopy needs the same kind of memory on both sides",
        cure: "use the same memory backend (huge pages or not) on both sides",
      });
    }
  }
  const extra = target.ram.map(({ name }) => name).filter((name) => !sent.has(name));
  const tables = extra.filter(isTable);
  const others = extra.filter((name) => !isTable(name));
  for (const names of [...others.map((name) => [name]), ...(tables.length === 0 ? [] : [tables])]) {
    findings.warn({
      code: "check.ram.extra",
      where: `ram block ${names.join(", ")}`,
      expected: "its pages",
      found: "none in the stream",
      ...(names === tables ? NO_ACPI : EXTRA_RAM),
    });
  }
}

const EXTRA_RAM = {
  cause: "the target has a device or firmware with RAM of its own that the source does not have",
  cure: "start the target without it; QEMU loads and leaves that RAM as it is",
};
/** Tables that QEMU generates for the guest's firmware. */
const isTable = (block: string) => block.startsWith("/rom@etc/acpi") || block === "/rom@etc/table-loader";

/** Cause and cure of another size, by the block's name. */
function sizeCure(name: string): { cause: string; cure: string } {
  if (name.endsWith(".rom")) {
    return {
      cause:
        "the option ROM's file has another size on the two hosts (another release of iPXE or SeaVGABIOS)",
      cure: "give the target's device a file of the source's size (romfile=…), or the source's size (romsize=…, QEMU 5.2 on), or none on both sides (romfile=)",
    };
  }
  if (/bios|pc\.rom/.test(name)) {
    return {
      cause: "the firmware's file has another size on the two hosts",
      cure: "start the target with the source's firmware file (-bios), or one padded to its size",
    };
  }
  if (/flash/.test(name)) {
    return {
      cause: "the two flash images have different sizes",
      cure: "use an image of the source's size for this pflash drive; pad it with truncate",
    };
  }
  if (/vga|vram|qxl/i.test(name)) {
    return {
      cause: "the two display devices have different memory",
      cure: "give the device the same vgamem_mb (vram_size_mb) on both sides",
    };
  }
  return {
    cause: "the two machines have different amounts of RAM",
    cure: "start the target with the same -m (and the same memory backends) as the source",
  };
}

function unknownBlock(block: RamBlockReport): Problem {
  const acpi = isTable(block.name);
  return {
    code: "check.ram.unknown",
    where: `ram block ${block.name}`,
    expected: "a RAM block that the target has",
    found: `'${block.name}' of ${block.size} bytes`,
    cause: acpi
      ? "the source has ACPI tables, the target has none: an older release (RISC-V: before 8.1), or ACPI is off"
      : 'a device or firmware with RAM of its own that the target lacks, or RAM of another name ("Unknown ramblock")',
    cure: acpi
      ? ACPI_CURE
      : "give the target the same devices, firmware and memory backends (id= of the backend is the block's name) as the source",
  };
}

function checkBlockSize(block: RamBlockReport, known: RamBlockReport, findings: Findings): void {
  const problem: Problem = {
    code: "check.ram.size",
    where: `ram block ${block.name}`,
    expected: `${known.size} bytes (0x${known.size.toString(16)})`,
    found: `${block.size} bytes (0x${block.size.toString(16)})`,
    ...sizeCure(block.name),
  };
  // QEMU resizes blocks of firmware files to the stream's size, up to a maximum that no stream states.
  if (!block.name.startsWith("/rom@")) findings.problem(problem);
  else if (block.size > known.size) {
    findings.warn({
      ...problem,
      cause: "tables made for the source's devices; QEMU makes room for them up to a limit",
      cure: "if QEMU reports `Size too large`, give the target the source's machine type, devices and firmware",
    });
  }
}
