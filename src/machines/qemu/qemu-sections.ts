// QEMU sections whose state belongs to no single device here: `take` receives what is read, `get`
// supplies what is written. One section reads the versions of all releases and writes that of one.
import type { StateDefinition } from "../../state/schema.ts";
import { type Section, sectionOf } from "../../state/section.ts";
import { QemuStreamError, RELEASES } from "./qemu-releases.ts";

interface QemuSectionParts<T> {
  readonly idstr: string;
  readonly instanceId?: number;
  /** Definitions of all versions that are read; the last one is written. */
  readonly definitions: readonly StateDefinition<T>[];
  /** The state to write. */
  get?(): T;
  /** Throws if the section cannot be read yet. */
  before?(): void;
  /** Throws if a state of this version cannot be accepted. Changes nothing. */
  check?(state: T, version: number): void;
  take(state: T, version: number): void;
}

export function qemuSection<T>(parts: QemuSectionParts<T>): Section {
  const { idstr, instanceId = 0, definitions } = parts;
  const written = definitions.at(-1) as StateDefinition<T>;
  const versions = definitions.map((d) => d.version);
  return sectionOf({
    idstr,
    instanceId,
    definition: written,
    versions: {
      minimum: Math.min(...definitions.map((d) => d.minimumVersion)),
      maximum: Math.max(...versions),
    },
    get: () => parts.get?.() ?? written.create(),
    reads(version) {
      parts.before?.();
      const definition = definitions.find((d) => version >= d.minimumVersion && version <= d.version);
      if (definition !== undefined) return definition;
      const read = RELEASES.map((r) => r.name.replace("qemu-", "")).join(", ");
      throw new QemuStreamError(
        "qemu.version",
        `${idstr}: version ${version} is of another release of QEMU, read are ${[...versions].sort((x, y) => x - y).join(", ")} (QEMU ${read})`,
      );
    },
    check: (state, version) => parts.check?.(state, version),
    apply: (state, version) => parts.take(state, version),
  });
}
