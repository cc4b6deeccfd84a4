// Explains QEMU's messages when a stream does not load: recognises lines of its error output by their fixed
// text, and gives cause and remedy. The messages are those of migration/{savevm,vmstate,ram,migration}.c,
// system/physmem.c and hw/virtio/virtio.c of QEMU 2.x to 11.x. check-stream.ts is more precise for one stream
// and one target.
import { featureCure } from "./check-virtio.ts";
import { virtioType } from "../decode/virtio-devices.ts";
import { featureNames } from "../decode/virtio-features.ts";
import type { Problem } from "../model/stream-report.ts";

/** Converts one message into a Problem. `device` is taken from a later line, if one names it. */
interface Complaint {
  readonly pattern: RegExp;
  readonly explain: (words: Readonly<Record<string, string>>, device: string | undefined) => Explanation;
}
type Explanation = Omit<Problem, "code" | "where" | "offset"> & { readonly where?: string };

const CHECK = "run `wherry check STREAM --target DUMP.json` with the target's -dump-vmstate";
const INSPECT = "run `wherry inspect STREAM`: it reports where the stream ends or is damaged";

const COMPLAINTS: Readonly<Record<string, Complaint>> = {
  "complaint.footer": {
    pattern: /Missing section footer for (?<device>\S+)/,
    explain: ({ device = "" }) => ({
      where: `section ${device}`,
      expected: "a footer (0x7e) where this device's state ends",
      found: "another byte",
      cause:
        "the target read more or less of this device's state than the source wrote: another layout (release, property, a subsection it does not know), or the source writes no footers (machine type before 2.4, send-section-footer=off)",
      cure: `use the same machine type and device properties on both sides; ${CHECK}`,
    }),
  },
  "complaint.footer-id": {
    pattern:
      /Mismatched section id in footer for (?<device>\S+) -? ?read 0x(?<read>[0-9a-f]+) expected 0x(?<wanted>[0-9a-f]+)/,
    explain: ({ device = "", read = "", wanted = "" }) => ({
      where: `section ${device}`,
      expected: `the footer of section 0x${wanted}`,
      found: `0x${read}`,
      cause:
        "this device's state was read past or short of its end, to bytes that look like a footer, or the stream is damaged",
      cure: `${INSPECT}; ${CHECK}`,
    }),
  },
  "complaint.unknown-section": {
    pattern: /Unknown savevm section or instance '(?<idstr>[^']*)' (?<instance>\d+)/,
    explain: ({ idstr = "", instance = "" }) => ({
      where: `section ${idstr}/${instance}`,
      expected: "a device that the target has",
      found: `${idstr} ${instance}`,
      cause: sectionCause(idstr),
      cure: "give both sides the same devices in the same order and at the same addresses (addr=, bus=), hot-plugged ones too, and as many CPUs (-smp); `wherry check STREAM --target STREAM_OF_THE_TARGET` lists what is missing",
    }),
  },
  "complaint.unknown-section-id": {
    pattern: /Unknown savevm section (?!or|type)(?<id>\d+)/,
    explain: ({ id = "" }) => ({
      where: `section ${id}`,
      expected: "part of a section that has started",
      found: `section id ${id}`,
      cause: "the stream is damaged, or the previous section was read past or short of its end",
      cure: INSPECT,
    }),
  },
  "complaint.section-type": {
    pattern: /Unknown savevm section type (?<type>\d+)/,
    explain: ({ type = "" }) => ({
      expected: "the type of a section (1 to 4, 8) or the end (0)",
      found: type,
      cause:
        type === "5"
          ? "a subsection that the target does not know follows, instead of the next section"
          : "the previous section was read past or short of its end, or the stream is damaged or cut",
      cure: `${CHECK}; ${INSPECT}`,
    }),
  },
  "complaint.length-mismatch": {
    // "in" up to 9.1, "Size" later.
    pattern:
      /(?:Length|Size) mismatch: (?<block>.+): 0x(?<found>[0-9a-f]+)(?: in)? != 0x(?<wanted>[0-9a-f]+)/,
    explain: ({ block = "", found = "", wanted = "" }) => ({
      where: `ram block ${block}`,
      expected: `0x${wanted} bytes`,
      found: `0x${found} bytes`,
      cause: block.endsWith(".rom")
        ? "the option ROM's file has another size on the two hosts (another release of iPXE or SeaVGABIOS)"
        : /bios|flash|pc\.rom/.test(block)
          ? "the firmware's file has another size on the two hosts"
          : "the two machines have different amounts of this memory",
      cure: block.endsWith(".rom")
        ? "give the target's device a ROM of the source's size (romfile=…, romsize=… from QEMU 5.2 on) or none (romfile=)"
        : "give the target the same -m, firmware and flash images, or video memory (vgamem_mb), according to the block's name",
    }),
  },
  "complaint.size-too-large": {
    pattern: /Size too large: (?<block>.+): 0x(?<found>[0-9a-f]+) > 0x(?<wanted>[0-9a-f]+)/,
    explain: ({ block = "", found = "", wanted = "" }) => ({
      where: `ram block ${block}`,
      expected: `at most 0x${wanted} bytes`,
      found: `0x${found} bytes`,
      cause: "tables or firmware made for the source's devices are larger than the target's limit",
      cure: "use the source's machine type, firmware and devices on the target",
    }),
  },
  "complaint.unknown-ramblock": {
    pattern: /Unknown ramblock "(?<block>[^"]*)"/,
    explain: ({ block = "" }) => ({
      where: `ram block ${block}`,
      expected: "a RAM block that the target has",
      found: `'${block}'`,
      cause: block.startsWith("/rom@etc/")
        ? "the source generates tables for its firmware that the target does not: ACPI is on at one side only, or the target is an older release (RISC-V: before 8.1)"
        : "a device or firmware with memory of its own that the target lacks, another board, or a memory backend of another name",
      cure: block.startsWith("/rom@etc/")
        ? "start the source with -M …,acpi=off, or use a target with ACPI"
        : "give the target the same devices, firmware and memory backends (their id= is the block's name)",
    }),
  },
  "complaint.page-size": {
    pattern: /Mismatched RAM page size (?<block>\S+)/,
    explain: ({ block = "" }) => ({
      where: `ram block ${block}`,
      expected: "memory with pages of the same size on both hosts",
      found: "another size",
      cause: "postcopy needs the same kind of memory: huge pages on one side only",
      cure: "use the same memory backend on both sides, or migrate without postcopy-ram",
    }),
  },
  "complaint.ram-flags": {
    pattern: /Unknown combination of migration flags: 0x(?<flags>[0-9a-f]+)/,
    explain: ({ flags = "" }) => ({
      where: "RAM",
      expected: "a kind of page record that the target knows",
      found: `flags 0x${flags}`,
      cause:
        "the RAM section was read past or short of a record's end, is damaged or cut, or uses a capability that is off at the target (multifd, mapped-ram, xbzrle)",
      cure: `set the same capabilities on both sides; ${INSPECT}`,
    }),
  },
  "complaint.features": {
    pattern: /Features 0x(?<found>[0-9a-f]+) unsupported\. Allowed features: 0x(?<allowed>[0-9a-f]+)/,
    explain: ({ found = "", allowed = "" }, device) => features(found, allowed, device),
  },
  "complaint.queue-index": {
    pattern:
      /VQ (?<queue>\d+) size 0x(?<size>[0-9a-f]+) (?:Guest index 0x(?<guest>[0-9a-f]+) inconsistent with Host index 0x(?<host>[0-9a-f]+)|< last_avail_idx)/,
    explain: ({ queue = "", size = "", guest, host = "" }) => ({
      where: `VQ ${queue}`,
      expected:
        guest === undefined
          ? `at most 0x${size} requests in use`
          : `a guest index within 0x${size} of 0x${host}`,
      found: guest === undefined ? "more" : `0x${guest}`,
      cause:
        "the device's state and the guest's memory are inconsistent: memory was written after the device was saved (by vhost or another backend that kept running), the RAM is not this stream's (x-ignore-shared, another file), or the ring's address was read wrongly (IOMMU loaded after the device)",
      cure: "save with the guest stopped and vhost=off; load RAM and devices that were saved together; `wherry check` reports the queue and both indexes; if the guest runs nevertheless, bind the device's driver again",
    }),
  },
  "complaint.pci-config": {
    pattern: /Bad config data: i=0x(?<at>[0-9a-f]+) read: (?<found>[0-9a-f]+) device: (?<wanted>[0-9a-f]+)/,
    explain: ({ at = "", found = "", wanted = "" }) => ({
      where: `PCI config space, ${configRegister(Number.parseInt(at, 16))}`,
      expected: `0x${wanted}, as in the target's device`,
      found: `0x${found}`,
      cause:
        "a register that the guest cannot write differs: the device has other properties on the two sides, or its machine type gives it others",
      cure: "give the device the same properties on both sides (vectors, queues, disable-modern, disable-legacy, romsize) and use the same machine type; `wherry check STREAM --target STREAM_OF_THE_TARGET` names the register",
    }),
  },
  "complaint.arm-register": {
    pattern: /system register 0x(?<index>[0-9a-f]+) in the incoming stream but unknown on the destination/,
    explain: ({ index = "" }) => ({
      where: "CPU, system registers",
      expected: "registers that the target's CPU has",
      found: `register 0x${index}`,
      cause: "another -cpu or CPU property, or a release that gives this CPU other registers",
      cure: "use the same -cpu with the same properties on both sides, and a release of the target whose CPU has the register; `wherry check STREAM --target STREAM_OF_THE_TARGET` lists all of them by name",
    }),
  },
  "complaint.command": {
    pattern: /MIG_CMD 0x(?<command>[0-9a-f]+) unknown/,
    explain: ({ command = "" }) => ({
      where: "commands",
      expected: "a command that the target knows",
      found: `command 0x${command}`,
      cause:
        command === "b"
          ? "the source is QEMU 10.0 or newer and sends SWITCHOVER_START, which older ones do not know"
          : "the source is newer, or the stream is damaged",
      cure:
        command === "b"
          ? "start the source with -global migration.send-switchover-start=off, or a machine type before 10.0"
          : INSPECT,
    }),
  },
  "complaint.queue-address": {
    pattern: /VQ (?<queue>\d+) address 0x0 inconsistent with Host index 0x(?<host>[0-9a-f]+)/,
    explain: ({ queue = "", host = "" }) => ({
      where: `VQ ${queue}`,
      expected: "a queue with an address, or index 0",
      found: `no address, index 0x${host}`,
      cause:
        "the transport's or the device's state was read with a layout that is not the writer's, or is damaged",
      cure: `use the same device properties (disable-modern, disable-legacy, queues) on both sides; ${CHECK}`,
    }),
  },
  "complaint.too-new": {
    pattern: /(?<name>\S+): incoming version_id (?<found>\d+) is too new for local version_id (?<wanted>\d+)/,
    explain: ({ name = "", found = "", wanted = "" }) => tooNew(name, found, wanted),
  },
  "complaint.unsupported-version": {
    pattern: /unsupported version (?<found>\d+) for '(?<name>[^']*)' v(?<wanted>\d+)/,
    explain: ({ name = "", found = "", wanted = "" }) => tooNew(name, found, wanted),
  },
  "complaint.too-old": {
    pattern:
      /(?<name>\S+): incoming version_id (?<found>\d+) is too old for local minimum version_id +(?<wanted>\d+)/,
    explain: ({ name = "", found = "", wanted = "" }) => ({
      where: `state '${name}'`,
      expected: `version ${wanted} or newer`,
      found: `version ${found}`,
      cause: "the source is too old: the target does not read this version any more",
      cure: "migrate through an intermediate release that reads the old version and writes a newer one, or use a target nearer to the source's release",
    }),
  },
  "complaint.machine": {
    pattern: /Machine type received is '(?<found>[^']*)' and local is '(?<wanted>[^']*)'/,
    explain: ({ found = "", wanted = "" }) => ({
      where: "configuration",
      expected: `machine type ${wanted}`,
      found: `machine type ${found}`,
      cause:
        "the two QEMUs were started with different -M; `pc`, `q35` and `virt` name another type in each release",
      cure: `start the target with -M ${found}; if it does not know that type, start the source with one that both know (-M help)`,
    }),
  },
  "complaint.page-bits": {
    pattern: /Received TARGET_PAGE_BITS is (?<found>\d+) but local is (?<wanted>\d+)/,
    explain: ({ found = "", wanted = "" }) => ({
      where: "configuration",
      expected: `pages of 2^${wanted} bytes`,
      found: `pages of 2^${found} bytes`,
      cause: "another CPU model or machine type (Arm: it decides the page size)",
      cure: "use the same -cpu and -M on both sides",
    }),
  },
  "complaint.capability": {
    pattern: /Capability (?<name>\S+) is (?<wanted>on|off), but received capability is (?<found>on|off)/,
    explain: ({ name = "", wanted = "", found = "" }) => ({
      where: "configuration",
      expected: `${name} ${wanted}`,
      found: `${name} ${found}`,
      cause: "QEMU compares this capability of both sides",
      cure: `on the target, before migrate-incoming: migrate-set-capabilities ${name} ${found}`,
    }),
  },
  "complaint.uuid": {
    pattern: /UUID received is (?<found>\S+) and local is (?<wanted>\S+)/,
    explain: ({ found = "", wanted = "" }) => ({
      where: "configuration",
      expected: wanted,
      found,
      cause: "validate-uuid is on and the two machines have different -uuid",
      cure: `start the target with -uuid ${found}`,
    }),
  },
  "complaint.no-configuration": {
    pattern: /Configuration section missing/,
    explain: () => ({
      where: "configuration",
      expected: "the configuration section after the header",
      found: "something else",
      cause:
        "the source does not send it (machine type before 2.4, send-configuration=off), or the stream is damaged",
      cure: "use the same machine type on both sides, or -global migration.send-configuration=off on the target",
    }),
  },
  "complaint.not-a-stream": {
    pattern: /Not a migration stream|Unsupported migration stream version|SaveVM v2 format/,
    explain: () => ({
      where: "header",
      expected: "QEVM and version 3",
      found: "other bytes",
      cause:
        "the file is not a migration stream: a disk image with a snapshot in it, a compressed file, a file with the stream at an offset (file:…,offset=), or the other side uses TLS",
      cure: "decompress it, give the offset, or load a snapshot with -loadvm",
    }),
  },
  "complaint.field": {
    pattern: /Failed to load (?:element of type \S+ for )?(?<field>[^\s:]+:\S+)/,
    explain: ({ field = "" }) => ({
      where: field,
      expected: "a value that the target accepts",
      found: "another value, or the end of the stream",
      cause:
        "a field that must be equal on both sides (a size, a number of queues or CPUs), a value out of range, or a stream that is cut here",
      cure: `give the device the same properties on both sides; ${INSPECT}`,
    }),
  },
  "complaint.cut": {
    pattern:
      /Unable to read|Getting RAM address failed|load of migration failed: (?:Input\/output error|Connection reset)|error -5\b|Failed to read section ID|Read section footer failed/,
    explain: () => ({
      expected: "more of the stream",
      found: "its end",
      cause:
        "the stream is cut: the source failed or was terminated before the migration was `completed`, a full disk, an interrupted copy",
      cure: `look at the source's query-migrate and error output; use a whole copy; ${INSPECT}`,
    }),
  },
  "complaint.device": {
    pattern: /error while loading state for instance 0x(?<instance>[0-9a-f]+) of device '(?<device>[^']*)'/,
    explain: ({ instance = "", device = "" }) => ({
      where: `section ${device}/${Number.parseInt(instance, 16)}`,
      expected: "state that this device accepts",
      found: "other state",
      cause:
        "the previous line has the reason; without one, the device's own check failed: another property, size or version",
      cure: `give the device the same properties on both sides; ${CHECK}`,
    }),
  },
  "complaint.einval": {
    pattern: /Error -22 while loading VM state|load of migration failed: Invalid argument|error -22/,
    explain: () => ({
      expected: "a stream that matches the target",
      found: "EINVAL, QEMU's code for any mismatch",
      cause:
        "machine type, a missing or additional device, a version, RAM sizes or virtio features: the line that QEMU prints before this one names it",
      cure: `look for that line in the target's error output (libvirt: /var/log/libvirt/qemu/NAME.log); ${CHECK}`,
    }),
  },
  "complaint.enoent": {
    pattern: /load of migration failed: No such file or directory|error -2\b/,
    explain: () => ({
      expected: "subsections that the target knows",
      found: "ENOENT",
      cause: "the source is newer and wrote a subsection that the target does not know",
      cure: `${CHECK}: it names the subsection; turn the feature off on the source, or use its older machine type`,
    }),
  },
  "complaint.eperm": {
    pattern: /load of migration failed: Operation not permitted/,
    explain: () => ({
      expected: "state that each device accepts",
      found: "EPERM, which is -1: a device refused without a reason",
      cause: "virtio features or queues that do not match, or a field that fails its validation",
      cure: `look for the line that QEMU prints before this one; ${CHECK}`,
    }),
  },
};

