// Privilege modes (privileged specification, 1.2). Harts here have no hypervisor extension: 2 is reserved.

export const PRIV = { U: 0, S: 1, M: 3 } as const;

/** By number. */
export const PRIVILEGE_NAMES: readonly (string | undefined)[] = ["U", "S", undefined, "M"];

export const PRIVILEGES = "0 (U), 1 (S) or 3 (M)";
export const isPrivilege = (p: number | bigint): boolean => PRIVILEGE_NAMES[Number(p)] !== undefined;
