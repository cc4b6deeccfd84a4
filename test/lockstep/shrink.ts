// Shrinks a program with a difference to few items: drops ever smaller runs of items while a difference
// remains. Also traces the judge up to the difference, instruction by instruction.
import { disassemble } from "../../src/hypervisor/isa/disassembler.ts";
import { type HarnessOptions, HartHarness, RAM_BASE } from "../support/hart-harness.ts";
import { RAM_SIZE, RAM_TOTAL } from "./layout.ts";
import { type Difference, Pair, type RunOptions, start } from "./lockstep.ts";
import { type LockstepProgram, programImage } from "./program.ts";

const ATTEMPTS = 400;

/** `kept` has the indexes of the remaining entries. */
export function shrink(
  program: LockstepProgram,
  options: RunOptions,
  tested: HarnessOptions,
  first: Difference,
): { kept: Set<number>; difference: Difference } {
  let kept = new Set(program.entries.keys());
  let difference = first;
  let attempts = 0;
  const fails = (without: readonly number[]): boolean => {
    attempts++;
    const rest = new Set(kept);
    for (const i of without) rest.delete(i);
    const found = new Pair(tested).run(program, { ...options, isKept: (i) => rest.has(i) });
    if (found === undefined) return false;
    kept = rest;
    difference = found;
    return true;
  };
  for (let size = Math.ceil(kept.size / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    const droppable = [...kept].filter((i) => program.entries[i]?.fixed !== true);
    for (let at = 0; at < droppable.length && attempts < ATTEMPTS; at += size)
      fails(droppable.slice(at, at + size));
  }
  return { kept, difference };
}

/** The judge's last instructions up to the end of the differing slice. */
export function trace(
  program: LockstepProgram,
  options: RunOptions,
  kept: ReadonlySet<number>,
  difference: Difference,
): string[] {
  const { ram } = programImage(program, (i) => kept.has(i));
  const hart = new HartHarness({ engine: "interpreter", ramSize: RAM_TOTAL });
  start(hart, program, ram);
  const lines: string[] = [];
  const end = Math.min(difference.equalSteps + difference.slice + 1, options.steps + difference.slice);
  for (let i = 0; i < end; i++) {
    const pc = hart.hart.get("pc");
    const place = Number(pc & BigInt(RAM_SIZE - 1));
    if (i >= end - 40) {
      const word = hart.view.getUint32(hart.offset(RAM_BASE) + place, true);
      lines.push(`${i} ${hart.hart.get("priv")} ${pc.toString(16)} ${disassemble(word, pc)}`);
    }
    hart.run(1);
  }
  return lines;
}
