// A section (QEMU's SaveStateEntry): the migration stream's interface to everything with state. Loading is
// decode, validate, apply: `decode` throws before anything has changed, and returns a function that applies
// the state once the whole stream has been accepted.
import type { ByteReader, ByteWriter } from "../base/bytes.ts";

/**
 * QEMU's MigrationPriority: sections are written from the highest to the lowest, equal ones in registration
 * order.
 */
export const MIG_PRI = {
  LOW: 1,
  DEFAULT: 2,
  IOMMU: 3,
  PCI_BUS: 4,
  VIRTIO_MEM: 5,
  APIC: 6,
  GICV3_ITS: 7,
  GICV3: 8,
} as const;

export interface Section {
  /**
   * Section name on the wire, such as `cpu`, `serial` or `virtio-mmio@0000000010008000/virtio-blk`. At most
   * 255 bytes.
   */
  readonly idstr: string;
  readonly instanceId: number;
  /** Name of the state definition (`vmsd_name` in the VMDESCRIPTION). */
  readonly vmsdName: string;
  readonly version: number;
  readonly minimumVersion: number;
  readonly priority: number;
  encode(writer: ByteWriter): void;
  /** Reads exactly the section's bytes. Throws WherryError with the field's path. Changes nothing. */
  decode(reader: ByteReader, version: number): () => void;
  /** `fields` and `subsections` of QEMU's VMDESCRIPTION for the present state. */
  describe(): { fields: unknown[]; subsections?: unknown[] };
}
