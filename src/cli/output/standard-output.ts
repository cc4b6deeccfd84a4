// Standard output of any length: pieces are collected into writes of some size, so that neither a string nor
// the write queue grows with the output.
import { once } from "node:events";
import { jsonPieces } from "../../inspect/show/report-json.ts";

const BATCH_CHARS = 64 * 1024;

/** Writes all pieces, as fast as the reader takes them. */
export async function writePieces(
  pieces: Iterable<string>,
  stream: NodeJS.WritableStream = process.stdout,
): Promise<void> {
  let batch = "";
  const flush = async () => {
    if (!stream.write(batch)) await once(stream, "drain");
    batch = "";
  };
  for (const piece of pieces) {
    batch += piece;
    if (batch.length >= BATCH_CHARS) await flush();
  }
  if (batch !== "") await flush();
}

export function writeLines(lines: Iterable<string>): Promise<void> {
  return writePieces(ended(lines));
}

function* ended(lines: Iterable<string>): Generator<string> {
  for (const line of lines) yield `${line}\n`;
}

export function writeJson(value: unknown): Promise<void> {
  return writePieces(
    (function* () {
      yield* jsonPieces(value);
      yield "\n";
    })(),
  );
}
