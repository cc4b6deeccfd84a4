// A section (QEMU's SaveStateEntry): the migration stream's interface to everything with state, and the one
// function that makes a section of a state definition. Loading is decode, validate, apply: `decode` throws
// before anything has changed, and returns a function that applies the state once the whole stream has been
// accepted.
import type { ByteReader, ByteWriter } from "../base/bytes.ts";
import type { StateDefinition } from "./definition.ts";

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

/** Names of the sections that only Wherry has begin so. No other program's stream has them. */
export const OWN_SECTIONS = "wherry/";

/** A part of the machine's state as a stream has it. */
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
  /** Older streams do not have it. */
  readonly isOptional?: boolean;
  /** False: it is only read. Default: true. */
  readonly isWritten?: boolean;
  encode(writer: ByteWriter): void;
  /** Reads exactly the section's bytes. Throws WherryError with the field's path. Changes nothing. */
  decode(reader: ByteReader, version: number): () => void;
  /** `fields` and `subsections` of QEMU's VMDESCRIPTION for the present state. */
  describe(): { fields: unknown[]; subsections?: unknown[] };
}

export interface SectionParts<T> {
  /** Default: the definition's name. */
  readonly idstr?: string;
  /** Default: 0. */
  readonly instanceId?: number;
  /** What is written. */
  readonly definition: StateDefinition<T>;
  /** Name of the state in the VMDESCRIPTION, if it is not the definition's. */
  readonly vmsdName?: string;
  /**
   * Which definition reads this version, where it is not always `definition`. Throws if none does, or not
   * now.
   */
  reads?(version: number): StateDefinition<T>;
  /** Versions that `reads` accepts. Default: those of the definition. */
  readonly versions?: { readonly minimum: number; readonly maximum: number };
  /** The state as it is now: written and described. */
  get(): T;
  /** Where the values of the definition's `known()` fields come from when a state is read. */
  readonly known?: T;
  /** Throws if the machine cannot take this state. Changes nothing. */
  check?(loaded: T, version: number): void;
  apply(loaded: T, version: number): void;
}

export function sectionOf<T>(parts: SectionParts<T>): Section {
  const { definition } = parts;
  const path = parts.idstr ?? definition.name;
  return {
    idstr: path,
    instanceId: parts.instanceId ?? 0,
    vmsdName: parts.vmsdName ?? definition.name,
    version: parts.versions?.maximum ?? definition.version,
    minimumVersion: parts.versions?.minimum ?? definition.minimumVersion,
    priority: definition.priority,
    encode: (writer) => definition.encode(parts.get(), writer, { path }),
    decode(reader, version) {
      const reads = parts.reads?.(version) ?? definition;
      const { known } = parts;
      const loaded = reads.decode(reader, version, { path, ...(known === undefined ? {} : { known }) });
      parts.check?.(loaded, version);
      return () => parts.apply(loaded, version);
    },
    describe() {
      const { fields, subsections } = definition.describe(parts.get());
      return { fields, ...(subsections === undefined ? {} : { subsections }) };
    },
  };
}

/**
 * A section of a state that stays the same object: a load is copied into it, then `afterLoad` rebuilds what
 * follows.
 */
export function stateSection<T>(
  definition: StateDefinition<T>,
  state: T,
  { afterLoad, ...ids }: Pick<SectionParts<T>, "idstr" | "instanceId"> & { afterLoad?: () => void } = {},
): Section {
  return sectionOf({
    ...ids,
    definition,
    get: () => state,
    known: state,
    apply(loaded) {
      definition.assign(state, loaded);
      afterLoad?.();
    },
  });
}
