// Commands in a stream, each with a description. The grammar is src/stream/commands.ts. read-stream.ts reads
// the sections in a PACKAGED command's payload.
import { ByteReader } from "../../base/bytes.ts";
import { WherryError } from "../../base/errors.ts";
import { hex } from "../../base/hex.ts";
import { decodeUtf8 } from "../../base/text.ts";
import {
  decodePostcopyAdvise,
  decodeRamDiscard,
  readCommand as readGrammar,
  type StreamCommand,
} from "../../stream/commands.ts";
import { stop } from "../model/problems.ts";
import type { CommandReport } from "../model/stream-report.ts";
import type { Scan } from "./scan.ts";

const SHOWN_RANGES = 4;

/** Reads a command after its type byte, which is at `offset`. Stops at an unknown command or invalid data. */
export async function readCommand(scan: Scan, offset: number): Promise<CommandReport> {
  scan.where = "command";
  const read = await readGrammar(scan, offset);
  scan.where = `command ${read.name}`;
  try {
    const meaning = meaningOf(scan, read);
    return { offset, ...read, ...(meaning === undefined ? {} : { meaning }) };
  } catch (error) {
    if (!(error instanceof WherryError)) throw error;
    return stop("stream.command", scan.where, offset, "its arguments", error.message);
  }
}

function meaningOf({ facts }: Scan, { name, data }: StreamCommand): string | undefined {
  switch (name) {
    case "PING":
    case "PACKAGED": {
      const value = new ByteReader(data).u32();
      return name === "PING" ? `cookie ${hex(value)}` : `${value} bytes of sections`;
    }
    case "POSTCOPY_ADVISE": {
      const { pageSizes, targetPageSize } = decodePostcopyAdvise(data);
      facts.capabilities.add(targetPageSize === undefined ? "dirty-bitmaps" : "postcopy-ram");
      if (targetPageSize === undefined) return "dirty bitmaps only";
      facts.postcopyAdvised = true;
      facts.recordPageSize(targetPageSize);
      return `target pages of ${targetPageSize} bytes, host pages of ${(pageSizes ?? []).join(", ")}`;
    }
    case "POSTCOPY_RAM_DISCARD": {
      const { block, ranges } = decodeRamDiscard(data);
      const shown = ranges.slice(0, SHOWN_RANGES).map(({ start, length }) => `${hex(start)}+${hex(length)}`);
      const more = ranges.length > SHOWN_RANGES ? ` and ${ranges.length - SHOWN_RANGES} more` : "";
      return `${block} ${shown.join(" ")}${more}`;
    }
    case "RECV_BITMAP":
      return decodeUtf8(data.subarray(1, 1 + (data[0] ?? 0)));
    case "ENABLE_COLO":
      facts.capabilities.add("x-colo");
      return undefined;
    default:
      return undefined;
  }
}
