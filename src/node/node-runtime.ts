// What Node gives: time, randomness, and V8's compiler.
import { randomFillSync } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { setPriority } from "node:os";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import type { Clock } from "../base/clock.ts";

/** Monotonic and the same in all threads of all processes of this host: CLOCK_MONOTONIC. */
export function monotonicNs(): number {
  const [s, ns] = process.hrtime();
  return s * 1e9 + ns;
}

export function wallNs(): bigint {
  return BigInt(Date.now()) * 1_000_000n;
}

export const clock: Clock = { monotonicNs, wallNs };

export function randomBytes(length: number): Uint8Array<ArrayBuffer> {
  return randomFillSync(new Uint8Array(length));
}

/**
 * Sets V8 up for what Wherry compiles. Flags are the whole process's and count for modules that are compiled later, so
 * this comes before the first of them, the engine's. They change how fast WebAssembly runs, never what it does. Branch
 * hints (the custom section metadata.code.branch_hint) keep unlikely paths out of the way of likely ones. Nothing is
 * compiled lazily: the translation thread does it, not the hart that comes to it first.
 */
export function configureV8(): void {
  setFlagsFromString("--experimental-wasm-branch-hinting");
  setFlagsFromString("--no-wasm-lazy-compilation");
  setTieringBudget(true);
}

/**
 * How much the functions of modules compiled from now on execute before they are optimised: about bytes, V8's own
 * choice is 13,000,000. Most translated code is executed too little for that to pay, and the hot pages are translated
 * anew; what is known to be hot need not prove it again.
 */
export function setTieringBudget(isHot: boolean): void {
  setFlagsFromString(`--wasm-tiering-budget=${isHot ? 500_000 : 200_000_000}`);
}

/** How much the threads that translate and compile are to wait for those that run guests, as `nice` has it. */
const BACKGROUND_NICENESS = 10;

/**
 * Lets the translation thread and V8's own threads wait for the harts where there are too few cores for all: code that
 * is not translated yet runs, a hart without a core does not. Linux has a niceness for each thread; elsewhere, or if
 * it is not allowed, nothing changes.
 */
export function yieldToHarts(): void {
  try {
    for (const thread of readdirSync("/proc/self/task")) {
      const name = readFileSync(`/proc/self/task/${thread}/comm`, "latin1").trim();
      if (name === "V8Worker" || name === "translator") setPriority(Number(thread), BACKGROUND_NICENESS);
    }
  } catch {
    // A thread has ended meanwhile, or this is no Linux.
  }
}

let gc: (() => void) | undefined;

/** A full garbage collection of this thread, now. */
export function collectGarbage(): void {
  if (gc === undefined) {
    setFlagsFromString("--expose-gc");
    gc = runInNewContext("gc") as () => void;
  }
  gc();
}
