// One case: the inspector reads its bytes, or a loader, or both. The small machine knows only the synthesised
// seeds. The board's seeds are long: mostly the loader reads them.
import type { StreamReport } from "../../../src/inspect/model/stream-report.ts";
import { bytesSource } from "../../../src/inspect/read/byte-source.ts";
import { readStream } from "../../../src/inspect/read/read-stream.ts";
import { loadDevices } from "./board.ts";
import { fuzzMachine, loadMultifd } from "./machines.ts";
import type { Case } from "./mutate.ts";
import type { Seed } from "./seed.ts";
import { inspect, load, refused, show } from "./targets.ts";

const PIECES = [1, 3, 100, 1000];
const LARGE_PIECE = 5000;
const SHORT = 2000;
/** One of so many cases runs everything that is made from reports. */
const SHOWN = 16;
/** Cases per board. */
const NEW_BOARD = 64;

const reports = new WeakMap<Seed, StreamReport>();
async function seedReport(seed: Seed): Promise<StreamReport> {
  const report = reports.get(seed) ?? (await readStream(bytesSource(seed.bytes)));
  reports.set(seed, report);
  return report;
}

/** Throws a finding. */
export async function runCase({ index, bytes, seed }: Case): Promise<{ whole: boolean; loaded: boolean }> {
  if (seed.name === "multifd-channel") return { whole: false, loaded: !(await refused(loadMultifd(bytes))) };
  // Short streams may arrive byte by byte.
  const piece = bytes.length < SHORT ? (PIECES[index % PIECES.length] ?? 1) : LARGE_PIECE;
  const isBoard = seed.name.startsWith("board-");
  const report =
    isBoard && index % SHOWN !== 0 ? undefined : await inspect(bytes, index % 4 === 1 ? piece : undefined);
  if (report !== undefined && index % SHOWN === 0) show(report, await seedReport(seed));
  let loaded = false;
  if (isBoard) loaded = !(await refused(loadDevices(bytes, index % NEW_BOARD === 0)));
  else if (seed.name.startsWith("own")) loaded = await load(bytes, fuzzMachine(false));
  else if (!seed.name.endsWith(".stream"))
    loaded = await load(bytes, fuzzMachine(true), index % 8 === 0 ? piece : undefined);
  return { whole: report !== undefined && report.problem === undefined, loaded };
}