const MAX_TEXT = 100_000;
/** Maximum number of characters examined per line. */
const MAX_LINE = 1000;

/** Codes of messages that report only that loading failed. */
const GENERAL = new Set(["complaint.device", "complaint.einval", "complaint.enoent", "complaint.eperm"]);

/** Registers of the type 0 header, by the offset at which each ends; capabilities follow. */
const CONFIG_REGISTERS: readonly (readonly [end: number, name: string])[] = [
  [0x02, "vendor id"],
  [0x04, "device id"],
  [0x08, "status"],
  [0x09, "revision"],
  [0x0c, "class"],
  [0x0f, "header type"],
  [0x28, "base address (size or kind of a BAR)"],
  [0x34, "expansion ROM"],
  [0x35, "pointer to the capabilities"],
  [0x40, "header"],
  [0x100, "a capability"],
];
function configRegister(at: number): string {
  const name = CONFIG_REGISTERS.find(([end]) => at < end)?.[1] ?? "an extended capability";
  return `${name} at 0x${at.toString(16)}`;
}

function sectionCause(idstr: string): string {
  if (/^[0-9a-f]{4}:[0-9a-f]{2}/i.test(idstr)) {
    return "the target has no such device at this PCI address";
  }
  if (idstr === "ram" || idstr === "block") return "the target has no such kind of section";
  return "the target has fewer devices (or CPUs) of this kind, has them in another order, or does not know them";
}

