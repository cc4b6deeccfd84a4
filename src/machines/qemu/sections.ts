// Sections whose state belongs to no device here: what is read is handed over, what is written is asked for. One section
// reads every version that the releases write and writes that of one of them.
import type { ByteReader } from "../../base/bytes.ts";
import type { StateDefinition } from "../../state/schema.ts";
import { MIG_PRI, type Section } from "../../vmm/section.ts";

interface ForeignSectionParts<T> {
  readonly idstr: string;
  readonly instanceId?: number;
  /** Of each version that is read, the last one of which the messages name as the newest. */
  readonly definitions: readonly StateDefinition<T>[];
  /** The one that is written. Default: the last. */
  readonly written?: StateDefinition<T>;
  /** What is written. */
  get?(): T;
  /** Throws if the section cannot be read now. */
  before?(): void;
  /** Throws if a state of that version cannot be taken. Changes nothing. */
  check?(state: T, version: number): void;
  take(state: T, version: number): void;
}

export function foreignSection<T>(parts: ForeignSectionParts<T>): Section {
  const { idstr, instanceId = 0, definitions } = parts;
  const written = parts.written ?? (definitions.at(-1) as StateDefinition<T>);
  const versions = definitions.map((d) => d.version);
  const state = (): T => parts.get?.() ?? written.create();
  return {
    idstr,
    instanceId,
    vmsdName: written.name,
    version: parts.written === undefined ? Math.max(...versions) : written.version,
    minimumVersion: Math.min(...definitions.map((d) => d.minimumVersion)),
    priority: MIG_PRI.DEFAULT,
    encode: (writer) => written.encode(state(), writer, { path: idstr }),
    decode(reader: ByteReader, version: number) {
      parts.before?.();
      const definition =
        definitions.find((d) => version >= d.minimumVersion && version <= d.version) ??
        (definitions.at(-1) as StateDefinition<T>);
      const decoded = definition.decode(reader, version, { path: idstr });
      parts.check?.(decoded, version);
      return () => parts.take(decoded, version);
    },
    describe() {
      const { fields, subsections } = written.describe(state());
      return { fields, ...(subsections === undefined ? {} : { subsections }) };
    },
  };
}
