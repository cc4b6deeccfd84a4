// The engines that a VM can run its harts with, and which one it is if nobody says.

/** The translator has the interpreter in it, for all that is not hot. */
export const ENGINE_KINDS = ["interpreter", "translator"] as const;
export type EngineKind = (typeof ENGINE_KINDS)[number];

export const DEFAULT_ENGINE: EngineKind = "translator";
