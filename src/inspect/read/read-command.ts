// Commands within a stream (MIG_CMD_* of QEMU's migration/savevm.c): a number, a length, data; what each says in words.
// The sections in a PACKAGED command's payload are read by the frame (stream.ts), like those around it.
import { ByteReader } from "../../base/bytes.ts";
import { WherryError } from "../../base/errors.ts";
import { hex } from "../../base/hex.ts";
import { decodeUtf8 } from "../../base/text.ts";
import { decodePostcopyAdvise, decodeRamDiscard } from "../../stream/postcopy.ts";
import { MIG_CMD } from "../../stream/wire.ts";
import type { CommandReport } from "../model/stream-report.ts";
import { stop } from "../model/problems.ts";
import type { Scan } from "./scan.ts";

const NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(MIG_CMD).map(([name, number]) => [number, name]),
);
const SHOWN_RANGES = 4;

/** After the type byte, which is at `offset`. Stops at a command that does not exist or has the wrong length. */
export async function readCommand(scan: Scan, offset: number): Promise<CommandReport> {
  scan.where = "command";
  await scan.need(4);
  const command = scan.cursor.u16();
  const length = scan.cursor.u16();
  const name = NAMES.get(command);
  if (name === undefined) stop("stream.command", "command", offset, "a command from 1 to 11", `${command}`);
  scan.where = `command ${name}`;
  await scan.need(length);
  const data = scan.cursor.take(length).slice();
  try {
    const meaning = meaningOf(scan, command, data);
    return { offset, command, name, data, ...(meaning === undefined ? {} : { meaning }) };
  } catch (error) {
    if (!(error instanceof WherryError)) throw error;
    return stop("stream.command", scan.where, offset, "its arguments", error.message);
  }
}

function meaningOf(scan: Scan, command: number, data: Uint8Array): string | undefined {
  switch (command) {
    case MIG_CMD.PING:
    case MIG_CMD.PACKAGED: {
      const value = new ByteReader(data).u32();
      return command === MIG_CMD.PING ? `cookie ${hex(value)}` : `${value} bytes of sections`;
    }
    case MIG_CMD.POSTCOPY_ADVISE: {
      const { pageSizes, targetPageSize } = decodePostcopyAdvise(data);
      scan.capabilities.add(targetPageSize === undefined ? "dirty-bitmaps" : "postcopy-ram");
      if (targetPageSize === undefined) return "dirty bitmaps only";
      scan.postcopyAdvised = true;
      scan.sayPageSize(targetPageSize);
      return `target pages of ${targetPageSize} bytes, host pages of ${(pageSizes ?? []).join(", ")}`;
    }
    case MIG_CMD.POSTCOPY_RAM_DISCARD: {
      const { block, ranges } = decodeRamDiscard(data);
      const shown = ranges.slice(0, SHOWN_RANGES).map(({ start, length }) => `${hex(start)}+${hex(length)}`);
      const more = ranges.length > SHOWN_RANGES ? ` and ${ranges.length - SHOWN_RANGES} more` : "";
      return `${block} ${shown.join(" ")}${more}`;
    }
    case MIG_CMD.RECV_BITMAP:
      return decodeUtf8(data.subarray(1, 1 + (data[0] ?? 0)));
    case MIG_CMD.ENABLE_COLO:
      scan.capabilities.add("x-colo");
      return undefined;
    default:
      if (data.length > 0) {
        throw new WherryError("inspect.command", `${data.length} bytes, none belong to it`);
      }
      return undefined;
  }
}
