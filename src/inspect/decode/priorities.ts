// Sections that QEMU writes ahead of the others because their VMState description states a priority
// (MIG_PRI_*): an interrupt controller or an IOMMU that devices need when they load. Names from QEMU's tree,
// 7.2 to 11. Left out: `apic`, which has one only in newer releases, and a stream does not say which release
// wrote it.
import { table } from "./field-layout.ts";

const PRIORITIES = table({
  arm_gicv3: "MIG_PRI_GICV3",
  arm_gicv3_its: "MIG_PRI_GICV3_ITS",
  "iommu-intel": "MIG_PRI_IOMMU",
  smmuv3: "MIG_PRI_IOMMU",
  "virtio-iommu": "MIG_PRI_IOMMU",
  "pcie-root-port": "MIG_PRI_PCI_BUS",
  "ioh-3240-express-root-port": "MIG_PRI_PCI_BUS",
  "pcie-pci-bridge": "MIG_PRI_PCI_BUS",
  pci_bridge: "MIG_PRI_PCI_BUS",
  i82801b11_bridge: "MIG_PRI_PCI_BUS",
  "xio3130-express-upstream-port": "MIG_PRI_PCI_BUS",
  "xio3130-express-downstream-port": "MIG_PRI_PCI_BUS",
  "vfio-container": "MIG_PRI_LOW",
  "vfio-iommufd-container": "MIG_PRI_LOW",
});

/**
 * By the description's name, or without one by the end of the section's; undefined where the default holds.
 */
export const priorityOf = (idstr: string, vmsdName?: string): string | undefined =>
  PRIORITIES.get(vmsdName ?? idstr.slice(idstr.lastIndexOf("/") + 1));
