// Sections that QEMU writes before the others because their VMState description has a priority (MIG_PRI_*):
// an interrupt controller or an IOMMU that devices need when they load. Names from QEMU 7.2 to 11. `apic` is
// omitted: only newer releases give it a priority, and a stream does not state its release.
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
 * Looks up the description's name, or without one the end of the section's name; undefined for the default
 * priority.
 */
export const priorityOf = (idstr: string, vmsdName?: string): string | undefined =>
  PRIORITIES.get(vmsdName ?? idstr.slice(idstr.lastIndexOf("/") + 1));
