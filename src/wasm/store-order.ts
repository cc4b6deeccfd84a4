// Whether this host's processor lets a load overtake an earlier store, and reorders nothing else: x86's total store
// order. WebAssembly has one fence for all, which V8 makes an MFENCE; V8 keeps loads and stores in their order, so on
// such a host most of a guest's fences need no code (docs/decisions/0013-fences-and-posted-interrupts.md).
// Only Node tells the architecture; a browser does not reliably, and counts as weakly ordered.

let known: boolean | undefined;

/** Loads are seen in order, stores are seen in order, and a store is not seen before a load that precedes it. */
export function hasTotalStoreOrder(): boolean {
  const { process } = globalThis as { process?: { arch?: string } };
  known ??= process?.arch === "x64" || process?.arch === "ia32";
  return known;
}
