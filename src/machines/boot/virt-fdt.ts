// The device tree of the virt board, as QEMU 7.2 generates it, for the hardware of this board. Differences:
// the newer riscv,isa-base and riscv,isa-extensions in addition to riscv,isa; Sv57; riscv,ndev is the highest
// source (95; QEMU 7.2 says 96); the VM generation ID; no PMU and platform-bus nodes. With the built-in
// firmware harts start in S-mode: there is no CLINT, and the PLIC's M-mode contexts are marked absent.
import { INTERRUPT } from "../../riscv/causes.ts";
import { CACHE_BLOCK_SIZE } from "../../riscv/extensions.ts";
import { cells, cells64, empty, FdtNode, strings } from "./fdt.ts";
import {
  FLASH_SIZE,
  PLIC_NDEV,
  UART_CLOCK_HZ,
  VIRT_IRQ,
  VIRT_MEMMAP,
  VIRTIO_COUNT,
  virtioSlotBase,
  VM_GENERATION,
} from "./virt-map.ts";

export interface VirtFdtOptions {
  readonly harts: number;
  readonly memorySize: number;
  /** Extensions in canonical order, single letters first: `["i", "m", …, "zicsr", …]`. */
  readonly isaExtensions: readonly string[];
  /** `riscv,sv39`, `riscv,sv48` or `riscv,sv57`. */
  readonly mmuType: string;
  /** Ticks of the time CSR in a second. */
  readonly timebaseHz: number;
  /** Harts start in S-mode: nodes and properties for M-mode are omitted. */
  readonly builtinFirmware: boolean;
  readonly bootargs?: string;
  /** Guest-physical start and end of the initial ramdisk. */
  readonly initrd?: { readonly start: number; readonly end: number };
  /** 32 bytes for the guest's random number generator. */
  readonly rngSeed?: Uint8Array;
}

const NO_CONTEXT = 0xffffffff;

const PCI_RANGE_IO = 0x1000000;
const PCI_RANGE_MMIO_32 = 0x2000000;
const PCI_RANGE_MMIO_64 = 0x3000000;
const PCI_SLOTS_PER_MAP = 4;
const INTX_LINES = 4;

export function virtFdt(options: VirtFdtOptions): FdtNode {
  const phandles = {
    intc: Array.from({ length: options.harts }, (_, i) => 1 + 2 * i),
    cpu: Array.from({ length: options.harts }, (_, i) => 2 + 2 * i),
    plic: 1 + 2 * options.harts,
    test: 2 + 2 * options.harts,
  };
  const root = new FdtNode("", {
    "#address-cells": cells(2),
    "#size-cells": cells(2),
    compatible: strings("riscv-virtio"),
    model: strings("riscv-virtio,qemu"),
  });
  addChosen(root, options);
  root.add(`memory@${VIRT_MEMMAP.dram.base.toString(16)}`, {
    device_type: strings("memory"),
    reg: cells64(VIRT_MEMMAP.dram.base, options.memorySize),
  });
  addCpus(root, options, phandles.cpu, phandles.intc);
  const soc = root.add("soc", {
    "#address-cells": cells(2),
    "#size-cells": cells(2),
    compatible: strings("simple-bus"),
    ranges: empty,
  });
  addPlic(soc, options, phandles.plic, phandles.intc);
  if (!options.builtinFirmware) {
    soc.add(nodeName("clint", VIRT_MEMMAP.clint.base), {
      compatible: strings("sifive,clint0", "riscv,clint0"),
      reg: cells64(VIRT_MEMMAP.clint.base, VIRT_MEMMAP.clint.size),
      "interrupts-extended": cells(...phandles.intc.flatMap((h) => [h, INTERRUPT.MSI, h, INTERRUPT.MTI])),
    });
  }
  addDevices(soc, phandles.plic, phandles.test);
  addPcie(soc, phandles.plic);
  for (const [name, value] of [
    ["poweroff", 0x5555],
    ["reboot", 0x7777],
  ] as const) {
    root.add(name, {
      compatible: strings(`syscon-${name}`),
      regmap: cells(phandles.test),
      offset: cells(0),
      value: cells(value),
    });
  }
  addFlashAndFwCfg(root);
  return root;
}

