// Node's services: time, randomness, and V8's compiler.
import { randomFillSync } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { setPriority } from "node:os";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import type { Clock, MonotonicNs } from "../base/clock.ts";
import { runtimeGlobals } from "../base/runtime-globals.ts";
import { monotonicSince, timeOrigin } from "../base/shared-clock.ts";

/** True in Node; Bun and Deno have its interfaces too. */
const isNode = process.versions["bun"] === undefined && runtimeGlobals.Deno === undefined;

/**
 * The clock of the VMM's thread, whose timeOrigin is `originMs`, in any of its threads. In Node this is
 * CLOCK_MONOTONIC, the same in all threads of all processes of this host. In Bun and Deno, `process.hrtime`
 * starts at zero in each thread.
 */
export const monotonicOf = (originMs: number): MonotonicNs => (isNode ? hrtimeNs : monotonicSince(originMs));

function hrtimeNs(): number {
  const [s, ns] = process.hrtime();
  return s * 1e9 + ns;
}

export function wallNs(): bigint {
  return BigInt(Date.now()) * 1_000_000n;
}

export const clock: Clock = { monotonicNs: monotonicOf(timeOrigin), wallNs };

export function randomBytes(length: number): Uint8Array<ArrayBuffer> {
  return randomFillSync(new Uint8Array(length));
}

/**
 * Configures V8 for Wherry's modules. Flags apply to the whole process and to modules compiled later, so this
 * must run before the first module, the engine, is compiled. They change only the speed of WebAssembly.
 * Branch hints (the custom section metadata.code.branch_hint) place unlikely paths out of line. Nothing is
 * compiled lazily: the translation thread compiles, not the hart that calls first.
 */
export function configureV8(): void {
  setFlagsFromString("--experimental-wasm-branch-hinting");
  setFlagsFromString("--no-wasm-lazy-compilation");
  setTieringBudget(true);
}

/**
 * How much a function of a module compiled from now on executes before V8 optimises it, in about bytes; V8's
 * default is 13,000,000. Most translated code executes too little for optimisation to pay off, and hot pages
 * are translated again: known hot code gets a small budget.
 */
export function setTieringBudget(isHot: boolean): void {
  setFlagsFromString(`--wasm-tiering-budget=${isHot ? 500_000 : 200_000_000}`);
}

/** The niceness of the threads that translate and compile, relative to the threads that run guests. */
const BACKGROUND_NICENESS = 10;

/**
 * Makes the translation thread and V8's threads yield to the harts if there are too few cores: untranslated
 * code still runs, a hart without a core does not. Linux has a niceness for each thread; elsewhere, or
 * without permission, this has no effect.
 */
export function yieldToHarts(): void {
  try {
    for (const thread of readdirSync("/proc/self/task")) {
      const name = readFileSync(`/proc/self/task/${thread}/comm`, "latin1").trim();
      if (name === "V8Worker" || name === "translator") setPriority(Number(thread), BACKGROUND_NICENESS);
    }
  } catch {
    // A thread has just ended, or this is not Linux.
  }
}

let gc: (() => void) | undefined;

/** Runs a full garbage collection in this thread. */
export function collectGarbage(): void {
  if (gc === undefined) {
    setFlagsFromString("--expose-gc");
    gc = runInNewContext("gc") as () => void;
  }
  gc();
}
