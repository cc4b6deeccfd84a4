// The address map and interrupt numbers of QEMU's RISC-V `virt` board.

export const MIB = 1024 * 1024;
const GIB = 1024 * MIB;

/** Guest-physical base and size in bytes. */
export const VIRT_MEMMAP = {
  mrom: { base: 0x1000, size: 0xf000 },
  test: { base: 0x100000, size: 0x1000 },
  rtc: { base: 0x101000, size: 0x1000 },
  clint: { base: 0x2000000, size: 0x10000 },
  sswi: { base: 0x2f00000, size: 0x4000 },
  pciePio: { base: 0x3000000, size: 0x10000 },
  plic: { base: 0xc000000, size: 0x600000 },
  uart0: { base: 0x10000000, size: 0x100 },
  virtio: { base: 0x10001000, size: 0x1000 },
  fwCfg: { base: 0x10100000, size: 0x18 },
  flash: { base: 0x20000000, size: 64 * MIB },
  pcieEcam: { base: 0x30000000, size: 256 * MIB },
  pcieMmio: { base: 0x40000000, size: GIB },
  dram: { base: 0x80000000, size: 0 },
  pcieMmioHigh: { base: 16 * GIB, size: 16 * GIB },
} as const;

/** The VM generation ID has the last page of the ROM at `mrom` to itself. QEMU's board has no such device. */
export const VM_GENERATION = { base: 0xf000, size: 0x1000 } as const;

export const FLASH_SIZE = VIRT_MEMMAP.flash.size / 2;

/**
 * PLIC sources. Slot i of virtio has VIRTIO + i, INTA of the PCIe bus has PCIE. QEMU's boards have nothing at
 * VM_GENERATION.
 */
export const VIRT_IRQ = { VIRTIO: 1, UART0: 10, RTC: 11, VM_GENERATION: 12, PCIE: 32 } as const;
export const VIRTIO_COUNT = 8;
/** Highest source number of the PLIC (`riscv,ndev`). */
export const PLIC_NDEV = 95;

export const UART_CLOCK_HZ = 3_686_400;

/** Base of virtio-mmio slot `i` (0…7). */
export function virtioSlotBase(i: number): number {
  return VIRT_MEMMAP.virtio.base + i * VIRT_MEMMAP.virtio.size;
}