function nodeName(name: string, base: number): string {
  return `${name}@${base.toString(16)}`;
}

function addChosen(root: FdtNode, options: VirtFdtOptions): void {
  const chosen = root.add("chosen", {
    "stdout-path": strings(`/soc/${nodeName("serial", VIRT_MEMMAP.uart0.base)}`),
  });
  const { bootargs, initrd, rngSeed } = options;
  if (bootargs !== undefined && bootargs !== "") chosen.properties.set("bootargs", strings(bootargs));
  if (initrd !== undefined) {
    chosen.properties.set("linux,initrd-start", cells(initrd.start));
    chosen.properties.set("linux,initrd-end", cells(initrd.end));
  }
  if (rngSeed !== undefined) chosen.properties.set("rng-seed", rngSeed);
}

/** `rv64imafdc_zicsr_…`. */
export function isaString(extensions: readonly string[]): string {
  const letters = extensions.filter((e) => e.length === 1);
  const named = extensions.filter((e) => e.length > 1);
  return [`rv64${letters.join("")}`, ...named].join("_");
}

function addCpus(root: FdtNode, options: VirtFdtOptions, cpuHandles: number[], intcHandles: number[]): void {
  const { isaExtensions } = options;
  const cpus = root.add("cpus", {
    "#address-cells": cells(1),
    "#size-cells": cells(0),
    "timebase-frequency": cells(options.timebaseHz),
  });
  for (const [id, phandle] of cpuHandles.entries()) {
    const cpu = cpus.add(`cpu@${id.toString(16)}`, {
      phandle: cells(phandle),
      device_type: strings("cpu"),
      reg: cells(id),
      status: strings("okay"),
      compatible: strings("riscv"),
      "riscv,isa": strings(isaString(isaExtensions)),
      "riscv,isa-base": strings("rv64i"),
      "riscv,isa-extensions": strings(...isaExtensions),
      "mmu-type": strings(options.mmuType),
    });
    for (const letter of ["m", "z"] as const) {
      if (isaExtensions.includes(`zicbo${letter}`)) {
        cpu.properties.set(`riscv,cbo${letter}-block-size`, cells(CACHE_BLOCK_SIZE));
      }
    }
    cpu.add("interrupt-controller", {
      "#interrupt-cells": cells(1),
      "interrupt-controller": empty,
      compatible: strings("riscv,cpu-intc"),
      phandle: cells(intcHandles[id] as number),
    });
  }
  const cluster = cpus.add("cpu-map").add("cluster0");
  for (const [id, phandle] of cpuHandles.entries()) cluster.add(`core${id}`, { cpu: cells(phandle) });
}

function addPlic(soc: FdtNode, options: VirtFdtOptions, phandle: number, intcHandles: number[]): void {
  const machine = options.builtinFirmware ? NO_CONTEXT : INTERRUPT.MEI;
  soc.add(nodeName("plic", VIRT_MEMMAP.plic.base), {
    phandle: cells(phandle),
    compatible: strings("sifive,plic-1.0.0", "riscv,plic0"),
    reg: cells64(VIRT_MEMMAP.plic.base, VIRT_MEMMAP.plic.size),
    "#address-cells": cells(0),
    "#interrupt-cells": cells(1),
    "interrupt-controller": empty,
    // A context's number is its position in this list.
    "interrupts-extended": cells(...intcHandles.flatMap((h) => [h, machine, h, INTERRUPT.SEI])),
    "riscv,ndev": cells(PLIC_NDEV),
  });
}

