// Sections of QEMU's whose state belongs to no device here: what is read is handed over, what is written is
// asked for. One section reads every version that the releases write and writes that of one of them.
import type { StateDefinition } from "../../state/schema.ts";
import { type Section, sectionOf } from "../../state/section.ts";
import { QemuStreamError, RELEASES } from "./qemu-releases.ts";

interface QemuSectionParts<T> {
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
