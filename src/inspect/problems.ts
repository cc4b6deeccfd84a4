// What can be wrong with a stream, and how it ends reading. Decoders and readers throw InspectError with a Problem;
// readStream turns it into the report's.
import { WherryError } from "../base/errors.ts";
import { hex } from "../base/hex.ts";
import type { Problem } from "./model.ts";

export class InspectError extends WherryError {
  readonly problem: Problem;
  constructor(problem: Problem, options?: { cause?: unknown }) {
    super(problem.code, problemText(problem), options);
    this.problem = problem;
  }
}

/** In one line: where, what, and what to do. */
export function problemText(problem: Problem): string {
  const at = problem.offset === undefined ? "" : ` at offset ${hex(problem.offset)}`;
  return `${problem.where}${at}: expected ${problem.expected}, found ${problem.found}; ${problem.cure}`;
}