function addDevices(soc: FdtNode, plic: number, test: number): void {
  for (let i = VIRTIO_COUNT - 1; i >= 0; i--) {
    soc.add(nodeName("virtio_mmio", virtioSlotBase(i)), {
      compatible: strings("virtio,mmio"),
      reg: cells64(virtioSlotBase(i), VIRT_MEMMAP.virtio.size),
      "interrupt-parent": cells(plic),
      interrupts: cells(VIRT_IRQ.VIRTIO + i),
    });
  }
  soc.add(nodeName("test", VIRT_MEMMAP.test.base), {
    phandle: cells(test),
    compatible: strings("sifive,test1", "sifive,test0", "syscon"),
    reg: cells64(VIRT_MEMMAP.test.base, VIRT_MEMMAP.test.size),
  });
  soc.add(nodeName("serial", VIRT_MEMMAP.uart0.base), {
    compatible: strings("ns16550a"),
    reg: cells64(VIRT_MEMMAP.uart0.base, VIRT_MEMMAP.uart0.size),
    "clock-frequency": cells(UART_CLOCK_HZ),
    "interrupt-parent": cells(plic),
    interrupts: cells(VIRT_IRQ.UART0),
  });
  soc.add(nodeName("rtc", VIRT_MEMMAP.rtc.base), {
    compatible: strings("google,goldfish-rtc"),
    reg: cells64(VIRT_MEMMAP.rtc.base, VIRT_MEMMAP.rtc.size),
    "interrupt-parent": cells(plic),
    interrupts: cells(VIRT_IRQ.RTC),
  });
  soc.add(nodeName("rng", VM_GENERATION.base), {
    compatible: strings("microsoft,vmgenid"),
    reg: cells64(VM_GENERATION.base, VM_GENERATION.size),
    "interrupt-parent": cells(plic),
    interrupts: cells(VIRT_IRQ.VM_GENERATION),
  });
}

function addPcie(soc: FdtNode, plic: number): void {
  const { pcieEcam, pciePio, pcieMmio, pcieMmioHigh } = VIRT_MEMMAP;
  // INTx lines swizzle over the PLIC's four sources by slot (PCI-to-PCI Bridge Architecture 1.2, 9.1).
  const interruptMap: number[] = [];
  for (let slot = 0; slot < PCI_SLOTS_PER_MAP; slot++) {
    for (let pin = 1; pin <= INTX_LINES; pin++) {
      const source = VIRT_IRQ.PCIE + ((pin - 1 + slot) % INTX_LINES);
      interruptMap.push(slot << 11, 0, 0, pin, plic, source);
    }
  }
  soc.add(nodeName("pci", pcieEcam.base), {
    compatible: strings("pci-host-ecam-generic"),
    device_type: strings("pci"),
    "#address-cells": cells(3),
    "#size-cells": cells(2),
    "#interrupt-cells": cells(1),
    "linux,pci-domain": cells(0),
    "bus-range": cells(0, pcieEcam.size / 2 ** 20 - 1),
    "dma-coherent": empty,
    reg: cells64(pcieEcam.base, pcieEcam.size),
    ranges: cells(
      ...[PCI_RANGE_IO, 0, 0, 0, pciePio.base, 0, pciePio.size],
      ...[PCI_RANGE_MMIO_32, 0, pcieMmio.base, 0, pcieMmio.base, 0, pcieMmio.size],
      ...[
        PCI_RANGE_MMIO_64,
        ...split(pcieMmioHigh.base),
        ...split(pcieMmioHigh.base),
        ...split(pcieMmioHigh.size),
      ],
    ),
    "interrupt-map-mask": cells((PCI_SLOTS_PER_MAP - 1) << 11, 0, 0, 7),
    "interrupt-map": cells(...interruptMap),
  });
}

function split(value: number): [number, number] {
  return [Math.floor(value / 2 ** 32), value % 2 ** 32];
}

function addFlashAndFwCfg(root: FdtNode): void {
  const { flash, fwCfg } = VIRT_MEMMAP;
  root.add(nodeName("flash", flash.base), {
    compatible: strings("cfi-flash"),
    reg: cells64(flash.base, FLASH_SIZE, flash.base + FLASH_SIZE, FLASH_SIZE),
    "bank-width": cells(4),
  });
  root.add(nodeName("fw-cfg", fwCfg.base), {
    compatible: strings("qemu,fw-cfg-mmio"),
    reg: cells64(fwCfg.base, fwCfg.size),
    "dma-coherent": empty,
  });
}
