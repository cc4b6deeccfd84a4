// Compares the PCI config space of the same device on both sides: QEMU refuses a stream in which a register
// that the guest cannot write differs ("get_pci_config_device: Bad config data: i=0x34 …"). Compared are the
// registers that are fixed in every device (cmask in pci.c): ids, class, header, and capabilities with their
// fixed registers, by the names of decode/pci-config.ts.
import type { Field, Problem, SectionReport, StreamReport } from "../model/stream-report.ts";

/** Registers that the guest cannot write, in the header and in capabilities. */
const FIXED = new Set([
  "vendor_id",
  "device_id",
  "revision",
  "prog_if",
  "class",
  "header_type",
  "capabilities",
  "cap_id",
  "cap_next",
  "cap_len",
  "cfg_type",
  "bar",
  "offset",
  "length",
  "table",
  "pba",
  "flags",
  "device_capabilities",
  "slot_capabilities",
  "subsystem_vendor_id",
  "subsystem_id",
]);
/** MSI-X: the number of vectors minus one. The guest can write the bits above. */
const TABLE_SIZE = 0x7ffn;

function configOf(fields: readonly Field[], depth = 0): Field | undefined {
  for (const field of fields) {
    if (field.type === "pci config") return field;
    const inside = depth > 4 ? undefined : configOf(field.children ?? [], depth + 1);
    if (inside !== undefined) return inside;
  }
  return undefined;
}

/** Value of each fixed register, by its path in config space. */
function registers(config: Field): Map<string, { readonly value: bigint; readonly offset: number }> {
  const found = new Map<string, { value: bigint; offset: number }>();
  for (const field of config.children ?? []) {
    const isCapability = field.type === "capability";
    for (const register of isCapability ? (field.children ?? []) : [field]) {
      const { name, value, offset } = register;
      if (typeof value !== "bigint") continue;
      const path = isCapability
        ? `${field.name}${field.meaning === undefined ? "" : ` ${field.meaning}`}, ${name}`
        : name;
      if (FIXED.has(name)) found.set(path, { value, offset });
      if (isCapability && field.name === "MSI-X" && name === "control") {
        found.set(`${path} (vectors - 1)`, { value: value & TABLE_SIZE, offset });
      }
    }
  }
  return found;
}

const hex = (value: bigint | undefined) =>
  value === undefined ? "no such register" : `0x${value.toString(16)}`;

/** One problem per device whose config spaces differ: the first register, and the number of others. */
export function pciProblems(report: StreamReport, target: StreamReport): Problem[] {
  const key = ({ idstr, instanceId }: SectionReport) => `${idstr}/${instanceId}`;
  const known = new Map(target.sections.map((section) => [key(section), section]));
  return report.sections.flatMap((section) => {
    const [config, other] = [configOf(section.fields), configOf(known.get(key(section))?.fields ?? [])];
    if (config === undefined || other === undefined) return [];
    const [sent, wanted] = [registers(config), registers(other)];
    const paths = [...new Set([...sent.keys(), ...wanted.keys()])];
    const differing = paths.filter((path) => sent.get(path)?.value !== wanted.get(path)?.value);
    const [first] = differing;
    if (first === undefined) return [];
    const more = differing.length === 1 ? "" : ` (and ${differing.length - 1} more registers)`;
    return [
      {
        code: "check.pci-config",
        where: `section ${key(section)}, config space, ${first}${more}`,
        offset: sent.get(first)?.offset ?? section.offset,
        expected: hex(wanted.get(first)?.value),
        found: hex(sent.get(first)?.value),
        cause:
          'the device has other properties on the two sides, or its machine type gives it others (QEMU: "Bad config data: i=0x…")',
        cure: "give the device the same properties on both sides (vectors, queues, disable-modern, disable-legacy, x-pcie-…) and use the same machine type",
      },
    ];
  });
}
