// QEMU's messages about a stream's frame: header, configuration, sections, commands, and how loading ends.
import { CHECK, type ComplaintTable, type Explanation, INSPECT, type Words } from "./complaint-formats.ts";
import { deviceOption, deviceWords } from "./device-options.ts";
import { ownCheck } from "./own-checks.ts";

const CUT = {
  expected: "more of the stream",
  found: "its end",
  cause:
    "the stream is cut: the source failed or was terminated before the migration was `completed`, a full disk, an interrupted copy",
  cure: `look at the source's query-migrate and error output; use a whole copy of the stream, or save it again; ${INSPECT}`,
};

export const FRAME: ComplaintTable = {
  "complaint.unknown-section": {
    says: [
      "Unknown savevm section or instance '{idstr}' {instance:d}",
      "Unknown section or instance '{idstr}' {instance:d}",
      "Unknown section or instance '{idstr}'",
    ],
    expected: "a device that the target has",
    found: "{idstr} {instance}",
    cause: "the target lacks this device or CPU",
    cure: "give both sides the same devices in the same order and at the same addresses (addr=, bus=), hot-plugged ones too, and as many CPUs (-smp); `wherry check STREAM --target STREAM_OF_THE_TARGET` lists what is missing",
    explain: unknownSection,
  },
  "complaint.unknown-section-id": {
    says: ["Unknown savevm section {id:d}", "Unknown section {id:d}"],
    where: "section {id}",
    expected: "part of a section that has started",
    found: "section id {id}",
    cause: "the stream is damaged, or the previous section was read past or short of its end",
    cure: INSPECT,
  },
  "complaint.section-type": {
    says: ["Unknown savevm section type {type:d}", "Unknown section type {type:d}"],
    expected: "the type of a section (1 to 4, 8) or the end (0)",
    found: "type {type}",
    cause: "the previous section was read past or short of its end, or the stream is damaged or cut",
    cure: `${CHECK}; ${INSPECT}`,
    explain: ({ type }) => SECTION_TYPES[type ?? ""] ?? {},
  },
  "complaint.footer": {
    says: "Missing section footer for {device:w}",
    where: "section {device}",
    expected: "a footer (0x7e) where this device's state ends",
    found: "another byte",
    cause:
      "the target read more or less of this device's state than the source wrote: another layout (release, property, a subsection it does not know), or the source writes no footers (machine type before 2.4, send-section-footer=off)",
    cure: `use the same machine type and device properties on both sides; ${CHECK}`,
    explain: ({ device = "" }) => footerCause(device),
  },
  "complaint.footer-id": {
    says: [
      "Mismatched section id in footer for {device:w} - read 0x{read:x} expected 0x{wanted:x}",
      "Mismatched section id in footer for {device:w} -read 0x{read:x} expected 0x{wanted:x}",
    ],
    where: "section {device}",
    expected: "the footer of section 0x{wanted}",
    found: "0x{read}",
    cause:
      "this device's state was read past or short of its end, to bytes that look like a footer, or the stream is damaged",
    cure: `${INSPECT}; ${CHECK}`,
  },
  "complaint.footer-error": {
    says: "Section footer error, section_id: {id:d}",
    rank: "symptom",
    where: "section id {id}",
    expected: "a footer where the section's state ends",
    found: "other bytes",
    cause:
      "the target read more or less of this section's state than the source wrote; QEMU names the device in the line before this one",
    cure: `use the same machine type and device properties on both sides; ${INSPECT}`,
  },
  "complaint.vmdescription": {
    says: "Expected vmdescription section, but got {type:d}",
    where: "end of the stream",
    expected: "the VMDESCRIPTION, or the end",
    found: "byte {type}",
    rank: "probable",
    cause:
      "bytes of another kind follow the machine's state: the stream is cut, a wrapper (Xen's toolstack) writes records of its own there, or the source's machine type suppresses the description. QEMU up to 10.x prints this and goes on",
    cure: `nothing, if the machine runs afterwards; else ${INSPECT}`,
  },
  "complaint.too-new": {
    says: [
      "{name:w}: incoming version_id {found:d} is too new for local version_id {wanted:d}",
      "unsupported version {found:d} for '{name}' v{wanted:d}",
    ],
    where: "state '{name}'",
    expected: "version {wanted} or older",
    found: "version {found}",
    cause: "the source is newer than the target",
    cure: "use a target at least as new as the source; or start the source with an older versioned machine type, if it then writes the older version",
  },
  "complaint.too-old": {
    says: "{name:w}: incoming version_id {found:d} is too old for local minimum version_id {wanted:d}",
    where: "state '{name}'",
    expected: "version {wanted} or newer",
    found: "version {found}",
    cause: "the source is too old: the target does not read this version any more",
    cure: "migrate through an intermediate release that reads the old version and writes a newer one, or use a target nearer to the source's release",
  },
  "complaint.subsection": {
    says: [
      "VM subsection '{name}' in '{device}' does not exist",
      "Loading VM subsection '{name}' in '{device}' failed",
    ],
    where: "subsection {name}",
    expected: "a subsection that the target knows and accepts",
    found: "{name}",
    cause:
      "the source's device has a part that the target's has not: the source is newer, or a property or feature is on at one side only",
    cure: `turn the feature off on the source (its name is the subsection's), or use its older machine type, or a target as new as the source; ${CHECK}`,
  },

  // --- Header and configuration
  "complaint.not-a-stream": {
    says: ["Not a migration stream", "Unsupported migration stream version", "SaveVM v2 format is obsolete"],
    rank: "probable",
    where: "header",
    expected: "QEVM and version 3",
    found: "other bytes",
    cause:
      "the file is not a migration stream: a disk image with a snapshot in it, a compressed file, a file with the stream at an offset (file:…,offset=), libvirt's save file with its header, or the other side uses TLS",
    cure: "decompress it, give the offset, or load a snapshot with -loadvm; `wherry inspect FILE` says what the file is",
  },
  "complaint.magic": {
    says: [
      "Not a migration stream, magic: {magic:x} != 5145564d",
      "Not a migration stream (bad magic {magic:x})",
      "Unsupported migration stream version, file version {version:d} != {wanted:d}",
    ],
    where: "header",
    expected: "QEVM and version 3",
    found: "0x{magic}",
    cause: "the file is not a migration stream",
    cure: "give the file that migrate or savevm wrote, unpacked; `wherry inspect FILE` says what the file is",
    explain: magicCause,
  },
  "complaint.machine": {
    says: "Machine type received is '{found}' and local is '{wanted}'",
    where: "configuration",
    expected: "machine type {wanted}",
    found: "machine type {found}",
    cause:
      "the two QEMUs were started with different -M; `pc`, `q35` and `virt` name another type in each release",
    cure: "start the target with -M {found}; if it does not know that type, start the source with one that both know (-M help)",
  },
  "complaint.machine-unknown": {
    says: ["unsupported machine type '{name}'", 'unsupported machine type: "{name}"'],
    where: "machine",
    expected: "a machine type that this QEMU has",
    found: "{name}",
    cause:
      "this QEMU is older than the machine type, or so new that the type was removed (a type lives for about six years), or was built without it",
    cure: "-M help lists the types. A saved machine needs its own type: use a release that has both types, there restart the guest with the newer one. A distribution's own types (pc-…-rhel, pc-…-ubuntu) exist in its packages only",
  },
  "complaint.page-bits": {
    says: "Received TARGET_PAGE_BITS is {found:d} but local is {wanted:d}",
    where: "configuration",
    expected: "pages of 2^{wanted} bytes",
    found: "pages of 2^{found} bytes",
    cause: "another CPU model or machine type (Arm: it decides the page size)",
    cure: "use the same -cpu and -M on both sides",
  },
  "complaint.capability": {
    says: "Capability {name:w} is {wanted:w}, but received capability is {found:w}",
    where: "configuration",
    expected: "{name} {wanted}",
    found: "{name} {found}",
    cause: "QEMU compares this capability of both sides",
    cure: "on the target, before migrate-incoming: migrate-set-capabilities {name} {found}",
  },
  "complaint.capability-unknown": {
    says: [
      "Received unknown capability {name:w}",
      "Received unexpected capability {name:w}",
      "Unknown capability '{name}'",
      "Unknown migration capability: '{name}'",
      "Parameter '{}' does not accept value '{name}'",
    ],
    where: "capabilities",
    expected: "a capability or value that this QEMU knows",
    found: "{name}",
    cause:
      "the two sides are of different releases (compress and block were removed in 9.1, x-multifd is multifd since 4.0), or the name is misspelt",
    cure: "set the capabilities that both sides have (query-migrate-capabilities lists them)",
  },
  "complaint.uuid": {
    says: "UUID received is {found:w} and local is {wanted:w}",
    where: "configuration",
    expected: "{wanted}",
    found: "{found}",
    cause: "validate-uuid is on and the two machines have different -uuid",
    cure: "start the target with -uuid {found}",
  },
  "complaint.no-configuration": {
    says: "Configuration section missing",
    where: "configuration",
    expected: "the configuration section after the header",
    found: "something else",
    cause:
      "the source does not send it (machine type before 2.4, send-configuration=off), or the stream is damaged",
    cure: "use the same machine type on both sides, or -global migration.send-configuration=off on the target",
  },

  "complaint.device-memory": {
    says: "Failed to load vmstate version_id: {version:d}, ret: -{ret:d}",
    rank: "outer",
    expected: "state of version {version} that this device accepts",
    found: "a refusal, error {ret}",
    cause:
      "a device's own check failed after its fields were read; the line before this one has the reason, if there is one",
    cure: `give both sides the same devices, properties and amounts of memory; ${CHECK}`,
    explain: ({ ret = "" }) => (ret === "5" ? CUT : {}),
  },

  // --- The end of the stream
  "complaint.cut": {
    says: [
      "Unable to read ",
      "Getting RAM address failed",
      "load of migration failed: Input/output error",
      "load of migration failed: Connection reset",
      "Failed to read section ID",
      "Failed to load section ID: stream error",
      "Read section footer failed",
      "Error while loading vmstate: stream error",
      "loadvm failed: stream error",
      "Failed to load {name:w} state: stream error",
      "Unable to read ID string for section {id:d}",
      "save image is incomplete",
      "Got {found:d} VMState data, less than expected {wanted:d}",
      "error -5 while loading",
      "Error -5 while loading VM state",
    ],
    rank: "probable",
    ...CUT,
  },

  // --- Commands
  "complaint.command": {
    says: "MIG_CMD 0x{command:x} unknown",
    where: "commands",
    expected: "a command that the target knows",
    found: "command 0x{command}",
    cause: "the source is newer, or the stream is damaged",
    cure: INSPECT,
    explain: ({ command }) =>
      command?.toLowerCase() === "b"
        ? {
            cause:
              "the source is QEMU 10.0 or newer and sends SWITCHOVER_START, which older ones do not know",
            cure: "start the source with -global migration.send-switchover-start=off, or a machine type before 10.0",
          }
        : {},
  },
  "complaint.command-length": {
    says: [
      "{name:w} received with bad length - expecting {wanted:d}, got {found:d}",
      "{name:w} invalid length ({found:d})",
      "{name:w} invalid version ({found:d})",
      "{name:w} missing nil",
      "Unreasonably large packaged state: {found:d}",
      "Failed to load VM process command",
    ],
    where: "commands",
    expected: "a command of its usual length",
    found: "{name}, {found}",
    cause: "the stream is damaged, or the source is a newer QEMU whose command has grown",
    cure: `use the same release on both sides; ${INSPECT}`,
  },

  // --- The device that failed, and error numbers
  "complaint.device": {
    says: [
      "error while loading state for instance 0x{instance:x} of device '{device}'",
      "error while loading state section id {id:d}({device:w})",
    ],
    rank: "outer",
    where: "section {device}",
    expected: "state that this device accepts",
    found: "other state",
    cause:
      "the previous line has the reason; without one, the device's own check failed: another property, size or version",
    cure: `give the device the same properties on both sides; ${CHECK}`,
    explain: ({ device = "", instance }) => ({
      where: `section ${device}${instance === undefined ? "" : `/${Number.parseInt(instance, 16)}`}`,
      ...ownCheck(device),
    }),
  },
  "complaint.hook": {
    says: [
      "post load hook failed for: {name:w}, version_id: {version:d}, minimum_version: {minimum:d}, ret: -{ret:d}",
      "post load hook failed for: {name:w}, version_id: {version:d}, minimum_version: {minimum:d}:",
      "pre load hook failed for: {name:w}",
    ],
    rank: "symptom",
    expected: "state that {name} accepts after it was read",
    found: "a refusal by its own check",
    cause: "a property, size or limit of this device differs between the sides",
    cure: `give the device the same properties on both sides; ${CHECK}`,
    explain: ({ name = "" }, device) => ownCheck(device ?? name),
  },
  "complaint.field": {
    says: ["Failed to load element of type {type:w} for {name:w}", "Failed to load {vmsd:w}:{name:w}"],
    rank: "symptom",
    expected: "a value that the target accepts",
    found: "another value, or the end of the stream",
    cause:
      "a field that must be equal on both sides (a size, a number of queues or CPUs), a value out of range, or a stream that is cut here",
    cure: `give the device the same properties on both sides; ${INSPECT}`,
    explain: ({ type, vmsd, name }, device) => ({
      found: `${name} of ${type ?? vmsd}: another value, or the end of the stream`,
      ...ownCheck(device ?? ""),
    }),
  },
  "complaint.validation": {
    says: [
      "Input validation failed: {name:w}",
      "input validation failed: {name:w}",
      "Output validation failed: {name:w}",
      "VMSTATE not ending with VMS_END: {name:w}",
      "ipmi:{name:w}: vmstate transfer received bad",
      "inconsistent state in serial device",
      "get_nullptr expected VMS_NULLPTR_MARKER",
    ],
    where: "field {name}",
    expected: "a value within the device's range",
    found: "one outside of it",
    cause: "the two devices have different limits (queues, slots, RAM sizes), or the stream is damaged",
    cure: `give the device the same properties and machine type on both sides; ${CHECK}`,
    explain: ({ name }) => (name === undefined ? { where: "a device's field" } : {}),
  },
  "complaint.einval": {
    says: [
      "Error -22 while loading VM state",
      "Error -22 while loading savevm",
      "load of migration failed: Invalid argument",
      "loadvm failed: -22",
      "Failed to load device state: -22",
    ],
    rank: "code",
    expected: "a stream that matches the target",
    found: "EINVAL, QEMU's code for any mismatch",
    cause:
      "machine type, a missing or additional device, a version, RAM sizes or virtio features: the line that QEMU prints before this one names it",
    cure: `look for that line in the target's error output (libvirt: /var/log/libvirt/qemu/NAME.log); ${CHECK}`,
  },
  "complaint.enoent": {
    says: [
      "load of migration failed: No such file or directory",
      "Error -2 while loading VM state",
      "error -2 while",
    ],
    rank: "code",
    expected: "subsections that the target knows",
    found: "ENOENT",
    cause: "the source is newer and wrote a subsection that the target does not know",
    cure: `${CHECK}: it names the subsection; turn the feature off on the source, or use its older machine type`,
  },
  "complaint.eperm": {
    says: ["load of migration failed: Operation not permitted", "Error -1 while loading VM state"],
    rank: "code",
    expected: "state that each device accepts",
    found: "EPERM, which is -1: a device refused without a reason",
    cause: "virtio features or queues that do not match, or a field that fails its validation",
    cure: `look for the line that QEMU prints before this one; ${CHECK}`,
  },
  "complaint.eagain": {
    says: "load of migration failed: Resource temporarily unavailable",
    rank: "code",
    where: "disk",
    expected: "disks that the target can lock",
    found: "EAGAIN: another process holds a lock",
    cause: "the source, or another process on the target's host, still has a disk image open",
    cure: "end the other process; on a file system without locks between hosts use one that has them, or file.locking=off",
  },
  "complaint.enotsup": {
    says: [
      "load of migration failed: Operation not supported",
      "load of migration failed: Not supported",
      "Error -95 while loading VM state",
    ],
    rank: "code",
    where: "header",
    expected: "a stream of version 3",
    found: "ENOTSUP",
    cause: "the stream has a version or a kind of state that this QEMU does not read",
    cure: INSPECT,
  },
  "complaint.enomem": {
    says: [
      "load of migration failed: Cannot allocate memory",
      "Error -12 while loading VM state",
      "cannot set up guest memory '{name}'",
      "unable to map backing store for guest RAM",
      "Insufficient free host memory pages available to allocate guest RAM",
    ],
    rank: "probable",
    where: "host",
    expected: "enough memory on the target's host",
    found: "ENOMEM",
    cause: "the target's host, its cgroup or its huge pages have too little memory for this guest",
    cure: "free memory there, raise the limit (memory.max, ulimit -l for locked memory), or reserve more huge pages",
  },
  "complaint.load-failed": {
    says: [
      "load of migration failed: {reason:rest}",
      "loadvm failed: {reason:rest}",
      "Error while loading vmstate",
      "Failed to load snapshot",
      "Error {reason:w} while loading VM state",
    ],
    rank: "code",
    expected: "a stream that the target can load",
    found: "{reason}",
    cause: "the line that QEMU prints before this one has the reason",
    cure: `look for it in the target's error output (libvirt: /var/log/libvirt/qemu/NAME.log); ${CHECK}`,
    explain: ({ reason }) => (reason === undefined ? { found: "an error" } : {}),
  },
};

