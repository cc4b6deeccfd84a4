// Whether this host's processor lets a load overtake an earlier store, and reorders nothing else: x86's total store order.
// WebAssembly has one fence for all, and V8 makes MFENCE of it, tens of cycles. Its compilers leave loads and stores of shared memory in
// their order (they may not drop or move what another thread sees), so on such a host most fences need no code at all.
// Only Node tells the architecture; a browser does not reliably, and counts as weakly ordered.

let known: boolean | undefined;

/** Loads are seen in order, stores are seen in order, and a store is not seen before a load that precedes it. */
export function hasTotalStoreOrder(): boolean {
  const { process } = globalThis as { process?: { arch?: string } };
  known ??= process?.arch === "x64" || process?.arch === "ia32";
  return known;
}
