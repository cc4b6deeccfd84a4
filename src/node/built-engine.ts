// The engine as the build has made it (tools/bundle.ts).
import { readFileSync } from "node:fs";
import type { EngineParts } from "../hypervisor/interpreter/engine-parts.ts";
import type { EngineKind } from "../hypervisor/shared/engine-kind.ts";
import { bundled } from "./bundle.ts";

/** The bundle's files of an engine for a host with or without total store order. */
export function engineFiles(
  kind: EngineKind,
  hasTotalStoreOrder: boolean,
): Record<keyof EngineParts, string> {
  return { module: `${kind}-${hasTotalStoreOrder ? "tso" : "weak"}.wasm`, tables: "decode-tables.bin" };
}

/** Undefined if there is no bundle. */
export function builtEngine(kind: EngineKind, hasTotalStoreOrder: boolean): EngineParts | undefined {
  const { module, tables } = engineFiles(kind, hasTotalStoreOrder);
  const [moduleUrl, tablesUrl] = [bundled(module), bundled(tables)];
  if (moduleUrl === undefined || tablesUrl === undefined) return undefined;
  return { module: readFileSync(moduleUrl), tables: readFileSync(tablesUrl) };
}
