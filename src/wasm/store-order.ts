// Whether the host processor reorders only a store with a later load: x86's total store order. WebAssembly
// has a single kind of fence, which V8 compiles to MFENCE; V8 keeps loads and stores in program order, so on
// such a host most guest fences need no code (docs/decisions/0013-fences-and-posted-interrupts.md). Only Node
// reports the architecture reliably; a browser counts as weakly ordered.

let known: boolean | undefined;

/**
 * True if loads are ordered with loads, stores with stores, and a store is not visible before an earlier
 * load.
 */
export function hasTotalStoreOrder(): boolean {
  const { process } = globalThis as { process?: { arch?: string } };
  known ??= process?.arch === "x64" || process?.arch === "ia32";
  return known;
}
