// The error of the migration layer: the section or RAM chunk, the place in the stream, what was expected and
// found, and the remedy.
import { WherryError } from "../base/errors.ts";
import { hex } from "../base/hex.ts";

/** Where in a stream an error is. */
export interface MigrationPlace {
  /**
   * The part of the stream, such as `section cpu/0` or `RAM chunk 3 (riscv_virt_board.ram 0x0..0x100000)`.
   */
  readonly where?: string;
  /** Bytes from the start of the stream (or file). */
  readonly offset?: number;
  readonly cause?: unknown;
}

/**
 * A stream that cannot be written or loaded. The message has the place, what was expected and found, and the
 * remedy.
 */
export class MigrationError extends WherryError {
  readonly where: string | undefined;
  readonly offset: number | undefined;

  constructor(code: string, message: string, place: MigrationPlace = {}) {
    const at = place.offset === undefined ? "" : ` at offset ${hex(place.offset)}`;
    const prefix = place.where === undefined ? "" : `${place.where}${at}: `;
    super(code, prefix + message, place.cause === undefined ? {} : { cause: place.cause });
    this.where = place.where;
    this.offset = place.offset;
  }
}

/** The remedy for a truncated or damaged stream. */
export const GET_ANOTHER_COPY = "the data is cut or damaged: use another copy, or save again";
