// RESOLVE: a source that lost the connection after GO asks the destination's address for the outcome of the
// move. The request is "WHRY", be32 version, the move's id; the answer is "WHRY" and one byte. A destination
// that answers `abandoned` never runs the machine.
import { ByteWriter } from "../base/bytes.ts";
import type { Channel } from "./channel.ts";
import { StreamReader } from "./stream-reader.ts";
import { MOVE_ID_SIZE, RESOLVE_ANSWER, RESOLVE_MAGIC, RESOLVE_VERSION } from "./wire.ts";

export type ResolveAnswer = "running" | "abandoned" | "unknown";

const answers: Record<ResolveAnswer, number> = {
  running: RESOLVE_ANSWER.RUNNING,
  abandoned: RESOLVE_ANSWER.ABANDONED,
  unknown: RESOLVE_ANSWER.UNKNOWN,
};

/** The source's end. Rejects if no answer comes. */
export async function askResolve(channel: Channel, moveId: Uint8Array): Promise<ResolveAnswer> {
  await channel.write(new ByteWriter().u32(RESOLVE_MAGIC).u32(RESOLVE_VERSION).bytes(moveId).finish());
  const reader: StreamReader = new StreamReader(channel);
  reader.where = () => "answer to RESOLVE";
  await reader.need(5);
  const magic = reader.u32();
  const code = reader.u8();
  const answer = (Object.keys(answers) as ResolveAnswer[]).find((a) => answers[a] === code);
  if (magic !== RESOLVE_MAGIC || answer === undefined)
    reader.fail("migration.resolve", "not an answer to RESOLVE", 0);
  return answer;
}

/** The destination's end: reads a request whose magic is not read yet, and returns the move's id. */
export async function readResolve(reader: StreamReader): Promise<Uint8Array> {
  reader.where = () => "RESOLVE";
  await reader.need(8 + MOVE_ID_SIZE);
  reader.skip(4);
  const version = reader.u32();
  if (version !== RESOLVE_VERSION) {
    reader.fail("migration.resolve", `expected version ${RESOLVE_VERSION}, found ${version}`, 4);
  }
  return reader.bytes(MOVE_ID_SIZE).slice();
}

export function resolveMessage(answer: ResolveAnswer): Uint8Array {
  return new ByteWriter(8).u32(RESOLVE_MAGIC).u8(answers[answer]).finish();
}
