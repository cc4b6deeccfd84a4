// Generic PCI Express host (ECAM), as QEMU's gpex: one bus with the host bridge 00:00.0 only. PCI Local Bus
// Specification 3.0, chapter 6, for the type 0 header. State in three sections, as in QEMU: the bridge's
// function, the host's CF8-style latch, the bus's interrupt counts. Left out: devices.
import type { MmioDevice } from "../memory/mmio.ts";
import { buffer, defineState, i32, struct, u32, u32Array } from "../state/schema.ts";

const PCI_CONFIG_SIZE = 256;
const PCI_VENDOR_ID = 0x00;
const PCI_COMMAND = 0x04;
const PCI_CLASS_DEVICE = 0x0a;
const PCI_CACHE_LINE_SIZE = 0x0c;
const PCI_SUBSYSTEM_VENDOR_ID = 0x2c;
const PCI_INTERRUPT_LINE = 0x3c;
const PCI_HEADER_END = 0x40;

/** I/O, memory, master, SERR#, INTx disable. */
const PCI_COMMAND_WRITABLE = 0x0507;
const PCI_CLASS_BRIDGE_HOST = 0x0600;
const INTX_LINES = 4;

/** Read-only bytes. */
function identity(): Uint8Array {
  const config = new Uint8Array(PCI_CONFIG_SIZE);
  const view = new DataView(config.buffer);
  view.setUint32(PCI_VENDOR_ID, 0x0008_1b36, true);
  view.setUint16(PCI_CLASS_DEVICE, PCI_CLASS_BRIDGE_HOST, true);
  view.setUint32(PCI_SUBSYSTEM_VENDOR_ID, 0x1100_1af4, true);
  return config;
}
/** A set bit for each bit that a guest may write. */
function writable(): Uint8Array {
  const mask = new Uint8Array(PCI_CONFIG_SIZE).fill(0xff, PCI_HEADER_END);
  mask.set([PCI_COMMAND_WRITABLE & 0xff, PCI_COMMAND_WRITABLE >> 8], PCI_COMMAND);
  mask[PCI_CACHE_LINE_SIZE] = 0xff;
  mask[PCI_INTERRUPT_LINE] = 0xff;
  return mask;
}
const IDENTITY = identity();
const WRITABLE = writable();

const pciDeviceState = defineState(
  "PCIDevice",
  { version: 2, minimumVersion: 1 },
  {
    versionId: i32.range(2, 2).init(2).typed("int32 le"),
    config: buffer(PCI_CONFIG_SIZE)
      .init(IDENTITY)
      .typed("pci config")
      .check((config: Uint8Array) => {
        const at = config.findIndex(
          (byte, i) => ((byte ^ (IDENTITY[i] as number)) & ~(WRITABLE[i] as number)) !== 0,
        );
        return at < 0 ? undefined : `the host bridge 1b36:0008 (byte ${at} of the config space differs)`;
      }),
    /** Levels of INTA…INTD. */
    irqState: buffer(4 * INTX_LINES)
      .typed("pci irq state")
      .range(0, 0),
  },
);
export const gpexRootState = defineState(
  "gpex_root",
  { version: 1, minimumVersion: 1 },
  { parentObj: struct(pciDeviceState, 1) },
);
export const pciHostState = defineState("PCIHost", { version: 1, minimumVersion: 1 }, { configReg: u32 });
export const pciBusState = defineState(
  "PCIBUS",
  { version: 1, minimumVersion: 1 },
  {
    nirq: i32.range(INTX_LINES, INTX_LINES).init(INTX_LINES).typed("int32 equal"),
    irqCount: u32Array(INTX_LINES).range(0, 0).typed("int32"),
  },
);

/** The ECAM window: bus << 20 | device << 15 | function << 12 | register. */
export class GpexHost implements MmioDevice {
  readonly root = gpexRootState.create();
  readonly host = pciHostState.create();
  readonly bus = pciBusState.create();

  reset(): void {
    gpexRootState.assign(this.root, gpexRootState.create());
    this.host.configReg = 0;
  }

  read(offset: number, size: number): number {
    let value = 0;
    for (let i = 0; i < size; i++) value |= (this.root.parentObj.config[offset + i] ?? 0xff) << (8 * i);
    return value >>> 0;
  }

  write(offset: number, size: number, value: number): void {
    const { config } = this.root.parentObj;
    for (let i = 0; i < size && offset + i < PCI_CONFIG_SIZE; i++) {
      const mask = WRITABLE[offset + i] as number;
      const old = config[offset + i] as number;
      config[offset + i] = (old & ~mask) | ((value >>> (8 * i)) & mask);
    }
  }
}

/** A window without a device behind it: reads return all ones, writes are ignored (PCI master abort). */
export const unclaimedPciWindow: MmioDevice = {
  read: (_offset, size) => 2 ** (8 * size) - 1,
  write: () => {},
};
