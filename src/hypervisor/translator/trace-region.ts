// A listing of translated guest code: each guest instruction beside its WebAssembly. The region is found and
// translated again from what is in memory, so this also works with the interpreter; nothing is executed.
import { hex } from "../../base/hex.ts";
import { functionText } from "../../wasm/wasm-text.ts";
import { disassemble } from "../isa/disassembler.ts";
import { findRegion, PAGE_SIZE, type Profile } from "./region.ts";
import { translateRegion } from "./region-translator.ts";

const PARAMETERS = ["hart", "context", "countdown", "pc", "entry"];
const ASSEMBLY_WIDTH = 46;
/** Blocks are deeply nested; the text should stay on the screen. */
const MAX_INDENT = 24;

export interface TraceOptions {
  /** Limits the region to code that has been reached; without it, all reachable code is included. */
  readonly profile?: Profile | undefined;
  /** As under --icount. */
  readonly exact?: boolean;
  readonly hasTotalStoreOrder?: boolean;
}

/**
 * The region that is entered at byte `offset` of the page at host address `page`; `virtualPage` is the page's
 * guest-virtual address.
 */
export function traceRegion(
  view: DataView<SharedArrayBuffer>,
  page: number,
  offset: number,
  virtualPage: bigint,
  { profile, exact = false, hasTotalStoreOrder = false }: TraceOptions = {},
): string {
  const region = findRegion(view, page, offset, profile);
  const address = (at: number): string => hex(BigInt.asUintN(64, virtualPage + BigInt(at)));
  const instructions = new Map(
    region.blocks.flatMap((block) => block.instructions.map((one) => [one.offset, one] as const)),
  );
  const starts = new Set(region.blocks.map((block) => block.start));
  const lines: string[] = [];
  let current: number | undefined;
  for (const { note, depth, text } of functionText(
    translateRegion("region", region, { exact, hasTotalStoreOrder }),
    PARAMETERS,
  )) {
    let left = "";
    if (note !== current) {
      current = note;
      const instruction = note === undefined ? undefined : instructions.get(note);
      if (instruction === undefined) lines.push("; the ways out");
      else {
        const at = instruction.offset;
        if (starts.has(at))
          lines.push(
            `; ${address(at)}${entryMark(
              region.entries.map((b) => b.start),
              at,
            )}`,
          );
        const assembly = disassemble(instruction.bits, BigInt.asUintN(64, virtualPage + BigInt(at)));
        left = `${at.toString(16).padStart(3, "0")}  ${assembly}`;
      }
    }
    lines.push(`${left.padEnd(ASSEMBLY_WIDTH)}${" ".repeat(Math.min(depth, MAX_INDENT))}${text}`);
  }
  return [
    `; region at ${address(offset)}: ${instructions.size} instructions in ${region.blocks.length} blocks, ${region.entries.length} entries`,
    ...lines,
    "",
  ].join("\n");
}

function entryMark(entries: readonly number[], offset: number): string {
  const number = entries.indexOf(offset);
  return number < 0 ? "" : `, entry ${number}`;
}

/** The page of a host address, and the byte offset in it. */
export function pageOf(hva: number): { page: number; offset: number } {
  const offset = hva % PAGE_SIZE;
  return { page: hva - offset, offset };
}
