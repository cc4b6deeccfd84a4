// The kernel's code and the initial contents of its data page (kernel.s).
import { readFileSync } from "node:fs";
import { assemble, flatBinary } from "../../src/asm/assembler.ts";
import { RAM_BASE } from "../support/hart-harness.ts";
import { COPY, DATA, KERNEL_DATA } from "./layout.ts";
import type { Space } from "./spaces.ts";

let assembled: { code: Uint8Array; labels: ReadonlyMap<string, bigint> } | undefined;

function kernel(): { code: Uint8Array; labels: ReadonlyMap<string, bigint> } {
  if (assembled === undefined) {
    const url = new URL("./kernel.s", import.meta.url);
    const result = assemble([{ name: "kernel.s", text: readFileSync(url, "utf8") }], { base: RAM_BASE });
    assembled = { code: flatBinary(result), labels: result.symbols };
    if (assembled.code.length > KERNEL_DATA) throw new RangeError("the kernel's code reaches into its data");
  }
  return assembled;
}

/** The place of a label of the kernel. */
export const kernelPlace = (label: string): number => Number((kernel().labels.get(label) ?? 0n) - RAM_BASE);

export interface KernelData {
  readonly coin: bigint;
  readonly landing: number;
  /** PTE flags of a repaired page: code and data of S-mode, then of U-mode. */
  readonly good: readonly bigint[];
  readonly medeleg: bigint;
  readonly mideleg: bigint;
  readonly spaces: readonly Space[];
}

/** Entry 0 is for no translation; the last entries repeat. */
const SPACE_ENTRIES = 8;
const SPACE_ENTRY_SIZE = 32;

export function writeKernel(ram: DataView<ArrayBuffer>, data: KernelData): void {
  new Uint8Array(ram.buffer).set(kernel().code);
  const set = (offset: number, value: bigint): void => ram.setBigUint64(KERNEL_DATA + offset, value, true);
  set(DATA.coin, data.coin);
  set(DATA.landing, BigInt(data.landing));
  for (const [i, flags] of data.good.entries()) set(DATA.good + 8 * i, flags);
  set(DATA.medeleg, data.medeleg);
  set(DATA.mideleg, data.mideleg);
  set(DATA.spaces + 8, RAM_BASE);
  for (let i = 1; i < SPACE_ENTRIES; i++) {
    const space = data.spaces[(i - 1) % data.spaces.length] as Space;
    const at = DATA.spaces + i * SPACE_ENTRY_SIZE;
    set(at, space.satp);
    set(at + 8, space.window);
    set(at + 16, BigInt(space.leaves));
    set(at + 24, space.hasCopy ? BigInt(COPY) : 0n);
  }
}
