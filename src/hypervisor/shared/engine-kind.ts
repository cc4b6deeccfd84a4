// The engines that a VM can run its harts with, and which one it is if nobody says.

/** The translator has the interpreter in it, for all that is not hot. */
export type EngineKind = "interpreter" | "translator";

export const ENGINE_KINDS: readonly EngineKind[] = ["interpreter", "translator"];

export const DEFAULT_ENGINE: EngineKind = "translator";
