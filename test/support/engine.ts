// The engine that tests run their harts with: WHERRY_ENGINE, or the hypervisor's own choice.
import { DEFAULT_ENGINE, ENGINE_KINDS, type EngineKind } from "../../src/hypervisor/shared/engine-kind.ts";

export const testEngine: EngineKind =
  ENGINE_KINDS.find((kind) => kind === process.env["WHERRY_ENGINE"]) ?? DEFAULT_ENGINE;