function tooNew(name: string, found: string, wanted: string): Explanation {
  return {
    where: `state '${name}'`,
    expected: `version ${wanted} or older`,
    found: `version ${found}`,
    cause: "the source is newer than the target",
    cure: "use a target at least as new as the source; or start the source with an older versioned machine type, if it then writes the older version",
  };
}

function features(found: string, allowed: string, device: string | undefined): Explanation {
  const name = device?.slice(device.lastIndexOf("/") + 1);
  const missing = BigInt(`0x${found}`) & ~BigInt(`0x${allowed}`);
  // Without the device's type, only the bits above 23 have a known meaning.
  const names = (featureNames(virtioType(name ?? ""), missing) ?? "none").split(/ (?=VIRTIO|VHOST|bit)/);
  const known = names.filter((word) => !word.startsWith("bit") && word !== "none");
  return {
    ...(device === undefined ? {} : { where: `section ${device}` }),
    expected: `features within 0x${allowed}`,
    found:
      missing === 0n ? `0x${found}, which are all offered` : `0x${found}: ${names.join(" ")} not offered`,
    cause:
      "the guest uses virtio features that the target's device does not offer: other properties, another release or machine type, or another backend (a tap without vnet_hdr, a vhost without the feature)",
    cure:
      known.length === 0
        ? "give the device the same properties, backend and machine type on both sides"
        : featureCure(known),
  };
}

/**
 * Explains QEMU's error output: one Problem per recognised line, the most specific first. Lines that only
 * report a failure are omitted if another line has the reason. Empty if no line is recognised.
 */
export function explainComplaint(text: string): Problem[] {
  const found: Problem[] = [];
  const device = COMPLAINTS["complaint.device"]?.pattern.exec(text.slice(0, MAX_TEXT))?.groups?.["device"];
  for (const whole of text.split("\n")) {
    const line = whole.slice(0, MAX_LINE);
    for (const [code, { pattern, explain }] of Object.entries(COMPLAINTS)) {
      const match = pattern.exec(line);
      if (match === null) continue;
      const { where = device === undefined ? "stream" : `section ${device}`, ...explained } = explain(
        match.groups ?? {},
        device,
      );
      const problem = { code, where, ...explained };
      if (!found.some((known) => JSON.stringify(known) === JSON.stringify(problem))) found.push(problem);
    }
  }
  const specific = found.filter(({ code }) => !GENERAL.has(code));
  return specific.length > 0 ? specific : found;
}
