// The engines that can execute a VM's harts, and the default.

/** The translator includes the interpreter, which executes code that is not hot. */
export type EngineKind = "interpreter" | "translator";

export const ENGINE_KINDS: readonly EngineKind[] = ["interpreter", "translator"];

export const DEFAULT_ENGINE: EngineKind = "translator";
