// Sections whose state belongs to no device here: what is read is handed over, what is written is asked for. One section
// reads every version that the releases write and writes that of one of them.
import type { ByteReader } from "../../base/bytes.ts";
import type { StateDefinition } from "../../state/schema.ts";
import { MIG_PRI, type Section } from "../../state/section.ts";
import { RELEASES, TradeError } from "./qemu-releases.ts";

interface ForeignSectionParts<T> {
  readonly idstr: string;
  readonly instanceId?: number;
  /** Of each version that is read; the last one is written. */
  readonly definitions: readonly StateDefinition<T>[];
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
  const written = definitions.at(-1) as StateDefinition<T>;
  const versions = definitions.map((d) => d.version);
  const state = (): T => parts.get?.() ?? written.create();
  return {
    idstr,
    instanceId,
    vmsdName: written.name,
    version: Math.max(...versions),
    minimumVersion: Math.min(...definitions.map((d) => d.minimumVersion)),
    priority: MIG_PRI.DEFAULT,
    encode: (writer) => written.encode(state(), writer, { path: idstr }),
    decode(reader: ByteReader, version: number) {
      parts.before?.();
      const definition = definitions.find((d) => version >= d.minimumVersion && version <= d.version);
      if (definition === undefined) {
        const read = RELEASES.map((r) => r.name.replace("qemu-", "")).join(", ");
        throw new TradeError(
          "trade.version",
          `${idstr}: version ${version} is of another release of QEMU, read are ${[...versions].sort((x, y) => x - y).join(", ")} (QEMU ${read})`,
        );
      }
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