const SECTION_TYPES: Readonly<Record<string, Explanation>> = {
  "5": { cause: "a subsection that the target does not know follows, instead of the next section" },
  "7": {
    cause:
      "a configuration section where the target expects none: the source's machine type sends it and the target's does not (2.3 and older, send-configuration=off)",
    cure: "use the same machine type on both sides; or -global migration.send-configuration=on on the target",
  },
  "126": {
    cause:
      "a section's footer (0x7e) where the target expects none: the source's machine type sends footers and the target's does not (2.3 and older, send-section-footer=off)",
    cure: "use the same machine type on both sides; or -global migration.send-section-footer=on on the target",
  },
};

function unknownSection({ idstr = "", instance }: Words): Explanation {
  if (idstr === "") {
    return {
      where: "section without a name",
      found: "an empty name",
      expected: "the name of a device",
      cause:
        "zeros or other bytes in place of a section: the stream is damaged, or was cut and filled up with zeros",
      cure: INSPECT,
    };
  }
  const option = deviceOption(idstr);
  const words = deviceWords(idstr);
  const cpu = /^(apic|cpu|cpu_common|kvm-apic|icp|xive-tctx)$/.test(idstr);
  const more = instance === undefined ? "" : `/${instance}`;
  return {
    where: `section ${idstr}${more}`,
    found: `${idstr} ${instance ?? ""}`.trim(),
    cause: cpu
      ? `the source has a CPU with number ${instance ?? "?"} that the target lacks: fewer CPUs, or others were hot-plugged`
      : instance !== undefined && instance !== "0" && instance !== "-1"
        ? `the target has no ${words} with number ${instance}: fewer of them, or none`
        : `the target has no ${words}, has it at another address, or does not know this kind`,
    cure: [
      ...(option === undefined ? [] : [`give the target ${option}`]),
      "give both sides the same devices in the same order and at the same addresses (addr=, bus=), hot-plugged ones too, and as many CPUs (-smp), and the same machine type; `wherry check STREAM --target STREAM_OF_THE_TARGET` lists what is missing",
    ].join("; else "),
  };
}

