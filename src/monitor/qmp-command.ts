// A QMP command: its name, the types of its arguments and of its result, and its function. One row of the
// monitor's table, which query-commands and query-qmp-schema list.
import type { JsonObject, JsonValue } from "./qmp-json.ts";
import { type ArgumentsOf, type Members, readMembers, struct, type Type } from "./qapi.ts";

export interface QmpCommand {
  readonly name: string;
  readonly members: Members;
  readonly returns: Type<unknown>;
  /** Checks the arguments and runs. Throws (or rejects with) QmpError for a client's mistake. */
  readonly run: (args: JsonObject) => JsonValue | Promise<JsonValue>;
  /** Called after the success reply was sent. */
  readonly afterReply?: () => void;
}

/** What a command without a result returns: {}. */
export const nothing = struct({});

export function command<const M extends Members>(
  name: string,
  members: M,
  returns: Type<unknown>,
  run: (args: ArgumentsOf<M>) => JsonValue | Promise<JsonValue>,
): QmpCommand {
  return { name, members, returns, run: (args) => run(readMembers(members, args)) };
}

/** A command without a result. */
export function action<const M extends Members>(
  name: string,
  members: M,
  run: (args: ArgumentsOf<M>) => void | Promise<void>,
): QmpCommand {
  return command(name, members, nothing, async (args) => {
    await run(args);
    return {};
  });
}
