// A QMP command: its name, the types of its arguments, and its function. One row of the monitor's table.
import type { JsonObject, JsonValue } from "./qmp-json.ts";
import { type ArgumentsOf, type Members, readMembers } from "./qapi.ts";

export interface QmpCommand {
  readonly name: string;
  /** Checks the arguments and runs. Throws (or rejects with) QmpError for a client's mistake. */
  readonly run: (args: JsonObject) => JsonValue | Promise<JsonValue>;
  /** Called after the success reply was sent. */
  readonly afterReply?: () => void;
}

export function command<const M extends Members>(
  name: string,
  members: M,
  run: (args: ArgumentsOf<M>) => JsonValue | Promise<JsonValue>,
): QmpCommand {
  return { name, run: (args) => run(readMembers(members, args)) };
}
