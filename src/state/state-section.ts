// A section from a state definition, for devices and harts whose state has a schema. A load does not change
// the state before the whole stream has been accepted.
import type { ByteReader, ByteWriter } from "../base/bytes.ts";
import type { StateDefinition } from "./schema.ts";
import type { Section } from "./section.ts";

/** `afterLoad` rebuilds caches of the state; it runs after the state has been replaced. */
export interface LoadHooks {
  readonly afterLoad?: () => void;
}

/** `state` remains the same object: a load copies into it. */
export function stateSection<T>(
  definition: StateDefinition<T>,
  { idstr, instanceId }: { readonly idstr: string; readonly instanceId: number },
  state: T,
  { afterLoad }: LoadHooks = {},
): Section {
  return {
    idstr,
    instanceId,
    vmsdName: definition.name,
    version: definition.version,
    minimumVersion: definition.minimumVersion,
    priority: definition.priority,
    encode: (writer: ByteWriter) => definition.encode(state, writer, { path: idstr }),
    decode(reader: ByteReader, version: number) {
      const loaded = definition.decode(reader, version, { path: idstr, known: state });
      return () => {
        definition.assign(state, loaded);
        afterLoad?.();
      };
    },
    describe() {
      const { fields, subsections } = definition.describe(state);
      return { fields, ...(subsections === undefined ? {} : { subsections }) };
    },
  };
}
