// --engine and --threshold of the oracles: the engine to judge, and how often code is executed before the
// translator translates it synchronously. With 0, all code that can be translated is.
import { ENGINE_KINDS, type EngineKind } from "../../src/hypervisor/shared/engine-kind.ts";
import { testEngine } from "../support/engine.ts";

export const engineOptions = {
  engine: { type: "string", default: testEngine },
  threshold: { type: "string", default: "0" },
} as const;

/** Throws on an unknown engine. */
export function engineOf(values: { readonly engine: string; readonly threshold: string }): {
  readonly engine: EngineKind;
  readonly threshold: number;
} {
  const engine = ENGINE_KINDS.find((kind) => kind === values.engine);
  if (engine === undefined) throw new Error(`--engine is ${ENGINE_KINDS.join(" or ")}, not ${values.engine}`);
  return { engine, threshold: Number(values.threshold) };
}
