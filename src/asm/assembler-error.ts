// The assembler's error: a mistake in a source text and its place.
import { WherryError } from "../base/errors.ts";

/** `message` starts with `file:line:`. */
export class AsmError extends WherryError {
  constructor(place: string, message: string) {
    super("asm.source", `${place}: ${message}`);
  }
}
