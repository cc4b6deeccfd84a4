// The engines that can run a VM's harts, and the default.

/** The translator has the interpreter in it, for all that is not hot. */
export type EngineKind = "interpreter" | "translator";

export const ENGINE_KINDS: readonly EngineKind[] = ["interpreter", "translator"];

export const DEFAULT_ENGINE: EngineKind = "translator";
