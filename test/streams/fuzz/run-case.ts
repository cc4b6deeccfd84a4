// One case: the inspector reads its bytes, or a loader, or both. The board's seeds are long: they are the loader's most of
// the time.
import { loadDevices } from "./board.ts";
import { fuzzMachine } from "./machines.ts";
import type { Case } from "./mutate.ts";
import { inspect, load, refused } from "./targets.ts";

/** Cases that one board serves. */
const NEW_BOARD = 64;

/** Throws if something is found. */
export async function runCase({ index, bytes, seed }: Case): Promise<{ whole: boolean; loaded: boolean }> {
  const isBoard = seed.name.startsWith("board-");
  const report = isBoard && index % 8 !== 0 ? undefined : await inspect(bytes);
  let loaded = false;
  if (isBoard) loaded = !(await refused(loadDevices(bytes, index % NEW_BOARD === 0)));
  else if (seed.name.startsWith("own")) loaded = await load(bytes, fuzzMachine(false));
  else if (index % 2 === 0) loaded = await load(bytes, fuzzMachine(true));
  return { whole: report !== undefined && report.problem === undefined, loaded };
}
