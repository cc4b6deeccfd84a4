// PCI capabilities as runs of fields: the PCI Local Bus specification 3.0 (section 6.7 and appendix H), PCI
// Express 4.0 (section 7) and virtio 1.3 (section 4.1.4, in vendor-specific ones). Only those of QEMU's
// devices.

interface Capability {
  readonly name: string;
  /**
   * Layout of the fields after the two or four bytes of each capability's head (see field-layout.ts),
   * little-endian.
   */
  readonly layout: string;
}

const EXPRESS =
  "flags:2 device_capabilities:4 device_control:2 device_status:2 link_capabilities:4 link_control:2 link_status:2";
const EXPRESS_2 =
  " slot_capabilities:4 slot_control:2 slot_status:2 root_control:2 root_capabilities:2 root_status:4" +
  " device_capabilities_2:4 device_control_2:2 device_status_2:2 link_capabilities_2:4 link_control_2:2" +
  " link_status_2:2 slot_capabilities_2:4 slot_control_2:2 slot_status_2:2";

const VIRTIO_CFG_TYPES: Readonly<Record<number, readonly [name: string, more: string]>> = {
  1: ["common", ""],
  2: ["notify", " notify_off_multiplier:4"],
  3: ["isr", ""],
  4: ["device", ""],
  5: ["pci", " pci_cfg_data:b4"],
  8: ["shared memory", " offset_hi:4 length_hi:4"],
  9: ["vendor", ""],
};

const VIRTIO_VENDOR = 0x1af4;

/**
 * Finds a capability's layout. `u16` reads two bytes of config space by offset. Undefined for an unknown
 * capability.
 */
export function capabilityAt(u16: (offset: number) => number, at: number): Capability | undefined {
  const id = u16(at) & 0xff;
  const control = u16(at + 2);
  switch (id) {
    case 0x01:
      return { name: "power management", layout: "pmc:2 pmcsr:2 pmcsr_bse:1 data:1" };
    case 0x05: {
      const wide = (control & 0x80) !== 0;
      const mask = (control & 0x100) !== 0;
      const layout = `control:2 address:4${wide ? " address_hi:4" : ""} data:2`;
      return { name: "MSI", layout: mask ? `${layout} extended_data:2 mask:4 pending:4` : layout };
    }
    case 0x09: {
      const length = control & 0xff;
      const [kind, more] = VIRTIO_CFG_TYPES[control >> 8] ?? ["", ""];
      if (u16(0) === VIRTIO_VENDOR && length >= 16 && kind !== "") {
        return {
          name: `virtio ${kind} configuration`,
          layout: `len:1 cfg_type:1 bar:1 id:1 padding:b2 offset:4 length:4${more}`,
        };
      }
      return { name: "vendor-specific", layout: length > 3 ? `len:1 data:b${length - 3}` : "len:1" };
    }
    case 0x0c:
      return { name: "hot-plug controller", layout: "dword_select:1 pending:1 dword_data:4" };
    case 0x0d:
      return { name: "subsystem of a bridge", layout: "reserved:b2 subsystem_vendor_id:2 subsystem_id:2" };
    case 0x10:
      return { name: "PCI Express", layout: (control & 0xf) > 1 ? EXPRESS + EXPRESS_2 : EXPRESS };
    case 0x11:
      return { name: "MSI-X", layout: "control:2 table:4 pba:4" };
    case 0x12:
      return { name: "SATA", layout: "revision:2 bar:4" };
    case 0x13:
      return { name: "advanced features", layout: "len:1 capabilities:1 control:1 status:1" };
    default:
      return undefined;
  }
}

const EXTENDED: Readonly<Record<number, Capability>> = {
  0x01: {
    name: "advanced error reporting",
    layout:
      "uncorrectable_status:4 uncorrectable_mask:4 uncorrectable_severity:4 correctable_status:4 correctable_mask:4 " +
      "control:4 header_log:b16 root_command:4 root_status:4 source:4 tlp_prefix_log:b16",
  },
  0x03: { name: "serial number", layout: "serial:8" },
  0x0d: { name: "access control services", layout: "capabilities:2 control:2" },
  0x0e: { name: "alternative routing ID", layout: "capabilities:2 control:2" },
  0x0f: { name: "address translation services", layout: "capabilities:2 control:2" },
  0x10: {
    name: "single-root I/O virtualization",
    layout:
      "capabilities:4 control:2 status:2 initial_vfs:2 total_vfs:2 num_vfs:2 function_link:1 reserved:1 " +
      "first_vf_offset:2 vf_stride:2 reserved2:2 vf_device_id:2 supported_page_size:4 system_page_size:4 " +
      "vf_bar[6]:4 migration_state:4",
  },
  0x13: { name: "page requests", layout: "control:2 status:2 capacity:4 allocation:4" },
  0x1b: { name: "process address space ID", layout: "capabilities:2 control:2" },
  0x2e: { name: "data object exchange", layout: "capabilities:4 control:4 status:4 write:4 read:4" },
};

export const extendedCapability = (id: number): Capability | undefined => EXTENDED[id];
