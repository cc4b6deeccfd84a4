// QEMU's own messages, of several releases, as printed: each is recognised and explained.
import { describe, expect, test } from "vitest";
import { explainComplaint } from "./complaints.ts";

const LINES: readonly (readonly [code: string, line: string, words: RegExp])[] = [
  ["footer", "qemu-system-x86_64: Missing section footer for 0000:00:03.0/e1000e", /same machine type/],
  ["footer-id", "Mismatched section id in footer for timer - read 0x1 expected 0x2", /wherry inspect/],
  ["footer-id", "Mismatched section id in footer for timer -read 0x1 expected 0x2", /wherry inspect/],
  [
    "unknown-section",
    "Unknown savevm section or instance '0000:00:05.0/1/usb-ptr' 0. Make sure that your current VM setup matches your saved VM setup, including any hotplugged devices",
    /same order/,
  ],
  ["unknown-section", "qemu: Unknown savevm section or instance 'cpu_common' 1", /same devices.*-smp/],
  ["unknown-section-id", "qemu-system-x86_64: Unknown savevm section 42", /wherry inspect/],
  ["section-type", "Unknown savevm section type 5", /subsection/],
  [
    "length-mismatch",
    "Length mismatch: 0000:00:03.0/e1000.rom: 0x40000 in != 0x80000: Invalid argument",
    /romsize/,
  ],
  ["length-mismatch", "Size mismatch: pc.bios: 0x20000 != 0x40000: Invalid argument", /firmware/],
  [
    "size-too-large",
    "Size too large: /rom@etc/acpi/tables: 0x400000 > 0x200000: Invalid argument",
    /machine type/,
  ],
  ["unknown-ramblock", 'Unknown ramblock "0000:00:02.0/vga.vram", cannot accept migration', /same devices/],
  ["unknown-ramblock", 'Unknown ramblock "/rom@etc/acpi/tables", cannot accept migration', /acpi=off/],
  ["page-size", "Mismatched RAM page size pc.ram (local) 4096 != 2097152", /memory backend/],
  ["ram-flags", "Unknown combination of migration flags: 0x7", /capabilities/],
  ["features", "Features 0x300000000 unsupported. Allowed features: 0x179000200", /iommu_platform=on/],
  [
    "queue-index",
    "VQ 0 size 0x80 Guest index 0x12c inconsistent with Host index 0x33: delta 0xf9",
    /vhost=off/,
  ],
  ["queue-index", "VQ 1 size 0x100 < last_avail_idx 0x9 - used_idx 0x300", /vhost=off/],
  ["queue-address", "VQ 2 address 0x0 inconsistent with Host index 0x5", /same device properties/],
  [
    "pci-config",
    "get_pci_config_device: Bad config data: i=0x34 read: 98 device: 40 cmask: ff wmask: 0 w1cmask:0",
    /vectors/,
  ],
  ["command", "qemu-system-riscv64: MIG_CMD 0xb unknown (len 0x0)", /send-switchover-start=off/],
  [
    "arm-register",
    "handle_cpreg_only_in_incoming_stream: system register 0x1013c030 in the incoming stream but unknown on the destination: fail migration",
    /same -cpu/,
  ],
  ["too-new", "cpu: incoming version_id 12 is too new for local version_id 10", /at least as new/],
  ["unsupported-version", "savevm: unsupported version 12 for 'cpu' v10", /at least as new/],
  [
    "too-old",
    "cpu: incoming version_id 5 is too old for local minimum version_id  10",
    /intermediate release/,
  ],
  [
    "too-old",
    "load of migration failed: Invalid argument: error while loading state for instance 0x0 of device 'cpu': cpu: incoming version_id 10 is too old for local minimum version_id 12",
    /intermediate release/,
  ],
  ["machine", "Machine type received is 'pc-i440fx-9.2' and local is 'pc-q35-9.2'", /-M pc-i440fx-9.2/],
  ["page-bits", "Received TARGET_PAGE_BITS is 12 but local is 10", /same -cpu/],
  ["capability", "Capability x-ignore-shared is off, but received capability is on", /x-ignore-shared on/],
  ["uuid", "UUID received is 1234-5 and local is 6789-0", /-uuid 1234-5/],
  ["no-configuration", "Configuration section missing", /send-configuration=off/],
  ["not-a-stream", "Not a migration stream", /-loadvm/],
  ["field", "Failed to load virtio-net:virtio", /same properties/],
  ["cut", "Getting RAM address failed", /whole copy/],
  ["cut", "load of migration failed: Input/output error", /whole copy/],
  [
    "device",
    "error while loading state for instance 0x0 of device '0000:00:03.0/virtio-net'",
    /wherry check/,
  ],
  ["einval", "Error -22 while loading VM state", /look for that line/],
  ["einval", "load of migration failed: Invalid argument", /wherry check/],
  ["enoent", "load of migration failed: No such file or directory", /subsection/],
  ["eperm", "load of migration failed: Operation not permitted", /wherry check/],
];

test.each(LINES)("%s: %s", (code, line, words) => {
  const [problem] = explainComplaint(line);
  expect(problem?.code).toBe(`complaint.${code}`);
  expect(problem?.cure).not.toBe("");
  expect(`${problem?.cause} ${problem?.cure}`).toMatch(words);
});

describe("several lines", () => {
  test("a line with the reason replaces those that report only a failure; the device is taken from them", () => {
    const text = `qemu-system-x86_64: Features 0x130afffa7 unsupported. Allowed features: 0x130afffa0
qemu-system-x86_64: Failed to load virtio-net:virtio
qemu-system-x86_64: error while loading state for instance 0x0 of device '0000:00:03.0/virtio-net'
qemu-system-x86_64: load of migration failed: Operation not permitted`;
    const problems = explainComplaint(text);
    expect(problems.map(({ code }) => code)).toEqual(["complaint.features", "complaint.field"]);
    expect(problems[0]).toMatchObject({ where: "section 0000:00:03.0/virtio-net" });
    expect(problems[0]?.found).toContain("VIRTIO_NET_F_CSUM VIRTIO_NET_F_GUEST_CSUM");
  });
  test("other text gives no problems", () => {
    expect(explainComplaint("qemu: could not open disk image\n")).toEqual([]);
  });
  test("numbers of any length do no harm", () => {
    const line = `Features 0x${"f".repeat(10_000)} unsupported. Allowed features: 0x0`;
    expect(explainComplaint(line)).toEqual([]);
    expect(explainComplaint("Length mismatch: ".repeat(20_000))).toEqual([]);
    expect(explainComplaint("error while loading state for instance 0x".repeat(20_000))).toEqual([]);
  });
});