function footerCause(device: string): Explanation {
  const type = device.slice(device.lastIndexOf("/") + 1);
  if (/^(ICH9LPC|piix4_pm|ich9_pm)$/.test(type)) {
    return {
      cause:
        "the board's power management has a part for hot-plugged memory or CPUs on one side only: memory slots (-m …,slots=,maxmem=), possible CPUs (-smp …,maxcpus=), or another machine type",
      cure: `give both sides the same -m (slots and maxmem too), -smp maxcpus and machine type; ${CHECK}`,
    };
  }
  if (/xhci/.test(type)) {
    return {
      cause:
        "the controller has another number of ports, slots or interrupters on the two sides, or another layout",
      cure: `give it the same p2=, p3=, intrs= and slots= on both sides, and the same machine type; ${CHECK}`,
    };
  }
  return {};
}

/** What starts so instead. */
const MAGICS: readonly (readonly [RegExp, string, string])[] = [
  [
    /^48545450/,
    "an HTTP answer: the stream was fetched with its head",
    "save the body alone (curl -o without -i)",
  ],
  [
    /^514649fb/,
    "a qcow2 image: its snapshots hold the machine's state",
    "start with -drive … and -loadvm NAME",
  ],
  [
    /^4c696276|^6c696276/,
    "libvirt's save file: libvirt's header and XML stand before the stream",
    "restore it with virsh restore",
  ],
  [/^1f8b/, "gzip data", "unpack it: gunzip"],
  [/^28b52ffd/, "zstd data", "unpack it: zstd -d"],
  [/^fd377a58/, "xz data", "unpack it: xz -d"],
  [/^425a68/, "bzip2 data", "unpack it: bunzip2"],
  [/^04224d18/, "lz4 data", "unpack it: lz4 -d"],
  [/^894c5a4f/, "lzop data", "unpack it: lzop -d"],
  [/^504b0304/, "a zip archive", "unpack it: unzip"],
  [
    /^1603/,
    "a TLS handshake: the source uses TLS and the target does not",
    "set tls-creds on both sides, or on none",
  ],
  [
    /^7f454c46/,
    "an ELF file, such as a core of dump-guest-memory",
    "save the machine with migrate or savevm",
  ],
  [
    /^11223344/,
    "a multifd channel: the source uses multifd and the target does not",
    "migrate-set-capabilities multifd on, on both sides, before migrate-incoming",
  ],
  [
    /^0{1,8}$/,
    "zeros: a sparse or unfinished file, or the stream is at an offset in it",
    "give the offset (file:NAME,offset=N)",
  ],
];

function magicCause({ magic, version, wanted }: Words): Explanation {
  if (magic === undefined) {
    return version === undefined
      ? {}
      : {
          expected: `version ${wanted}`,
          found: `version ${version}`,
          cause: "QEMU before 0.9.1 wrote version 2, and there is none after 3: the header is damaged",
          cure: "use another copy of the stream",
        };
  }
  const known = MAGICS.find(([pattern]) => pattern.test(magic.padStart(8, "0")));
  return known === undefined ? {} : { cause: `the data are ${known[1]}`, cure: known[2] };
}
